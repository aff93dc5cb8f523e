from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ltbench.datasets.folder import SOURCE, index_own, index_tree
from ltbench.datasets.index import load_dataset, source_named
from ltbench.datasets.listing import files_of, numbered_listing
from ltbench.datasets.verify import images_below
from ltbench.errors import DataError
from tests.shared import SHARED

INDUSTRIAL8 = SHARED / "data" / "industrial8"

Make = Callable[..., None]


def test_a_tree_is_indexed_in_sorted_order(tmp_path: Path, make: Make) -> None:
    for category in ("nut", "bolt"):
        make(tmp_path, category)
    dataset = index_tree(tmp_path, "parts")
    assert dataset.categories == ("bolt", "nut")
    assert [s.path for s in dataset.train] == [
        "bolt/train/good/000.png",
        "bolt/train/good/001.png",
        "nut/train/good/000.png",
        "nut/train/good/001.png",
    ]
    crack = dataset.by_path["nut/test/crack/000.png"]
    assert (crack.defect_type, crack.mask) == ("crack", "nut/ground_truth/crack/000_mask.png")
    assert dataset.by_path["nut/test/good/000.png"].mask is None


def test_any_suffix_in_any_case_is_an_image_and_the_rest_is_not(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt", suffix=".JPG")
    good = tmp_path / "bolt" / "train" / "good"
    Image.new("L", (4, 4)).save(good / "scan.TIFF", format="TIFF")
    for name in (".hidden.png", "README.md", "notes.txt", "Thumbs.db"):
        (good / name).write_text("no image")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("about")
    dataset = index_tree(tmp_path, "parts")
    assert [Path(s.path).name for s in dataset.train] == ["000.JPG", "001.JPG", "scan.TIFF"]
    assert dataset.by_path["bolt/test/crack/000.JPG"].mask == "bolt/ground_truth/crack/000_mask.png"


def test_without_a_ground_truth_folder_there_are_no_masks(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt", has_masks=False)
    assert all(sample.mask is None for sample in index_tree(tmp_path, "parts").test)


def test_a_mask_may_be_named_like_its_image(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt")
    truth = tmp_path / "bolt" / "ground_truth" / "crack"
    (truth / "000_mask.png").rename(truth / "000.png")
    assert index_tree(tmp_path, "parts").test[0].mask == "bolt/ground_truth/crack/000.png"


def test_a_missing_mask_is_named_with_its_image(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt")
    (tmp_path / "bolt" / "ground_truth" / "crack" / "000_mask.png").unlink()
    with pytest.raises(DataError, match=r"000_mask\.png of the defective image .*test/crack/000\.png"):
        index_tree(tmp_path, "parts")


@pytest.mark.parametrize("folder", ["~/parts", "home/parts", "{tmp}/home/parts"])
def test_a_description_elsewhere_names_its_folder(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    make(tmp_path / "home" / "parts", "bolt")
    file = tmp_path / "elsewhere.yaml"
    patterns = 'train: "{category}/train/good/{stem}"\ntest: "{category}/test/{defect}/{stem}"\n'
    file.write_text(f"folder: {folder.replace('{tmp}', str(tmp_path))}\n{patterns}")
    assert index_own(file).root == tmp_path / "home" / "parts"


def test_an_empty_category_is_named(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt")
    (tmp_path / "nut" / "test" / "good").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "nut" / "test" / "good" / "0.png")
    with pytest.raises(DataError, match=r"good training images of category 'nut'.*got none"):
        index_tree(tmp_path, "parts")
    make(tmp_path, "nut", train=0)
    with pytest.raises(DataError, match="category 'nut'"):
        index_tree(tmp_path, "parts")


def test_a_category_without_test_images_is_named(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt")
    (tmp_path / "bolt" / "test").rename(tmp_path / "bolt" / "set_aside")
    with pytest.raises(DataError, match="test images of category 'bolt'"):
        index_tree(tmp_path, "parts")


def test_defective_images_in_train_are_refused(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt")
    (tmp_path / "bolt" / "train" / "crack").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "bolt" / "train" / "crack" / "000.png")
    with pytest.raises(DataError, match=r"got 1 elsewhere, .*train/crack/000\.png the first"):
        index_tree(tmp_path, "parts")


def test_a_folder_without_categories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"category folders in .*got none"):
        index_tree(tmp_path, "parts")


def test_verify_names_broken_images_and_masks_without_image(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt")
    assert SOURCE.verify(tmp_path).ok
    file = tmp_path / "bolt" / "train" / "good" / "001.png"
    file.write_bytes(file.read_bytes()[:60])
    Image.new("L", (4, 4)).save(tmp_path / "bolt" / "ground_truth" / "crack" / "007_mask.png")
    found = source_named("anything").verify(tmp_path)
    assert found.unreadable == ("bolt/train/good/001.png",)
    assert found.extra == ("bolt/ground_truth/crack/007_mask.png",)
    assert not found.ok


def test_a_numbered_listing_equals_the_index_of_its_tree(tmp_path: Path, make: Make) -> None:
    make(tmp_path, "bolt")
    listed = numbered_listing("parts", {"bolt": {"train": 2, "good": 1, "crack": 1}})
    dataset = index_tree(tmp_path, "parts")
    assert (listed.train, listed.test, listed.root) == (dataset.train, dataset.test, None)
    assert files_of(listed) == files_of(dataset)


@pytest.mark.skipif(not INDUSTRIAL8.exists(), reason="needs ../shared")
def test_industrial8_has_its_images_and_masks() -> None:
    dataset = load_dataset("industrial8", INDUSTRIAL8.parent)
    assert dataset.name == "industrial8"
    assert len(dataset.categories) == 8
    assert len(dataset.by_path) == 2057
    masks = [sample.mask for sample in dataset.test if sample.mask is not None]
    assert len(masks) == len(set(masks)) == 432
    assert {s.category for s in dataset.test if s.is_anomalous and s.mask is None} == {"elpv_mono"}
    assert load_dataset("industrial8", INDUSTRIAL8.resolve()).test == dataset.test


@pytest.mark.parametrize("place", ["train/good/day2", "test/crack/day2", "test/good/a/b", "train", "test"])
def test_images_where_none_is_read_are_refused_with_their_number(tmp_path: Path, make: Make, place: str) -> None:
    make(tmp_path, "bolt")
    folder = tmp_path / "bolt" / place
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        Image.new("L", (4, 4)).save(folder / f"x{number}.png")
    with pytest.raises(DataError, match=r"got 3 elsewhere, .*x0\.png the first\. Move them up"):
        index_tree(tmp_path, "parts")


def test_folders_without_images_are_passed_over_with_a_word(
    tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "bolt")
    hidden = tmp_path / "__MACOSX" / "bolt" / "train" / "good"
    hidden.mkdir(parents=True)
    Image.new("L", (4, 4)).save(hidden / "000.png")
    (tmp_path / "notes").mkdir()
    assert index_tree(tmp_path, "parts").categories == ("bolt",)
    assert "__MACOSX" in caplog.text and "notes" in caplog.text


def test_images_behind_links_and_broken_links_are_not_dropped(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "parts", "bolt")
    make(tmp_path / "elsewhere", "bolt")
    good = tmp_path / "parts" / "bolt" / "train" / "good"
    (good / "loop").symlink_to(good)
    assert len(index_tree(tmp_path / "parts", "parts").train) == 2
    (good / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert "bolt/train/good/gone.png" in index_tree(tmp_path / "parts", "parts").by_path
    (good / "day2").symlink_to(tmp_path / "elsewhere" / "bolt" / "train" / "good")
    with pytest.raises(DataError, match=r"got 2 elsewhere, .*day2/000\.png the first"):
        index_tree(tmp_path / "parts", "parts")
    assert "bolt/train/good/day2/001.png" in images_below(tmp_path / "parts", ["bolt"])


def test_images_beside_the_layout_are_told_with_their_number(
    tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "bolt")
    (tmp_path / "bolt" / "validation" / "good").mkdir(parents=True)
    for file in ("bolt/validation/good/0.png", "bolt/validation/good/1.png", "overview.png"):
        Image.new("L", (4, 4)).save(tmp_path / file)
    assert len(index_tree(tmp_path, "parts").by_path) == 4
    assert "outside the layout of parts take no part: 3, bolt/validation/good/0.png the first" in caplog.text
