"""Masks of label ids and of many grey levels; what a protocol keeps of a defect."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltbench.core import Dataset, Protocol, RunSpec, Sample
from ltbench.datasets.index import verify_dataset
from ltbench.datasets.masks import Kept, defect_pixels, is_graded, kept_of, read_mask
from ltbench.errors import DataError, UnknownNameError
from ltbench.metrics.groups import evaluate_category
from ltbench.protocols import PROTOCOLS, protocol_named

COMMON = PROTOCOLS["common"]
LOOSE = protocol_named("common+positive_masks")
CROP = Protocol("crop", resize=64, resize_mode="short_side", crop=32)


def _square(side: int = 64, top: int = 20, size: int = 20) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    mask = np.zeros((side, side), np.uint8)
    mask[top : top + size, top : top + size] = 255
    return mask


def _blurred(mask: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> Image.Image:
    """Resize down and up again, as an annotation tool does: the edge becomes a ramp."""
    small = Image.fromarray(mask).resize((16, 16), Image.Resampling.BILINEAR)
    return small.resize(mask.shape, Image.Resampling.BICUBIC)


def _dataset(root: Path, mask: Image.Image, mode: str = "png") -> Dataset:
    Image.new("RGB", mask.size).save(root / "0.png")
    mask.save(root / f"m.{mode}")
    bad = Sample("0.png", "a", "x", f"m.{mode}")
    return Dataset("d", ("a",), (Sample("good.png", "a"),), (bad,), root)


def test_a_continuum_is_cut_at_half_and_label_ids_are_not() -> None:
    blurred = _blurred(_square())
    assert is_graded(blurred)
    cut, loose = defect_pixels(blurred, COMMON), defect_pixels(blurred, replace(COMMON, mask_threshold="positive"))
    assert abs(int(cut.sum()) - 400) < 0.1 * 400
    assert loose.sum() > 1.5 * 400
    ids = Image.fromarray((np.arange(64 * 64).reshape(64, 64) % 9).astype(np.uint8))
    assert not is_graded(ids)
    halved = defect_pixels(ids, replace(COMMON, mask_threshold="half"))
    assert np.array_equal(halved, np.asarray(ids) >= 4)
    assert not defect_pixels(Image.new("L", (4, 4)), replace(COMMON, mask_threshold="half")).any()
    assert np.array_equal(defect_pixels(ids, COMMON), np.asarray(ids) > 0)
    assert not is_graded(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("P"))


@pytest.mark.parametrize("quality", [75, 95, 100])
def test_a_jpeg_mask_is_cut_to_what_was_drawn(tmp_path: Path, quality: int) -> None:
    truth = _square(64, 20, 21)
    Image.fromarray(truth).save(tmp_path / "m.jpg", quality=quality)
    with Image.open(tmp_path / "m.jpg") as mask:
        assert abs(int(defect_pixels(mask, COMMON).sum()) - 441) <= 4


@pytest.mark.parametrize("method", [Image.Resampling.BILINEAR, Image.Resampling.BOX])
def test_few_grey_levels_on_edges_are_cut_and_few_labels_of_areas_are_not(method: Image.Resampling) -> None:
    truth = Image.fromarray(_square(64, 21, 21))
    for side in (40, 96, 128):
        soft = truth.resize((side, side), method)
        found, loose = (int(defect_pixels(soft, rule).sum()) * (64 / side) ** 2 for rule in (COMMON, LOOSE))
        assert abs(found - 441) < 0.06 * 441
        assert loose >= found
    labels = np.zeros((64, 64), np.uint8)
    labels[10:20, 10:20], labels[30:40, 30:40], labels[50:60, 5:60] = 50, 150, 255
    assert np.array_equal(defect_pixels(Image.fromarray(labels), COMMON), labels > 0)


def test_a_perfect_map_is_perfect_on_an_antialiased_mask(tmp_path: Path) -> None:
    truth = _square(256, 80, 80)
    for protocol, expected in ((COMMON, 0.99), (protocol_named("common+positive_masks"), 0.0)):
        dataset = _dataset(tmp_path, _blurred(truth))
        masks = np.stack([read_mask(dataset, dataset.test[0], protocol), np.zeros((256, 256), bool)])
        maps = np.stack([truth, np.zeros_like(truth)]).astype(np.float32) / 255
        maps += np.random.RandomState(0).uniform(0, 0.1, maps.shape).astype(np.float32)
        found = evaluate_category(maps.max(axis=(1, 2)), [True, False], maps, masks, protocol).values
        assert found["pixel_aupro_30"] > expected
        assert (found["pixel_f1_max"] > 0.97) == (protocol is COMMON)


@pytest.mark.parametrize(
    ("top", "inside", "gone"), [(20, 400, ""), (0, 16, ""), (44, 16, ""), (-8, 0, "outside the crop")]
)
def test_what_a_crop_keeps(tmp_path: Path, top: int, inside: int, gone: str) -> None:
    mask = _square(top=top) if top >= 0 else _square(top=0, size=12)
    dataset = _dataset(tmp_path, Image.fromarray(mask))
    defect = int((mask > 0).sum())
    (kept,) = kept_of(dataset, dataset.test, CROP).values()
    assert kept == Kept(False, defect, defect, inside, float(defect))
    assert (kept.gone, kept.is_halved) == (gone, inside == 16)
    (tmp_path / "m.png").unlink()
    with pytest.raises(DataError, match="Copy it there"):
        kept_of(dataset, dataset.test, CROP)


def test_what_a_protocol_loses_without_a_crop(tmp_path: Path) -> None:
    small = Protocol("small", resize=16, mask_interpolation="bilinear", mask_rule="full")
    wide = np.zeros((64, 64), np.uint8)
    wide[:, 26:46] = 255  # four of its five columns are whole where each is the mean of eight pixels
    for mask, gone, is_halved in (
        (wide, "", False),
        (np.zeros_like(wide), "an empty mask", False),
        (_square(size=2), "too small for the protocol", False),
        (_square(top=20, size=11), "", True),  # one of 2.75 a side is
    ):
        dataset = _dataset(tmp_path, Image.fromarray(mask))
        os.utime(tmp_path / "m.png", ns=(0, int(mask.sum())))
        (kept,) = kept_of(dataset, dataset.test, small).values()
        assert (kept.gone, kept.is_halved) == (gone, is_halved), kept


def test_the_threshold_is_part_of_a_protocol_and_of_no_hash_of_before() -> None:
    loose = protocol_named("common+positive_masks")
    assert (loose.name, loose.mask_threshold) == ("common+positive_masks", "positive")
    assert "mask_threshold" not in COMMON.payload()
    specs = [RunSpec("m", {}, "s", "0" * 64, protocol) for protocol in (COMMON, loose)]
    assert specs[0].hash != specs[1].hash
    assert Protocol(**specs[1].payload()["protocol"]) == loose
    with pytest.raises(UnknownNameError, match=r"common\+positive_masks"):
        protocol_named("common+positive_mask")
    with pytest.raises(UnknownNameError):
        protocol_named("common+positive_masks+half_masks")
    assert protocol_named("common+depth12+half_masks") == protocol_named("common+half_masks+depth12")


def test_verify_lists_masks_of_many_levels_and_empty_ones(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "parts", tmp_path / "parts")
    folder = tmp_path / "parts" / "bolt" / "ground_truth" / "spot"
    assert verify_dataset("parts", tmp_path).ok
    Image.new("L", (64, 64)).save(folder / "000_mask.png")
    _blurred(_square()).save(folder / "001_mask.png")
    found = verify_dataset("parts", tmp_path)
    assert found.empty == ("bolt/ground_truth/spot/000_mask.png",)
    assert found.graded == ("bolt/ground_truth/spot/001_mask.png",)
    assert not found.ok


def test_a_tenth_of_a_mask_is_less_than_half_and_more_than_any(tmp_path: Path) -> None:
    """AnomalyGPT's scripts cut masks that were resized bilinearly above 0.1."""
    dataset = _dataset(tmp_path, Image.fromarray(_square(side=224, top=101, size=40)))
    sizes = {}
    for rule in ("positive", "tenth", "half", "full"):
        protocol = replace(PROTOCOLS["anomalygpt"], resize=100, mask_rule=rule)
        sizes[rule] = int(read_mask(dataset, dataset.test[0], protocol).sum())
    resized = Image.fromarray(_square(side=224, top=101, size=40)).resize((100, 100), Image.Resampling.BILINEAR)
    assert sizes["tenth"] == (np.asarray(resized) > 25).sum()
    assert sizes["full"] < sizes["half"] < sizes["tenth"] < sizes["positive"]
    assert PROTOCOLS["anomalygpt"].mask_rule == "tenth"
