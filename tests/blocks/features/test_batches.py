"""Batches of one shape, on the CPU behind the switch: a result does not depend on what shares its batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ltbench.blocks import device
from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.batches import Maps
from ltbench.blocks.features.extractor import FeatureExtractor
from ltbench.blocks.features.room import backbone_room, maps_room, tokens_room, why_no_room
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.features.tokens import TokenExtractor, aligned
from ltbench.blocks.features.transformers import load_transformer
from ltbench.blocks.switches import Precision
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import Runtime
from tests.blocks.features.test_extractor import TINY, CountingImages, assert_same, pixels

BATCH = 4
TOLERANCE = 1e-5
"""Of a CPU's products in a batch beside those of one image, relative to the largest value."""


@pytest.fixture(autouse=True)
def _batched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    monkeypatch.setenv(device.VARIABLE, str(BATCH))


def extract(images: ArrayImages, runtime: Runtime | None = None, precision: Precision = "float32") -> list[Maps]:
    extractor = FeatureExtractor(TINY, (1, 2), "random", runtime=runtime or Runtime(), precision=precision)
    return list(extractor.extract(images))


def test_a_result_depends_neither_on_the_batch_nor_on_the_place_in_it() -> None:
    images = pixels(10)
    whole = extract(ArrayImages(images))
    assert_same(extract(ArrayImages(images[::-1])), whole[::-1])
    assert_same(extract(ArrayImages(images[3:4])), whole[3:4])  # alone in a padded batch
    assert_same(extract(ArrayImages(images[5:])), whole[5:])


def test_batches_give_what_one_image_after_the_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    batched = extract(ArrayImages(pixels(6)))
    monkeypatch.setattr(device, "BATCHED", ())
    for maps, others in zip(batched, extract(ArrayImages(pixels(6))), strict=True):
        for level, other in zip(maps, others, strict=True):
            np.testing.assert_allclose(level, other, rtol=0, atol=TOLERANCE * np.abs(other).max())
            assert level.flags.c_contiguous
            assert level.flags.writeable


def test_stored_maps_share_batches_with_computed_ones(tmp_path: Path) -> None:
    images, runtime = pixels(9), Runtime(feature_store=DiskFeatureStore(tmp_path))
    extract(ArrayImages(images[::2]), runtime)
    counting = CountingImages(images)
    found = extract(counting, runtime)
    assert sorted(counting.decoded) == [1, 3, 5, 7]
    assert_same(found, extract(ArrayImages(images)))
    again = CountingImages(images)
    assert_same(extract(again, runtime), found)
    assert not again.decoded


def test_what_follows_sees_stored_and_computed_levels_alike(tmp_path: Path) -> None:
    images, runtime = pixels(7), Runtime(feature_store=DiskFeatureStore(tmp_path))
    extract(ArrayImages(images[:3]), runtime)

    def sums() -> list[float]:
        extractor = FeatureExtractor(TINY, (1, 2), "random", runtime=runtime)
        found = extractor.extract_with(ArrayImages(images), lambda levels: [levels[1].mean(dim=(1, 2, 3))])
        return [float(value) for (value,) in found]

    first = sums()  # stores what was missing
    assert first == sums()
    np.testing.assert_allclose(first, [maps[1].mean() for maps in extract(ArrayImages(images))], rtol=1e-4)


def test_an_error_is_raised_when_its_turn_has_come() -> None:
    class Broken(ArrayImages):
        def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
            if index == 6:
                raise OSError("image 6 is truncated")
            return super().__getitem__(index)

    found = FeatureExtractor(TINY, (1, 2), "random", runtime=Runtime()).extract(Broken(pixels(9)))
    assert_same([next(found) for _ in range(6)], extract(ArrayImages(pixels(9)[:6])))
    with pytest.raises(OSError, match="image 6"):
        next(found)


def test_tokens_are_stored_and_found_in_order(tmp_path: Path) -> None:
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path))

    def tokens(images: NDArray[np.uint8], keeps_layers: bool) -> list[Maps]:
        extractor = TokenExtractor(
            *(TINY, (1, 2), "random"),
            tokens=lambda maps: aligned(maps, (4, 4)),
            recipe="4x4",
            runtime=runtime,
            keeps_layers=keeps_layers,
        )
        return list(extractor.extract(ArrayImages(images)))

    images = pixels(40)
    some = tokens(images[10:13], keeps_layers=False)
    found = tokens(images, keeps_layers=False)
    assert_same(found[10:13], some)
    assert_same(tokens(images, keeps_layers=False), found)
    assert_same(found, [aligned(maps, (4, 4)) for maps in extract(ArrayImages(images))])


def test_the_space_says_batch_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def spaces(precision: Precision = "float32") -> tuple[str, ...]:
        return load_backbone(TINY, (1,), "random", precision=precision).spaces

    four = spaces()
    monkeypatch.setenv(device.VARIABLE, "8")
    assert spaces() != four
    monkeypatch.setattr(device, "BATCHED", ())
    single = spaces()
    assert len({four, single, spaces("bf16")}) == 3


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_batch_is_a_whole_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(device.VARIABLE, text)
    with pytest.raises(SpecError, match=device.VARIABLE):
        load_backbone(TINY, (1,), "random")


def test_bfloat16_is_near_and_batch_invariant() -> None:
    images = pixels(6)
    half, full = extract(ArrayImages(images), precision="bf16"), extract(ArrayImages(images))
    assert_same(extract(ArrayImages(images[4:]), precision="bf16"), half[4:])
    for maps, others in zip(half, full, strict=True):
        for level, other in zip(maps, others, strict=True):
            assert level.dtype == np.float32
            assert 0 < np.abs(level - other).max() < 0.05 * np.abs(other).max()


def test_tf32_is_for_cuda() -> None:
    with pytest.raises(SpecError, match="--precision bf16"):
        load_backbone(TINY, (1,), "random", precision="tf32")


@pytest.mark.parametrize("kind", ["maps", "tokens"])
def test_too_little_room_is_told_with_the_batch_that_fits(kind: str) -> None:
    load = load_backbone if kind == "maps" else load_transformer
    backbone = load("wide_resnet50_2" if kind == "maps" else "vit_small_patch14_dinov2", (1, 2), "random")
    size = (224, 224)
    room = backbone_room(backbone, size)
    by_name = maps_room if kind == "maps" else tokens_room
    assert room == by_name(backbone.name, backbone.layers, size)
    assert room.weights == 4 * backbone.parameter_count
    assert why_no_room(backbone, size, room.of(BATCH)) == ""
    assert f"{device.VARIABLE}=2" in why_no_room(backbone, size, room.of(BATCH) - 1)
    assert why_no_room(backbone, size, 2**20).endswith("Pass --device cpu.")
