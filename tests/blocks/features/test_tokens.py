"""Tokens from feature maps: alignment, pooling, the store, and arrays that stay on disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from ltbench.blocks.features.extractor import FeatureExtractor
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.features.tokens import (
    TokenExtractor,
    Tokens,
    aligned,
    grid_of,
    pooled,
    root_mean_square,
    stack_on_disk,
    unpooled,
)
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import LtbenchError, SpecError
from ltbench.method import Runtime

NETWORK = "tf_efficientnet_lite0"


def _images(count: int = 3) -> ArrayImages:
    return ArrayImages(np.random.RandomState(0).randint(0, 255, (count, 64, 64, 3)).astype(np.uint8))


def _extractor(runtime: Runtime, recipe: str = "8x8") -> TokenExtractor:
    return TokenExtractor(
        NETWORK, (1, 2), "random", tokens=lambda maps: aligned(maps, (8, 8)), recipe=recipe, runtime=runtime
    )


def test_levels_are_aligned_corner_on_corner() -> None:
    maps = tuple(np.random.RandomState(i).randn(2, side, side).astype(np.float32) for i, side in enumerate((9, 5, 3)))
    (tokens,) = aligned(maps, (5, 5))
    assert tokens.shape == (25, 6)
    grid = tokens.reshape(5, 5, 6)
    for number, level in enumerate(maps):
        part = grid[..., 2 * number : 2 * number + 2]
        for place in ((0, 0), (0, -1), (-1, 0), (-1, -1), (2, 2)):
            middle = tuple(p if p in (0, -1) else level.shape[1] // 2 for p in place)
            assert np.allclose(part[place], level[:, middle[0], middle[1]], atol=1e-6)
    assert np.array_equal(grid[..., 2:4], maps[1].transpose(1, 2, 0))


def test_shrinking_does_not_average() -> None:
    """Every other place of 9 falls on one of 5: values in between do not matter."""
    level = np.random.RandomState(0).randn(1, 9, 9).astype(np.float32)
    assert np.allclose(aligned((level,), (5, 5))[0].reshape(5, 5), level[0, ::2, ::2], atol=1e-6)


def test_pooling_counts_zeros_outside() -> None:
    ones = np.ones((2, 4, 4), np.float32)
    grid = pooled((ones,))[0].reshape(4, 4, 2)[..., 0]
    assert np.allclose([grid[0, 0], grid[0, 1], grid[1, 1]], [4 / 9, 6 / 9, 1.0])
    assert np.array_equal(unpooled((ones,))[0], np.ones((16, 2), np.float32))


def test_grids_divide_the_image() -> None:
    assert grid_of((224, 256), 16) == (14, 16)
    with pytest.raises(SpecError, match="230x230"):
        grid_of((230, 230), 16)


def test_the_store_changes_nothing(tmp_path: Path) -> None:
    images = _images()
    plain = list(_extractor(Runtime()).extract(images))
    store = DiskFeatureStore(tmp_path)
    first = list(_extractor(Runtime(feature_store=store)).extract(images))
    files = len(list(tmp_path.rglob("*.safetensors")))
    second = list(_extractor(Runtime(feature_store=store)).extract(images))
    for tokens in (first, second):
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(tokens, plain, strict=True))
    assert len(list(tmp_path.rglob("*.safetensors"))) == files == 3 * 3, "two levels and the tokens of three images"


def test_stored_tokens_are_read_instead_of_maps(tmp_path: Path) -> None:
    images, store = _images(1), DiskFeatureStore(tmp_path)
    extractor = _extractor(Runtime(feature_store=store))
    planted = np.full((64, 3), 7, np.float32)
    store.put(extractor.space, images.fingerprints[0], {"0": planted})
    assert np.array_equal(next(iter(extractor.extract(images)))[0], planted)
    assert _extractor(Runtime(feature_store=store), "another").space != extractor.space


def test_tokens_are_those_of_the_maps() -> None:
    images = _images()
    maps = list(FeatureExtractor(NETWORK, (1, 2), "random", runtime=Runtime()).extract(images))
    stacked = _extractor(Runtime()).on_disk(images)
    assert len(stacked) == 1
    assert stacked[0].shape == (3, 64, 64)
    for image, tokens in zip(maps, stacked[0], strict=True):
        assert np.array_equal(aligned(image, (8, 8))[0], tokens)


def test_arrays_stay_on_disk_and_leave_no_file(tmp_path: Path) -> None:
    rows: list[Tokens] = [(np.full((2, 3), i, np.float32), np.full(4, -i, np.float32)) for i in range(5)]
    left, right = stack_on_disk(iter(rows), 5, tmp_path / "new")
    assert isinstance(left, np.memmap)
    assert left.shape == (5, 2, 3)
    assert np.array_equal(right[:, 0], -np.arange(5))
    assert list((tmp_path / "new").iterdir()) == []


def test_a_full_disk_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(LtbenchError, match=r"Expected room for .*No space left.*--results"):
        stack_on_disk(((np.zeros((4, 2), np.float32),) for _ in range(3)), 3, tmp_path)


def test_no_images_is_an_error() -> None:
    with pytest.raises(SpecError, match="none"):
        _extractor(Runtime()).on_disk(ArrayImages(np.empty((0, 64, 64, 3), np.uint8)))


def test_root_mean_square() -> None:
    tokens = np.random.RandomState(0).randn(4, 9, 5).astype(np.float32) * 3
    assert np.isclose(root_mean_square(tokens), np.sqrt(np.mean(tokens.astype(np.float64) ** 2)))
