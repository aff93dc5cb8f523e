"""Feature extraction: the store changes nothing but the work that is done."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.extractor import FeatureExtractor, Maps
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.cores import usable_cores
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import NoProgress, Runtime, T

TINY = "test_resnet"


class CountingImages(ArrayImages):
    """Notes which images are decoded."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        super().__init__(images)
        self.decoded: list[int] = []

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        self.decoded.append(index)
        return super().__getitem__(index)


class Clock(NoProgress):
    """A `Progress` that notes what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def track(self, items: Iterable[T], phase: str, total: int | None = None, done: int = 0) -> Iterator[T]:
        self.events.append(f"track {phase} {total}")
        yield from items

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        self.events.append(f"start {phase}")
        yield
        self.events.append(f"stop {phase}")


def pixels(count: int = 7) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def extract(images: ArrayImages, runtime: Runtime, layers: tuple[int, ...] = (1, 2)) -> list[Maps]:
    return list(FeatureExtractor(TINY, layers, "random", runtime=runtime).extract(images))


def assert_same(one: list[Maps], other: list[Maps]) -> None:
    assert len(one) == len(other)
    for maps, others in zip(one, other, strict=True):
        for level, same in zip(maps, others, strict=True):
            assert level.dtype == np.float32
            np.testing.assert_array_equal(level, same)


def test_features_are_the_backbones_in_order() -> None:
    backbone = load_backbone(TINY, (1, 2), "random", seed=4)
    assert_same(extract(ArrayImages(pixels()), Runtime(seed=4)), [backbone(image) for image in pixels()])


def test_with_and_without_the_store(tmp_path: Path) -> None:
    plain = extract(ArrayImages(pixels()), Runtime())
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path))
    first, second = CountingImages(pixels()), CountingImages(pixels())
    assert_same(extract(first, runtime), plain)
    assert_same(extract(second, runtime), plain)
    assert sorted(first.decoded) == list(range(7))
    assert second.decoded == []


def test_only_new_images_are_decoded_and_order_is_kept(tmp_path: Path) -> None:
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path))
    extract(ArrayImages(pixels()[[1, 4, 5]]), runtime)
    images = CountingImages(pixels()[::-1].copy())
    assert_same(extract(images, runtime), extract(ArrayImages(pixels()[::-1].copy()), Runtime()))
    assert sorted(images.decoded) == [0, 3, 4, 6]


def test_methods_with_other_layers_share_what_they_have_in_common(tmp_path: Path) -> None:
    save_file(timm.create_model(TINY).state_dict(), tmp_path / "weights.safetensors")
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path / "features"))

    def with_layers(layers: tuple[int, ...], images: ArrayImages) -> list[Maps]:
        extractor = FeatureExtractor(TINY, layers, str(tmp_path / "weights.safetensors"), runtime=runtime)
        return list(extractor.extract(images))

    three = with_layers((1, 2, 3), ArrayImages(pixels()))
    images = CountingImages(pixels())
    assert_same(with_layers((2, 3), images), [maps[1:] for maps in three])
    assert images.decoded == []
    assert_same([maps[1:] for maps in with_layers((0, 3), images)], [maps[2:] for maps in three])
    assert sorted(images.decoded) == list(range(7))


def test_the_same_image_twice(tmp_path: Path) -> None:
    images = ArrayImages(pixels()[[0, 0, 0, 1, 0, 0]])
    assert_same(extract(images, Runtime(feature_store=DiskFeatureStore(tmp_path))), extract(images, Runtime()))


def test_no_images() -> None:
    assert extract(ArrayImages(pixels()[:0]), Runtime()) == []


def test_only_work_is_timed() -> None:
    clock = Clock()
    runtime = Runtime(progress=clock)
    for _ in FeatureExtractor(TINY, (1,), "random", runtime=runtime).extract(ArrayImages(pixels(3))):
        clock.events.append("caller")
    work = ["start features", "stop features", "caller"]
    assert clock.events == [*work[:2], "track features 3", *work * 3]


def test_the_record_learns_which_weights() -> None:
    runtime = Runtime()
    extract(ArrayImages(pixels(1)), runtime)
    digest = load_backbone(TINY, (1, 2), "random").weights_sha256
    assert runtime.notes["backbone"] == {
        "name": TINY,
        "layers": [1, 2],
        "weights": "random",
        "weights_sha256": digest,
    }


def test_a_caller_may_stop_early_or_write_to_the_maps(tmp_path: Path) -> None:
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path))
    extractor = FeatureExtractor(TINY, (1, 2), "random", runtime=runtime)
    for maps in extractor.extract(ArrayImages(pixels())):
        maps[0][...] = 0
        break
    for maps in extractor.extract(ArrayImages(pixels())):
        maps[0][...] = 0
    assert_same(extract(ArrayImages(pixels()), runtime), extract(ArrayImages(pixels()), Runtime()))


def test_an_image_that_cannot_be_read_is_the_callers_error() -> None:
    class Broken(CountingImages):
        def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
            if index == 3:
                raise OSError("image 3 is truncated")
            return super().__getitem__(index)

    with pytest.raises(OSError, match="image 3"):
        extract(Broken(pixels()), Runtime())


def test_an_image_that_cannot_be_read_is_an_error_when_its_turn_has_come() -> None:
    class Broken(ArrayImages):
        def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
            if index == 3:
                raise OSError("image 3 is truncated")
            return super().__getitem__(index)

    found = FeatureExtractor(TINY, (1, 2), "random", runtime=Runtime()).extract(Broken(pixels()))
    assert_same([next(found) for _ in range(3)], extract(ArrayImages(pixels()[:3]), Runtime()))
    with pytest.raises(OSError, match="image 3"):
        next(found)


def test_images_are_decoded_in_other_threads_and_not_far_ahead() -> None:
    class Noting(CountingImages):
        def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
            assert threading.current_thread() is not threading.main_thread()
            return super().__getitem__(index)

    images = Noting(np.zeros((300, 64, 64, 3), np.uint8))
    found = FeatureExtractor(TINY, (1,), "random", runtime=Runtime()).extract(images)
    next(found)
    found.close()  # type: ignore[attr-defined]
    limit = 4 * (usable_cores() + torch.get_num_threads())
    assert 0 < len(images.decoded) <= limit
