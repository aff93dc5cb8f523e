from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ltbench.datasets.described import verify_described
from ltbench.datasets.description import shipped
from ltbench.datasets.index import SOURCES, load_dataset, load_listing, locate
from ltbench.datasets.listing import numbered_listing
from ltbench.errors import DataError
from tests.shared import SHARED

COUNTS_CSV = SHARED / "splits" / "mvtec_counts.csv"
LISTING = load_listing("mvtec", None)


def test_the_listing_has_the_published_totals() -> None:
    listing = LISTING
    assert (len(listing.train), len(listing.test)) == (3629, 1725)
    assert sum(sample.is_anomalous for sample in listing.test) == 1258
    assert all((sample.mask is not None) == sample.is_anomalous for sample in listing.by_path.values())
    assert len({(s.category, s.defect_type) for s in listing.test if s.is_anomalous}) == 73  # as the paper says
    assert listing.root is None


def test_class_order_is_textures_then_objects() -> None:
    textures, objects = LISTING.categories[:5], LISTING.categories[5:]
    assert textures == ("carpet", "grid", "leather", "tile", "wood")
    assert list(objects) == sorted(objects)
    assert (objects[0], objects[-1], len(objects)) == ("bottle", "zipper", 10)


@pytest.mark.skipif(not COUNTS_CSV.exists(), reason="needs ../shared")
def test_counts_agree_with_the_counted_archive() -> None:
    with COUNTS_CSV.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert not any(row["missing_numbers"] for row in rows)
    counted = {
        (row["category"], "train" if row["part"] == "train" else row["defect_type"]): int(row["count"]) for row in rows
    }
    ours = {(c, folder): count for c, folders in shipped("mvtec").counts.items() for folder, count in folders.items()}
    assert ours == counted


def test_a_tree_is_found_under_its_usual_name_and_indexed(mvtec_tree: Path) -> None:
    dataset = load_dataset("mvtec", mvtec_tree)
    assert dataset.categories == LISTING.categories
    assert (len(dataset.train), len(dataset.test)) == (30, 30)
    assert set(dataset.by_path) <= set(LISTING.by_path) | {f"{c}/test/crack/000.png" for c in LISTING.categories}
    assert dataset.file("wood/train/good/000.png").is_file()
    assert load_dataset("mvtec", mvtec_tree / "mvtec_anomaly_detection").root == dataset.root


def test_a_missing_category_folder_is_named(mvtec_tree: Path) -> None:
    shutil.rmtree(mvtec_tree / "mvtec_anomaly_detection" / "tile")
    with pytest.raises(DataError, match=r"mvtec_anomaly_detection/tile \(category 'tile' of mvtec\).*https://"):
        load_dataset("mvtec", mvtec_tree)


def test_verify_names_what_is_missing_extra_and_unreadable(mvtec_tree: Path) -> None:
    root = mvtec_tree / "mvtec_anomaly_detection"
    source = SOURCES["mvtec"]
    truncated = root / "wood" / "train" / "good" / "001.png"
    truncated.write_bytes(truncated.read_bytes()[:50])
    Image.new("RGB", (4, 4)).save(root / "wood" / "train" / "good" / "copy of 000.png")
    found = source.verify(locate("mvtec", mvtec_tree))
    assert found.unreadable == ("wood/train/good/001.png",)
    assert "wood/train/good/copy of 000.png" in found.extra
    assert "wood/train/good/002.png" in found.missing
    assert "wood/ground_truth/hole/000_mask.png" in found.missing
    assert not [path for path in found.extra if path.endswith(".txt")]
    listed = len(LISTING.by_path) + 1258
    present = len(list(root.rglob("*.png")))
    assert len(found.missing) == listed - (present - len(found.extra))


def test_a_complete_tree_is_ok(tmp_path: Path) -> None:
    counts = {category: {"train": 1, "good": 1, "crack": 1} for category in LISTING.categories}
    for sample in numbered_listing("mvtec", counts).by_path.values():
        for path in filter(None, (sample.path, sample.mask)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (3, 3)).save(tmp_path / path)
    assert verify_described(tmp_path, shipped("mvtec").model_copy(update={"counts": counts})).ok


def test_images_that_the_release_does_not_have_are_told_with_their_number(
    mvtec_tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (4, 4)).save(mvtec_tree / "mvtec_anomaly_detection" / "wood" / "train" / "good" / "copy.png")
    load_dataset("mvtec", mvtec_tree)
    assert "outside MVTec AD's published listing take no part: 12, " in caplog.text  # 11 of `crack` beside the copy
