"""Three readings of a noisy split: names, identities, and what each leaves as it is."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from ltbench.core import Dataset, Split
from ltbench.datasets.index import load_dataset
from ltbench.errors import DataError, SpecError, UnknownNameError
from ltbench.figures.trend_lines import _rest
from ltbench.splits.files import find_split, read_split, write_split
from ltbench.splits.held_out import hold_out
from ltbench.splits.importers import import_list
from ltbench.splits.readings import READINGS, is_self_excluded, reading_asked
from ltbench.splits.recipe import parse_name
from ltbench.tables.measurements import base_name
from ltbench.tables.settings import contaminants_of, recipe_of
from tests.conftest import Run

NAME = "parts_step2_noisy25_selfexcluded_seed1"


@pytest.fixture
def dataset(parts: Path) -> Dataset:
    return load_dataset("parts", parts)


def _found(dataset: Dataset, reading: str, folder: Path) -> Split:
    middle = "" if reading == "overlap" else f"_{reading}"
    return find_split(f"parts_step2_noisy25{middle}_seed1", lambda _: dataset, [folder])


def test_all_train_on_the_same_images(dataset: Dataset, tmp_path: Path) -> None:
    overlap, disjoint, own = (_found(dataset, reading, tmp_path) for reading in READINGS)
    assert overlap.train == disjoint.train == own.train
    assert own.test == overlap.test != disjoint.test
    assert len({split.sha256 for split in (overlap, disjoint, own)}) == 3
    assert [is_self_excluded(split) for split in (overlap, disjoint, own)] == [False, False, True]
    assert own.recipe == {**overlap.recipe, "self_excluded": True}
    assert "self_excluded" not in overlap.recipe, "splits of before keep their sha256"


def test_the_name_says_it_and_the_file_keeps_it(dataset: Dataset, tmp_path: Path) -> None:
    recipe = parse_name(NAME)
    assert (recipe.reading, recipe.name) == ("selfexcluded", NAME)
    split = find_split(NAME, lambda _: dataset, [tmp_path])
    write_split(split, tmp_path)
    assert is_self_excluded(read_split(tmp_path / "parts" / f"{NAME}.json"))
    left = find_split(f"{NAME}_heldout25", lambda _: dataset, [tmp_path])
    assert left == hold_out(split, 25)
    assert is_self_excluded(left)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("parts_step2_selfexcluded", "Expected contaminants beside 'selfexcluded', got none"),
        ("parts_step2_noisy25_selfexclude", "Did you mean 'selfexcluded'?"),
        ("parts_step2_noisy25_seed1_selfexcluded", "Expected the name of a split"),
        ("parts_step2_noisy25_disjoint_selfexcluded", "Expected the name of a split"),
    ],
)
def test_names_that_say_something_else(name: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_name(name)
    assert message in str(caught.value)


def test_a_reading_that_there_is_none_of() -> None:
    with pytest.raises(UnknownNameError, match="selfexcluded"):
        replace(parse_name(NAME), reading="selfexclude")  # type: ignore[arg-type]


def test_an_official_list_says_how_it_is_imported(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="--official tailedcore"):
        find_split("mvtec_k4_noisy10_official1_selfexcluded", lambda _: dataset, [tmp_path])


def test_imported_lists_have_readings(dataset: Dataset, tmp_path: Path) -> None:
    split = _found(dataset, "overlap", tmp_path)
    file = tmp_path / "list.csv"
    with file.open("w", newline="") as content:
        rows = csv.writer(content)
        rows.writerow(("role", "path"))
        for images in split.train.values():
            rows.writerows(("normal", path) for path in images.normal)
            rows.writerows(("contaminant", path) for path in images.contaminant)
    own = import_list(file, dataset, "mine_own", reading="selfexcluded")
    assert is_self_excluded(own)
    assert own.test == import_list(file, dataset, "mine").test
    assert not is_self_excluded(import_list(file, dataset, "mine_disjoint", reading="disjoint"))


def test_tables_and_figures_tell_readings_apart() -> None:
    assert base_name(NAME) == "parts_step2_noisy25_selfexcluded"
    assert base_name("mvtec_k4_noisy10_official3_selfexcluded") == "mvtec_k4_noisy10_official_selfexcluded"
    words = [contaminants_of(recipe_of(f"mvtec_k4_noisy10{end}")) for end in ("", "_disjoint", "_selfexcluded")]
    assert words == ["10 % contaminants", "10 % contaminants (disjoint)", "10 % contaminants (self-excluded)"]
    lines = {_rest(f"mvtec_k4_noisy10{end}", "noise") for end in ("", "_disjoint", "_selfexcluded")}
    assert len(lines) == 3


def test_the_command_line_makes_them(ltbench: Run, parts: Path) -> None:
    code, out, err = ltbench("make-splits", NAME, "--data-root", parts)
    assert code == 0, err
    assert f"{NAME}.json" in out
    folder = ("make-splits", "--folder", parts / "parts", "--noise", "25", "--profile", "step2", "--seed", "1")
    code, out, err = ltbench(*folder, "--self-excluded", "--out", "own")
    assert code == 0, err
    assert f"{NAME}.json" in out
    assert is_self_excluded(read_split(Path("own/parts") / f"{NAME}.json"))
    code, _, err = ltbench(*folder, "--self-excluded", "--disjoint")
    assert (code, "got both" in err) == (2, True)
    code, _, err = ltbench("make-splits", "mvtec_k4_noisy10", "--self-excluded")
    assert (code, "Expected --self-excluded beside --folder alone" in " ".join(err.split())) == (2, True)


def test_options_ask_for_one_reading() -> None:
    asked = [
        reading_asked(disjoint=one, self_excluded=two) for one, two in ((False, False), (True, False), (False, True))
    ]
    assert asked == list(READINGS)
