from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.datasets.patterns import Pattern, escaped
from ltbench.errors import LtbenchError

NAMES = st.text(st.characters(exclude_characters="/\\\x00:", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name.strip(".") != ""
)


def test_a_path_that_fits_gives_the_names_in_braces() -> None:
    pattern = Pattern("{category}/test/{defect}/{stem}_mask")
    assert pattern.match("bolt/test/a.b/x.y_mask.PNG") == {"category": "bolt", "defect": "a.b", "stem": "x.y"}
    for other in ("bolt/test/x_mask.png", "bolt/test/a/b/x_mask.png", "bolt/test/a/x.png", "bolt/test/a/x_mask.txt"):
        assert pattern.match(other) is None


def test_a_suffix_is_taken_in_any_case_and_alone() -> None:
    pattern = Pattern("{stem}.jpg")
    assert pattern.match("a.JPG") == {"stem": "a"}
    assert pattern.match("a.jpeg") is None
    assert Pattern("{stem}").match("a.tiff") == {"stem": "a"}


def test_wildcards_stay_within_a_name() -> None:
    pattern = Pattern("{item:kos[0-2]?}/{stem}")
    assert pattern.match("kos19/Part1.jpg") == {"item": "kos19", "stem": "Part1"}
    assert pattern.match("kos39/Part1.jpg") is None
    assert Pattern("*/{stem}").match("a/b/c.png") is None
    assert Pattern("[!a]/{stem}").match("b/c.png") is not None
    assert Pattern("[!a]/{stem}").match("a/c.png") is None


def test_a_name_given_twice_is_one_text() -> None:
    pattern = Pattern("{category}/{category}/{stem}")
    assert pattern.match("a/a/x.png") is not None
    assert pattern.match("a/b/x.png") is None


def test_the_area_and_the_category_of_files_that_do_not_fit() -> None:
    pattern = Pattern("{category}/train/good/{stem}")
    assert pattern.covers("bolt/train/bad/x.png") and not pattern.covers("bolt/test/x.png")
    assert pattern.category("bolt/x.png") == "bolt"
    assert pattern.category("x.png") is None
    assert pattern.covers("bolt/train/a\nb.png") and Pattern("{stem}").match("a\nb.png")
    assert Pattern("*/val").holds("bolt/val/good/x.png") and not Pattern("*/val").holds("bolt/value/x.png")


@pytest.mark.parametrize(
    "text", ["../{stem}", "/{stem}", "a{/{stem}", "[z-a]/{stem}", "{stem}}", "{Category}/{stem}", "a\\{stem}"]
)
def test_a_pattern_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(LtbenchError, match=r"Expected a path"):
        Pattern(text)


@given(NAMES, NAMES)
def test_an_escaped_name_stands_for_itself_alone(name: str, other: str) -> None:
    pattern = Pattern(f"{escaped(name)}/{{stem}}")
    assert pattern.match(f"{name}/x.png") is not None
    assert (pattern.match(f"{other}/x.png") is not None) == (name == other)
