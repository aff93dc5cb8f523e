from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ltbench.datasets import visa
from ltbench.datasets.index import load_dataset, load_listing
from ltbench.datasets.masks import read_mask
from ltbench.errors import DataError
from ltbench.protocols import PROTOCOLS
from tests.shared import SHARED

CSV = SHARED / "splits" / "visa_1cls.csv"

Convert = Callable[..., None]


@pytest.mark.skipif(not CSV.exists(), reason="needs ../shared")
def test_the_published_partition_has_its_totals() -> None:
    listing = visa.read_listing(CSV)
    assert (len(listing.train), len(listing.test)) == (8659, 2162)
    assert sum(sample.is_anomalous for sample in listing.test) == 1200
    counted = {
        c: (len(listing.train_of(c)), sum(not s.is_anomalous for s in listing.test_of(c))) for c in listing.categories
    }
    assert counted == visa.COUNTS
    official = {identity for identity, _ in visa._official_places()}
    masks = {sample.mask for sample in listing.test if sample.mask is not None}
    assert official == set(listing.by_path) | masks


def test_the_release_is_indexed_by_its_csv(visa_release: Path) -> None:
    dataset = load_dataset("visa", visa_release.parent)
    assert dataset.categories == visa.CATEGORIES
    assert [s.path for s in dataset.train_of("candle")] == [
        "candle/Data/Images/Normal/0451.JPG",
        "candle/Data/Images/Normal/0836.JPG",
    ]
    bad = dataset.by_path["pcb4/Data/Images/Anomaly/000.JPG"]
    assert (bad.defect_type, bad.mask) == ("bad", "pcb4/Data/Masks/Anomaly/000.png")


@pytest.mark.parametrize(
    ("bad", "suffix", "mask_end"), [("bad", ".JPG", ".png"), ("bad", ".JPG", "_mask.png"), ("anomaly", ".png", ".png")]
)
def test_a_conversion_is_the_same_dataset(
    visa_release: Path, tmp_path: Path, convert: Convert, bad: str, suffix: str, mask_end: str
) -> None:
    convert(tmp_path / "VisA_pytorch" / "1cls", bad, suffix, mask_end)
    raw = load_dataset("visa", visa_release)
    for data_root in (tmp_path / "VisA_pytorch", tmp_path / "VisA_pytorch" / "1cls"):
        converted = load_dataset("visa", data_root)
        assert (converted.train, converted.test) == (raw.train, raw.test)
    protocol = PROTOCOLS["common"]
    for sample in converted.test:
        assert converted.file(sample.path).is_file()
        expected = read_mask(raw, sample, protocol)
        assert np.array_equal(read_mask(converted, sample, protocol), expected)
        assert expected.any() == sample.is_anomalous


def test_a_missing_csv_and_a_foreign_one_are_named(visa_release: Path) -> None:
    file = visa_release / "split_csv" / "1cls.csv"
    text = file.read_text()
    file.write_text(text.replace("object,split", "class,split"))
    with pytest.raises(DataError, match=r"columns object,split,label,image,mask in .*1cls\.csv"):
        visa.index(visa_release)
    file.write_text(text.replace("test,normal", "val,normal", 1))
    with pytest.raises(DataError, match=r"1cls\.csv, line 4"):
        visa.index(visa_release)
    for cut in (",candle/Data/Masks/Anomaly/000.png", ",candle/Data/Images/Normal/0836.JPG,"):
        file.write_text(text.replace(cut, ""))
        with pytest.raises(DataError, match=r"1cls\.csv, line \d"):
            visa.index(visa_release)
    file.unlink()
    with pytest.raises(DataError, match=r"partition in .*1cls\.csv, got no such file"):
        visa.index(visa_release)


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd"])
def test_a_csv_cannot_lead_out_of_the_root(visa_release: Path, path: str) -> None:
    file = visa_release / "split_csv" / "1cls.csv"
    file.write_text(file.read_text().replace("candle/Data/Images/Normal/0790.JPG", path))
    with pytest.raises(DataError, match="relative to the dataset root"):
        visa.index(visa_release)


def test_a_missing_image_and_category_are_named(visa_release: Path) -> None:
    (visa_release / "cashew" / "Data" / "Masks" / "Anomaly" / "001.png").unlink()
    with pytest.raises(DataError, match=r"1 too few, .*cashew/Data/Masks/Anomaly/001\.png"):
        visa.index(visa_release)
    (visa_release / "candle").rename(visa_release / "candles")
    with pytest.raises(DataError, match="category 'candle'"):
        visa.index(visa_release)


def test_a_conversion_without_a_mask_or_good_images_is_refused(tmp_path: Path, convert: Convert) -> None:
    convert(tmp_path)
    mask = tmp_path / "fryum" / "ground_truth" / "bad" / "001.png"
    mask.rename(tmp_path / "001.png")
    with pytest.raises(DataError, match=r"mask of .*fryum/test/bad/001\.JPG"):
        visa.index(tmp_path)
    (tmp_path / "001.png").rename(mask)
    for file in (tmp_path / "fryum" / "train" / "good").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"good images of category 'fryum' in .*train/good"):
        visa.index(tmp_path)


def test_verify_of_the_release(visa_release: Path) -> None:
    (visa_release / "pcb1" / "Data" / "Images" / "Normal" / "0451.JPG").unlink()
    broken = visa_release / "pcb2" / "Data" / "Images" / "Normal" / "0451.JPG"
    broken.write_bytes(b"no image")
    broken.with_name("9999.JPG").write_bytes(b"no image")
    found = visa.verify(visa_release)
    assert found.missing == ("pcb1/Data/Images/Normal/0451.JPG",)
    assert found.unreadable == ("pcb2/Data/Images/Normal/0451.JPG",)
    assert found.extra == ("pcb2/Data/Images/Normal/9999.JPG",)
    assert "pcb1/train/good: 2 images, published 904" in found.miscounted


def test_verify_of_a_conversion_goes_by_number(tmp_path: Path, convert: Convert) -> None:
    convert(tmp_path)
    stranger = tmp_path / "capsules" / "train" / "good" / "0836.JPG"  # capsules has three digits
    found = visa.verify(tmp_path)
    assert stranger.relative_to(tmp_path).as_posix() in found.extra
    assert "candle/*/good/0000.JPG" in found.missing
    assert "candle/test/bad/002.JPG" in found.missing
    assert "candle/ground_truth/bad/002.png" in found.missing
    assert not {"candle/*/good/0836.JPG", "candle/test/bad/001.JPG"} & set(found.missing)
    assert "candle/train/good: 2 images, published 900" in found.miscounted


def test_splits_need_the_csv_only(tmp_path: Path, visa_release: Path) -> None:
    alone = tmp_path / "alone" / "visa" / "split_csv"
    alone.mkdir(parents=True)
    (alone / "1cls.csv").write_bytes((visa_release / "split_csv" / "1cls.csv").read_bytes())
    assert load_listing("visa", tmp_path / "alone").train == visa.index(visa_release).train
    with pytest.raises(DataError, match="candle"):
        load_dataset("visa", tmp_path / "alone")


def test_images_outside_the_partition_are_told_with_their_number(
    tmp_path: Path, visa_release: Path, convert: Convert, caplog: pytest.LogCaptureFixture
) -> None:
    convert(tmp_path / "converted")
    strays = ("candle/train/good/day2/0.png", "candle/test/scratch/0.png", "candle/1.png")
    for file in (visa_release / "candle/Data/Images/Normal/day2/0.png", *(tmp_path / "converted" / s for s in strays)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"an image")
    assert visa.index(visa_release).train == visa.index(tmp_path / "converted").train
    assert (
        f"of {visa_release} outside split_csv/1cls.csv take no part: 1, candle/Data/Images/Normal/day2" in caplog.text
    )
    assert (
        f"of {tmp_path / 'converted'} outside the layout of a conversion take no part: 3, candle/1.png" in caplog.text
    )
