"""LTAD's lists in every form that they may have, and High and Low as LTAD has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.core import Dataset, Split
from ltbench.errors import DataError, SpecError, UnknownNameError
from ltbench.splits.author_lists import import_lists
from ltbench.splits.groups import groups_of
from ltbench.splits.importers import import_list
from ltbench.splits.making import SplitRequest

MakeDataset = Callable[..., Dataset]

COUNTS = {"bolt": 24, "nut": 22, "ring": 21, "cap": 20, "pin": 2}
"""By 20 images 4 categories are high; LTAD's halves are 2 and 3."""


@pytest.fixture(scope="module")
def dataset(make_dataset: MakeDataset) -> Dataset:
    return make_dataset(dict.fromkeys(COUNTS, (30, 3, 6)))


PATHS = [f"{name}/train/good/{n:04}.png" for name, count in COUNTS.items() for n in range(count)]


def by_category() -> dict[str, list[str]]:
    return {name: [f"{n:04}.png" for n in range(count)] for name, count in COUNTS.items()}


FORMS = {
    "exp100.txt": "\n".join(PATHS),
    "lists/exp_100.lst": "\r\n".join(f"./data/MVTec-AD/{path}" for path in PATHS),
    "exp100_train.csv": "category,path,label\n" + "\n".join(f"{p.split('/')[0]},{p},good" for p in PATHS),
    "train_exp100.json": json.dumps(PATHS),
    "a/exp100.json": json.dumps(by_category()),
    "b/exp100.json": json.dumps({"train": by_category(), "test": {"bolt": ["test/good/0001.png"]}}),
    "exp100/train.jsonl": "\n".join(json.dumps({"filename": p, "label": 0, "clsname": p.split("/")[0]}) for p in PATHS),
    "exp100/train.json": "\n".join(json.dumps({"filename": p, "label_name": "good"}) for p in PATHS),
    "windows_exp100.txt": "\n".join(path.replace("/", "\\") for path in PATHS),
}


def write(folder: Path, place: str, text: str) -> Path:
    file = folder / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def imported(dataset: Dataset, folder: Path) -> Split:
    (split,) = import_lists(dataset, folder)
    return split


@pytest.mark.parametrize("place", FORMS)
def test_every_form_gives_the_same_split(tmp_path: Path, dataset: Dataset, place: str) -> None:
    write(tmp_path, place, FORMS[place])
    split = imported(dataset, tmp_path)
    assert split.name == f"{dataset.name}_exp100_official"
    assert {name: count["normal"] for name, count in split.counts.items()} == COUNTS
    assert sorted(path for images in split.train.values() for path in images.normal) == sorted(PATHS)
    assert (set(split.high), set(split.low)) == ({"bolt", "nut"}, {"ring", "cap", "pin"})
    assert {name: len(paths) for name, paths in split.test.items()} == dict.fromkeys(COUNTS, 9)


def test_files_of_one_split_are_taken_together_and_test_lists_left_out(tmp_path: Path, dataset: Dataset) -> None:
    for name, files in by_category().items():
        write(tmp_path, f"step_20/{name}.txt", "\n".join(files))
    write(tmp_path, "step_20/test.txt", "bolt/test/good/0001.png")
    write(tmp_path, "reverse/exp50.txt", PATHS[0])
    write(tmp_path, "dagm/exp50.txt", "Class1/0001.PNG")
    write(tmp_path, "readme.txt", "exponential lists")
    found = {split.name.partition("_")[2]: split for split in import_lists(dataset, tmp_path)}
    assert set(found) == {"step20_official", "exp50_reversed_official"}
    assert {name: count["normal"] for name, count in found["step20_official"].counts.items()} == COUNTS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bolt/train/good/9999.png", "got 'bolt/train/good/9999.png'"),
        ("bolt/test/good/0001.png", "Expected training images"),
        (f"{PATHS[0]}\nx/{PATHS[0]}", "again in"),
        ("bolt/train/good", "Expected paths of images"),
        ("", "Expected paths of images"),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, dataset: Dataset, text: str, says: str) -> None:
    write(tmp_path, "exp100.txt", text)
    with pytest.raises(DataError, match="Expected") as caught:
        import_lists(dataset, tmp_path)
    assert says in str(caught.value)


def test_a_folder_without_lists_and_a_damaged_one_are_refused(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="got none"):
        import_lists(dataset, tmp_path)
    write(tmp_path, "exp100.json", "{bad")
    with pytest.raises(DataError, match="neither text nor JSON"):
        import_lists(dataset, tmp_path)


def test_groups_can_be_chosen_for_any_list(tmp_path: Path, dataset: Dataset) -> None:
    file = write(tmp_path, "list.csv", "\n".join(PATHS))
    plain, named = import_list(file, dataset, "mine"), import_list(file, dataset, "mine_exp100_by_hand")
    assert plain.low == ("pin",) and "groups" not in plain.recipe, "lists of before keep their sha256"
    assert set(named.high) == {"bolt", "nut"} and named.recipe["groups"] == "halves"
    assert import_list(file, dataset, "mine", groups="halves").high == named.high
    assert import_list(file, dataset, "mine_exp100_by_hand", groups="tail20").low == ("pin",)


def test_ltads_halves_of_fifteen_are_seven_and_eight() -> None:
    counts = dict(zip("abcdefghijklmno", (280, 264, 202, 145, 104, 75, 54, 39, 28, 20, 14, 10, 7, 5, 3), strict=True))
    assert [len(part) for part in groups_of(counts, "halves", "tail20")] == [7, 8]
    assert [len(part) for part in groups_of(counts, "auto", "tail20")] == [10, 5]


def test_the_request(tmp_path: Path, dataset: Dataset) -> None:
    write(tmp_path, "exp100.txt", "\n".join(PATHS))
    request = SplitRequest(dataset=dataset.name, official="ltad", source=str(tmp_path), groups="tail20")
    (split,) = request.splits(lambda _: dataset)
    assert split.low == ("pin",) and split.recipe["groups"] == "tail20"
    for wrong in (
        SplitRequest(official="ltad"),
        SplitRequest(official="ltad", source=str(tmp_path)),
        SplitRequest(official="ltad", source=str(tmp_path), dataset="mvtec", groups="thirds"),
        SplitRequest(("mvtec_exp100",), groups="halves"),
        SplitRequest(official="tailedcore", groups="halves"),
    ):
        with pytest.raises(SpecError):
            list(wrong.splits(lambda _: dataset))
    with pytest.raises(UnknownNameError, match="ltad"):
        list(SplitRequest(official="ltda").splits(lambda _: dataset))
