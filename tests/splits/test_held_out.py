"""Training images that are kept aside: a part of the split's name and identity, drawn without a look at labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.core import Split, TrainImages
from ltbench.datasets.index import load_dataset
from ltbench.errors import DataError, SpecError
from ltbench.splits.files import find_split, read_split, write_split
from ltbench.splits.held_out import held_out, hold_out, parse_percent, without_suffix


def _split(normal: int, contaminant: int, seed: int = 0) -> Split:
    images = TrainImages(
        tuple(f"a/train/good/{i}.png" for i in range(normal)), tuple(f"a/test/bad/{i}.png" for i in range(contaminant))
    )
    tail = TrainImages(("b/train/good/0.png",))
    return Split(
        "d_k1", "d", {"profile": "k"}, seed, ("a",), ("b",), {"a": images, "b": tail}, {"a": ("x",), "b": ("y",)}
    )


@given(st.integers(8, 60), st.integers(0, 9), st.integers(13, 50), st.integers(0, 5))
def test_a_share_is_kept_aside_and_the_rest_trains(normal: int, contaminant: int, percent: int, seed: int) -> None:
    whole = _split(normal, contaminant, seed)
    try:
        left = hold_out(whole, percent)
    except DataError:  # all normal images were drawn
        return
    aside = set(held_out(left)["a"])
    before, after = ({*own.train["a"].normal, *own.train["a"].contaminant} for own in (whole, left))
    assert len(aside) == len(before) * percent // 100
    assert aside | after == before
    assert not aside & after
    assert left.train["b"] == whole.train["b"], "no percentage of one image is an image"
    assert (left.high, left.low, left.test) == (whole.high, whole.low, whole.test)
    assert left.name == f"d_k1_heldout{percent}"
    assert left.sha256 != whole.sha256


def test_contaminants_are_kept_aside_as_good_images_are() -> None:
    assert any(path.startswith("a/test/") for path in held_out(hold_out(_split(30, 30), 50))["a"])


def test_the_name_says_it_all(parts: Path, tmp_path: Path) -> None:
    dataset = load_dataset("parts", parts)
    found = find_split("parts_step2_heldout25", lambda _: dataset, [tmp_path])
    assert found == hold_out(find_split("parts_step2", lambda _: dataset, [tmp_path]), 25)
    assert {category: len(paths) for category, paths in held_out(found).items()} == {"bolt": 2, "nut": 1}
    write_split(found, tmp_path)
    assert find_split("parts_step2_heldout25", lambda _: dataset, [tmp_path]) == found
    assert read_split(tmp_path / "parts" / "parts_step2_heldout25.json") == found


def test_suffixes() -> None:
    assert without_suffix("d_step20_heldout10") == ("d_step20", 10)
    assert without_suffix("d_heldout_step20") == ("d_heldout_step20", 0)


@pytest.mark.parametrize(
    ("split", "percent", "message"),
    [
        (_split(20, 0), 0, "1 to 50 percent"),
        (_split(20, 0), 51, "1 to 50 percent"),
        (_split(4, 0), 10, "Raise the percentage"),
        (hold_out(_split(20, 0), 10), 10, "with all its training images"),
    ],
)
def test_what_cannot_be_kept_aside(split: Split, percent: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        hold_out(split, percent)


def test_percentages() -> None:
    assert [parse_percent(text) for text in (None, "10%", "10")] == [0, 10, 10]
    for text in ("", "%", "0%", "51%", "-5%", "ten", "1.5%", "9" * 30):
        with pytest.raises(SpecError, match="--calibrate"):
            parse_percent(text)
