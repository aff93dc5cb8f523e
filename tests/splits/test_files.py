from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ltbench.core import Dataset, Split
from ltbench.errors import DataError, FullDiskError, SpecError, UnknownNameError
from ltbench.splits.catalogue import catalogue
from ltbench.splits.files import (
    check_splits,
    committed_names,
    find_split,
    read_split,
    render_split,
    write_split,
)
from ltbench.splits.generate import make_split
from ltbench.splits.recipe import parse_name

MakeDataset = Callable[..., Dataset]
NAME = "parts_step10_noisy10"
FIELDS = ["name", "dataset", "recipe", "seed", "high", "low", "counts", "train", "test", "sha256"]


@pytest.fixture(scope="module")
def parts_listing(make_dataset: MakeDataset) -> Dataset:
    return make_dataset({"bolt": (30, 3, 6), "nut": (20, 2, 4), "ring": (10, 2, 2)})


@pytest.fixture
def split(parts_listing: Dataset) -> Split:
    return make_split(parts_listing, parse_name(NAME))


@pytest.fixture
def load(parts_listing: Dataset) -> Callable[[str], Dataset]:
    def load(name: str) -> Dataset:
        assert name == "parts"
        return parts_listing

    return load


def never(name: str) -> Dataset:
    raise AssertionError(f"{name} was loaded")


def test_a_file_reads_back_as_the_split(split: Split, tmp_path: Path) -> None:
    path = write_split(split, tmp_path)
    assert path == tmp_path / "parts" / f"{NAME}.json"
    assert read_split(path) == split
    assert read_split(path).sha256 == split.sha256
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_file_has_the_documented_form(split: Split, tmp_path: Path) -> None:
    text = write_split(split, tmp_path).read_bytes().decode("ascii")
    loaded = json.loads(text)
    assert list(loaded) == FIELDS
    assert list(loaded["train"]) == list(loaded["test"]) == list(loaded["counts"]) == ["bolt", "nut", "ring"]
    assert loaded["counts"]["bolt"] == {"normal": 30, "contaminant": 3}
    assert text.endswith("}\n") and "\r" not in text
    lines = [line for line in text.splitlines() if ".png" in line]
    assert all(line.count(".png") == 1 for line in lines)
    assert len(lines) == sum(len(v) for images in loaded["train"].values() for v in images.values()) + sum(
        map(len, loaded["test"].values())
    )


def edit_path(data: dict[str, Any]) -> None:
    data["train"]["nut"]["normal"][0] = "nut/train/good/0019.png"


def drop_image(data: dict[str, Any]) -> None:
    data["test"]["nut"].pop()


def edit_counts(data: dict[str, Any]) -> None:
    data["counts"]["nut"]["normal"] += 1


def edit_seed(data: dict[str, Any]) -> None:
    data["seed"] = 1


def edit_hash(data: dict[str, Any]) -> None:
    data["sha256"] = "0" * 64


@pytest.mark.parametrize("edit", [edit_path, drop_image, edit_counts, edit_seed, edit_hash])
def test_a_file_edited_by_hand_is_refused(split: Split, tmp_path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = write_split(split, tmp_path)
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data, indent=1))
    with pytest.raises(DataError, match="edited by hand") as caught:
        read_split(path)
    assert str(path) in str(caught.value)
    assert f"ltbench make-splits {NAME}" in str(caught.value)


def without(field: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.pop(field)


def having(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.update(fields)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        *((without(field), field) for field in FIELDS),
        (having(extra=1), "extra"),
        (having(seed="0"), "seed"),
        (having(high="bolt"), "high"),
        (having(train={"bolt": {"normal": [1], "contaminant": []}}), "train.bolt.normal.0"),
        (having(train={"bolt": ["a.png"]}), "train.bolt"),
        (having(test=None), "test"),
        (having(recipe={"noise_percent": float("nan")}), "finite"),
        (having(high=["bolt", "nut"], low=["nut", "ring"]), "in high or low"),
        (having(test={"bolt": []}), "same categories"),
    ],
)
def test_a_file_that_is_no_split_is_refused(
    split: Split, tmp_path: Path, edit: Callable[[dict[str, Any]], None], says: str
) -> None:
    path = write_split(split, tmp_path)
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(DataError) as caught:
        read_split(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("bad", ["../../etc/passwd", "/etc/passwd", "..\\secret", "C:/x.png", ""])
@pytest.mark.parametrize("part", ["normal", "test"])
def test_paths_stay_below_the_root(split: Split, tmp_path: Path, bad: str, part: str) -> None:
    data = split.payload()
    (data["test"]["nut"] if part == "test" else data["train"]["nut"]["normal"]).append(bad)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data | {"sha256": "0" * 64}))
    with pytest.raises(DataError, match="relative to the dataset root") as caught:
        read_split(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"name": "\\ud800"}', b"[" * 5000])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="Expected a split file"):
        read_split(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="Expected a split file"):
            read_split(path)


def test_names_that_leave_the_folder_are_not_written(split: Split, tmp_path: Path) -> None:
    for bad in (replace(split, name="../x"), replace(split, dataset="a/b")):
        with pytest.raises(SpecError, match="Expected the name of a"):
            write_split(bad, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_split(split, tmp_path)
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(FullDiskError, match="No space left"):
        write_split(replace(split, seed=3), tmp_path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_split_is_found_by_path_by_name_or_made(split: Split, tmp_path: Path, load: Callable[[str], Dataset]) -> None:
    path = write_split(split, tmp_path)
    assert find_split(str(path), never) == split
    assert find_split(NAME, never, [tmp_path]) == split
    assert find_split(NAME, load, [tmp_path / "none"]) == split
    made = find_split("parts_exp2_seed7", load, [tmp_path])
    assert (made.name, made.seed) == ("parts_exp2_seed7", 7)


def test_a_committed_split_needs_no_images() -> None:
    split = find_split("mvtec_step100", never)
    assert split.name == "mvtec_step100"
    assert sum(len(images.normal) for images in split.train.values()) == 1723


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("mvtec_stepp100", UnknownNameError, "Did you mean 'mvtec_step100'?"),
        ("visa_exp500_noisy5", UnknownNameError, "Did you mean 'visa_exp500_noisy05'?"),
        ("parts_expp20", SpecError, "Did you mean 'exp'?"),
        ("parts", SpecError, "Expected the name of a split"),
        ("mvtec_k4_noisy10_official1", DataError, "ltbench make-splits --official tailedcore"),
        ("realiad_fuiad_noisy10_official1", DataError, "ltbench make-splits --official realiad --data-root"),
        ("nowhere.json", DataError, "Expected a split file at nowhere.json"),
        ("some/folder", DataError, "Expected a split file at some/folder"),
        ("parts*", SpecError, "Choose another name"),
    ],
)
def test_an_unknown_split_is_refused(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        find_split(name, never)
    assert says in str(caught.value)


def test_a_file_under_another_name_is_refused(split: Split, tmp_path: Path) -> None:
    path = write_split(split, tmp_path)
    path.rename(path.with_name("parts_full.json"))
    with pytest.raises(DataError, match="Expected split 'parts_full'"):
        find_split("parts_full", never, [tmp_path])
    assert find_split(str(path.with_name("parts_full.json")), never) == split


def test_names_of_committed_splits_and_of_the_folder(split: Split, tmp_path: Path) -> None:
    write_split(split, tmp_path)
    assert set(committed_names([tmp_path])) == {NAME, *(recipe.name for recipe in catalogue())}


def test_check_passes_and_names_every_difference(
    split: Split, parts_listing: Dataset, tmp_path: Path, load: Callable[[str], Dataset]
) -> None:
    path = write_split(split, tmp_path)
    assert check_splits(tmp_path, load, [NAME]) == []

    other = make_split(parts_listing, parse_name("parts_step10_noisy10_seed1"))
    path.write_text(render_split(replace(other, name=NAME)))
    differences = check_splits(tmp_path, load, [NAME, "parts_full"])
    assert f"{path}: seed is 1, made anew 0" in differences
    assert f"{path}: other images in train of nut" in differences
    assert not any("in test" in difference for difference in differences)
    assert f"parts_full: no file {tmp_path}/*/parts_full.json" in differences

    path.write_text(json.dumps(json.loads(render_split(split))))
    assert check_splits(tmp_path, load, [NAME]) == [f"{path}: the same split, written differently"]

    data = json.loads(render_split(split))
    edit_path(data)
    path.write_text(json.dumps(data))
    assert "edited by hand" in check_splits(tmp_path, load, [NAME])[0]


def test_check_only_reads_what_was_imported(split: Split, tmp_path: Path) -> None:
    path = write_split(replace(split, name="my_list"), tmp_path)
    assert check_splits(tmp_path, never, ["my_list"]) == []
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 5'))
    assert "edited by hand" in check_splits(tmp_path, never, ["my_list"])[0]
