"""Folders in other words: what `ltbench datasets describe` makes of them, and that splits and runs go by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ltbench.core import Dataset
from ltbench.datasets.folder import index_own, verify_own
from ltbench.datasets.looking import look, told_of, yaml_of
from ltbench.errors import DataError
from tests.datasets.conftest import save_image, save_mask

Run = Callable[..., tuple[int, str, str]]
Tree = Mapping[str, int]


def build(root: Path, tree: Tree) -> None:
    """Write images 000 upwards into folders; a name that ends in a file's is used as it is, a mask where it says so."""
    for place, count in tree.items():
        folder, _, name = place.rpartition("/")
        for number in range(count):
            file = root / folder / name.replace("{}", f"{number:03}")
            is_mask = any(word in place for word in ("mask", "ground_truth", "gt", "_label")) or file.suffix == ".bmp"
            (save_mask if is_mask else save_image)(file)


def described(root: Path) -> Dataset:
    """Describe a folder, write the description into it, and return what it then holds."""
    sight = look(root)
    assert not told_of(sight)
    target = root / "ltbench.yaml"
    target.write_text(yaml_of(sight, target), encoding="utf-8")
    return index_own(root)


def counts(dataset: Dataset) -> tuple[int, int, int, int]:
    """Return training, good test, defective test images and masks."""
    bad = [sample for sample in dataset.test if sample.is_anomalous]
    return (
        len(dataset.train), len(dataset.test) - len(bad), len(bad), sum(sample.mask is not None for sample in bad),
    )  # fmt: skip


LAYOUTS: dict[str, tuple[Tree, tuple[str, ...], tuple[int, int, int, int]]] = {
    "other words": (
        {"bolt/train/ok/{}.jpg": 5, "bolt/test/ok/{}.jpg": 2, "bolt/test/ko/{}.jpg": 3,
         "bolt/ground_truth/ko/{}_gt.png": 3,
         "nut/train/OK/{}.jpg": 4, "nut/test/OK/{}.jpg": 2, "nut/test/NG/{}.jpg": 1,
         "nut/ground_truth/NG/{}_gt.png": 1},
        ("bolt", "nut"), (9, 4, 4, 4),
    ),
    "capital parts": (
        {"bolt/Train/Normal/{}.png": 5, "bolt/Test/Normal/{}.png": 2, "bolt/Test/Abnormal/{}.png": 3},
        ("bolt",), (5, 2, 3, 0),
    ),
    "one flat category": (
        {"train/good/{}.png": 5, "test/good/{}.png": 2, "test/crack/{}.png": 2, "ground_truth/crack/{}.png": 2},
        ("flat",), (5, 2, 2, 2),
    ),
    "no parts": (
        {"bolt/ok/{}.png": 10, "bolt/bad/{}.png": 3, "nut/ok/{}.png": 5, "nut/bad/{}.png": 2},
        ("bolt", "nut"), (12, 3, 5, 0),
    ),
    "no parts, flat, a mask beside its image": (
        {"normal/{}.png": 10, "abnormal/{}.png": 3, "abnormal/{}_mask.png": 3}, ("flat",), (8, 2, 3, 3),
    ),
    "masks told by their format": (
        {"good/{}.jpg": 10, "bad/{}.jpg": 3, "bad/{}.bmp": 3}, ("flat",), (8, 2, 3, 3),
    ),
    "parts above categories": (
        {"train/bolt/{}.png": 5, "train/nut/{}.png": 4, "test/bolt/good/{}.png": 2, "test/nut/good/{}.png": 2,
         "test/bolt/crack/{}.png": 2, "test/nut/dent/{}.png": 1, "masks/bolt/crack/{}.png": 2,
         "masks/nut/dent/{}.png": 1},
        ("bolt", "nut"), (9, 4, 3, 3),
    ),
    "a level above": (
        {"data/bolt/train/good/{}.png": 5, "data/bolt/test/good/{}.png": 1, "data/bolt/test/bad/{}.png": 1,
         "data/nut/train/good/{}.png": 5, "data/nut/test/good/{}.png": 1, "data/nut/test/bad/{}.png": 1},
        ("bolt", "nut"), (10, 2, 2, 0),
    ),
    "a folder of masks an image": (
        {"bolt/train/good/{}.png": 5, "bolt/test/good/{}.png": 1, "bolt/test/logical/{}.png": 1,
         "bolt/ground_truth/logical/000/{}.png": 2, "nut/train/good/{}.png": 5, "nut/test/good/{}.png": 1,
         "nut/test/logical/{}.png": 1, "nut/ground_truth/logical/000/{}.png": 2},
        ("bolt", "nut"), (10, 2, 2, 2),
    ),
    "names with marks": (
        {"li{ne/[1] a*/train/good/0{}.png": 5, "li{ne/[1] a*/test/good/0{}.png": 2, "li{ne/[1] a*/test/b?d}/0{}.png": 2,
         "li{ne/[1] a*/gt/b?d}/0{}[m].png": 2, "li{ne/nut/train/good/0{}.png": 2, "li{ne/nut/test/good/0{}.png": 1},
        ("[1] a*", "nut"), (7, 3, 2, 2),
    ),
    "validation and defects among the training images": (
        {"bolt/train/good/{}.png": 5, "bolt/train/bad/{}.png": 2, "bolt/val/good/{}.png": 3, "bolt/test/good/{}.png": 2,
         "bolt/test/bad/{}.png": 1, "nut/train/good/{}.png": 3, "nut/test/good/{}.png": 2, "nut/test/bad/{}.png": 1},
        ("bolt", "nut"), (8, 4, 2, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_layout_in_other_words_is_seen_and_gone_by(case: str, tmp_path: Path) -> None:
    tree, categories, expected = LAYOUTS[case]
    build(tmp_path / "flat", tree)
    dataset = described(tmp_path / "flat")
    assert (dataset.name, dataset.categories, counts(dataset)) == ("flat", categories, expected)
    assert dataset == described(tmp_path / "flat")


def write_csv(root: Path, rows: list[str]) -> None:
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")


def test_a_csv_says_everything(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    build(root, {"a/{}.png": 8, "masks/{}.png": 8})
    rows = [f"a/{n:03}.png,{'NG' if n > 5 else 'OK'},{f'masks/{n:03}.png' if n > 5 else ''},bolt" for n in range(8)]
    write_csv(root, ["path,label,mask,category", *rows])
    dataset = described(root)
    assert (dataset.categories, counts(dataset)) == (("bolt",), (5, 1, 2, 2))
    assert dataset.by_path["a/007.png"].defect_type == "NG"
    write_csv(
        root, ["image,split,class", *(f"a/{n:03}.png,{'test' if n > 3 else 'train'},{int(n > 5)}" for n in range(8))]
    )
    assert counts(described(root)) == (4, 2, 2, 0)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("../x.png,OK,,bolt", r"line 2: .*relative"),
        ("a/000.png,,,bolt", r"line 2: .*label"),
        ("a/009.png,OK,,bolt", r"1 too few, .*009\.png"),
        ("a/000.png,OK,,bolt\na/000.png,NG,,bolt", "twice"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, row: str, told: str) -> None:
    build(tmp_path, {"a/{}.png": 3})
    (tmp_path / "ltbench.yaml").write_text("listed: {file: labels.csv}\ngood: OK\n")
    write_csv(tmp_path, ["path,label,mask,category", row, "a/001.png,OK,,bolt", "a/002.png,NG,,bolt"])
    with pytest.raises(DataError, match=told):
        index_own(tmp_path)


def test_a_defect_whose_row_has_no_mask_is_told_by_its_row(tmp_path: Path) -> None:
    build(tmp_path, {"a/{}.png": 4, "a/m{}.png": 1})
    (tmp_path / "ltbench.yaml").write_text("listed: {file: labels.csv}\ngood: OK\n")
    rows = ["a/000.png,OK,,bolt", "a/001.png,OK,,bolt", "a/002.png,NG,a/m000.png,bolt", "a/003.png,NG,,bolt"]
    write_csv(tmp_path, ["path,label,mask,category", *rows])
    told = "labels.csv, column 'mask', a/003.png"
    with pytest.raises(DataError, match=f"the mask {told} of the defective image {tmp_path}/a/003.png, got none"):
        index_own(tmp_path)
    assert verify_own(tmp_path).missing == (told,)


def test_what_fits_nowhere_is_counted_and_named(tmp_path: Path, ltbench: Run) -> None:
    root = tmp_path / "parts"
    build(root, {"bolt/good/{}.png": 10, "bolt/bad/{}.png": 3, "bolt/bad/{}_mask.png": 2, "scan{}.png": 1})
    code, out, _ = ltbench("datasets", "describe", root, "--json")
    found = json.loads(out)
    assert (code, found["odd_files"]) == (1, ["scan000.png"])
    assert found["defective_images_without_their_mask"] == ["bolt/bad/002.png"]
    assert "002_mask.png of the defective image" in found["refused"]
    save_mask(root / "bolt" / "bad" / "002_mask.png")
    code, out, _ = ltbench("datasets", "describe", root)
    assert code == 0
    assert "images: <category>/<defect>/<image>" in out and "masks:  <category>/<defect>/<image>_mask" in out
    assert "odd files: 1, scan000.png the first" in out
    assert "20 % of the good ones" in out


def test_a_folder_whose_names_say_nothing_is_told_what_would(tmp_path: Path, ltbench: Run) -> None:
    build(tmp_path / "parts", {"monday/{}.png": 3, "tuesday/{}.png": 3})
    code, _, err = ltbench("datasets", "describe", tmp_path / "parts")
    assert code == 2 and "got monday, tuesday" in err and "path,label,mask,category" in err
    code, _, err = ltbench("make-splits", "--folder", tmp_path / "parts", "--name", "p")
    assert code == 2 and "<category>/train/good/<image>" in err and "ltbench datasets describe" in err


@pytest.mark.parametrize("inside", [True, False])
def test_splits_and_runs_go_by_the_description(tmp_path: Path, ltbench: Run, inside: bool) -> None:
    root = tmp_path / "some where"
    build(root, LAYOUTS["other words"][0])
    out = root / "ltbench.yaml" if inside else tmp_path / "my layout.yaml"
    assert ltbench("datasets", "describe", root, "--out", out)[0] == 0
    place = root if inside else out
    assert ltbench("make-splits", "--folder", place, "--name", "screws", "--profile", "step2", "--noise", "25")[0] == 0
    code, printed, _ = ltbench(
        "run", "-m", "mean_image", "-s", "screws_step2_noisy25", "--data-root", place, "--json"
    )  # fmt: skip
    assert code == 0
    assert json.loads(printed)["metrics"]["pixel_auroc"]["avg"] >= 0


def test_a_plain_folder_needs_no_description(tmp_path: Path, ltbench: Run, make: Callable[..., None]) -> None:
    make(tmp_path / "parts", "bolt")
    assert "needs no description" in ltbench("datasets", "describe", tmp_path / "parts")[1]


def test_one_category_of_several_points_to_the_folder_above(tmp_path: Path, make: Callable[..., None]) -> None:
    make(tmp_path / "parts", "bolt")
    make(tmp_path / "parts", "nut")
    (note,) = look(tmp_path / "parts" / "bolt").notes
    assert "nut the first" in note


@pytest.mark.parametrize("name", ["X", "train", "good", "bolt", "a b", "ä", "parts.v2"])
def test_a_split_of_a_folder_runs_whatever_the_folder_is_called(
    tmp_path: Path, ltbench: Run, make: Callable[..., None], name: str
) -> None:
    for category in ("bolt", "nut"):
        make(tmp_path / name, category, train=4)
    for dataset in ("mine", "bolt"):  # `bolt` is a category of it, too
        assert ltbench("make-splits", "--folder", tmp_path / name, "--name", dataset)[0] == 0
        assert ltbench("run", "-m", "mean_image", "-s", f"{dataset}_full", "--data-root", tmp_path / name)[0] == 0


def test_the_name_of_a_built_in_dataset_is_refused(tmp_path: Path, ltbench: Run, make: Callable[..., None]) -> None:
    make(tmp_path / "btad", "bolt")
    code, _, err = ltbench("make-splits", "--folder", tmp_path / "btad")
    assert code == 2 and "built-in dataset" in err and "--name" in err
