"""Readings of sets of images: in batches of one shape, behind the switch on a CPU, as one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ltbench.blocks import device
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.vision_language import LAST, Reading, Views, load_reader, readings
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from tests.blocks.features.test_extractor import CountingImages

BATCH = 4
CLIP = Views((2,), (1, LAST), local=(LAST,), value_blocks=1)
MAPS = Views((2,), (LAST,), local=(LAST,))
READERS = {"tiny-clip": CLIP, "tiny": MAPS}


@pytest.fixture(autouse=True)
def _batched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    monkeypatch.setenv(device.VARIABLE, str(BATCH))


def pixels(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 96, 96, 3), np.uint8)


def read(name: str, images: ArrayImages, runtime: Runtime | None = None, side: int = 128) -> list[Reading]:
    runtime = runtime or Runtime()
    weights = "random" if name == "tiny-clip" else ""
    return list(readings(load_reader(name, weights, runtime=runtime), images, READERS[name], side, runtime))


def assert_same(one: list[Reading], other: list[Reading], rtol: float = 0.0) -> None:
    assert len(one) == len(other)
    for mine, others in zip(one, other, strict=True):
        assert mine.grid == others.grid
        assert mine.arrays.keys() == others.arrays.keys()
        for name, array in mine.arrays.items():
            wanted = others.arrays[name]
            np.testing.assert_allclose(array, wanted, rtol=0, atol=rtol * np.abs(wanted).max())


@pytest.mark.parametrize("name", READERS)
def test_a_reading_depends_neither_on_the_batch_nor_on_the_place_in_it(name: str) -> None:
    images = pixels(10)
    whole = read(name, ArrayImages(images))
    assert_same(read(name, ArrayImages(images[::-1]))[::-1], whole)
    assert_same(read(name, ArrayImages(images[3:4])), whole[3:4])
    assert_same(read(name, ArrayImages(images[5:])), whole[5:])


@pytest.mark.parametrize("name", READERS)
def test_batches_give_what_one_image_after_the_other_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batched = read(name, ArrayImages(pixels(6)))
    monkeypatch.setattr(device, "BATCHED", ())
    assert_same(batched, read(name, ArrayImages(pixels(6))), rtol=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_stored_readings_share_batches_with_new_ones(name: str, tmp_path: Path) -> None:
    images, runtime = pixels(9), Runtime(feature_store=DiskFeatureStore(tmp_path))
    whole = read(name, ArrayImages(images))
    read(name, ArrayImages(images[::2]), runtime)
    counting = CountingImages(images)
    assert_same(read(name, counting, runtime), whole)
    assert sorted(counting.decoded) == [1, 3, 5, 7]
    again = CountingImages(images)
    assert_same(read(name, again, runtime), whole)
    assert not again.decoded


def test_an_error_is_raised_when_its_turn_has_come() -> None:
    class Broken(ArrayImages):
        def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
            if index == 6:
                raise OSError("image 6 is truncated")
            return super().__getitem__(index)

    runtime = Runtime()
    reader = load_reader("tiny-clip", "random", runtime=runtime)
    found = readings(reader, Broken(pixels(9)), CLIP, 128, runtime)
    assert_same([next(found) for _ in range(6)], read("tiny-clip", ArrayImages(pixels(9)[:6])))
    with pytest.raises(OSError, match="image 6"):
        next(found)


def test_batches_are_part_of_a_readings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> list[Any]:
        runtime = Runtime()
        reader = load_reader("tiny-clip", "random", runtime=runtime)
        return [reader.identity(), runtime.notes["foundation_model"].get("batch")]

    four = names()
    monkeypatch.setenv(device.VARIABLE, "8")
    eight = names()
    monkeypatch.setattr(device, "BATCHED", ())
    single = names()
    assert len({four[0], eight[0], single[0]}) == 3
    assert [four[1], eight[1], single[1]] == [4, 8, None]
