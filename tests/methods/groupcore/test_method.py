"""GroupCore: what its memory bank holds, leaves out and notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import ImageCounts, Runtime
from methods.groupcore.method import GroupCore

POSITIONS = 16
CONTAMINANTS = [4, 17]
TAILS = [8, 20, 32]
OFFLINE: dict[str, Any] = {"backbone": "tf_efficientnet_lite0", "embedding": "pooled", "odd_share": 0.07}


@pytest.fixture(scope="module")
def train() -> ArrayImages:
    """Thirty images of stripes, two of them with a bright spot, and three of checks among them, 64 x 64."""
    rng = np.random.RandomState(0)
    y, x = np.mgrid[:64, :64]
    stripes = 110 + 40 * np.sin(x / 3)[..., None] * np.ones(3)
    checks = 140 + 60 * (np.sign(np.sin(x / 5)) * np.sign(np.sin(y / 5)))[..., None] * np.array([1.0, 0.2, -0.6])
    images = np.stack([checks if index in TAILS else stripes for index in range(33)])
    images += rng.normal(0, 8, images.shape)
    images[CONTAMINANTS, 20:28, 20:28] = 250
    return ArrayImages(images.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> DiskFeatureStore:
    return DiskFeatureStore(tmp_path_factory.mktemp("features"))


def fitted(train: ArrayImages, store: DiskFeatureStore, **values: Any) -> tuple[GroupCore, dict[str, Any]]:
    runtime = Runtime(seed=7, feature_store=store)
    return GroupCore(**{**OFFLINE, **values}).fit(train, runtime), runtime.notes


def test_contaminants_stay_out_and_tails_go_in_with_all_views(train: ArrayImages, store: DiskFeatureStore) -> None:
    method, notes = fitted(train, store, coreset_ratio=1.0, tail_coreset_ratio=1.0)
    assert notes["tails"]["indices"] == TAILS
    assert notes["tails"]["class_sizes"] == [30, 3]
    assert [notes["tails"]["kappa"][index] for index in (0, 8)] == [30, 3]
    assert notes["odd_images"] == CONTAMINANTS
    expected = [POSITIONS * (0 if index in CONTAMINANTS else 8 if index in TAILS else 1) for index in range(33)]
    assert notes["memories"]["fine"]["by_image"] == expected
    assert len(method.memories_[0]) == notes["memories"]["fine"]["patches"] == sum(expected)


def test_no_share_leaves_no_image_out(train: ArrayImages, store: DiskFeatureStore) -> None:
    _, notes = fitted(train, store, odd_share=0.0, coreset_ratio=1.0, augmentation="none")
    assert notes["odd_images"] == []
    kept = np.array(notes["memories"]["fine"]["by_image"])
    assert (np.delete(kept, TAILS) == POSITIONS).all()
    assert kept[TAILS].sum() == int(0.16 * 3 * POSITIONS)


def test_shares_are_of_each_group(train: ArrayImages, store: DiskFeatureStore) -> None:
    _, notes = fitted(train, store)
    kept = np.array(notes["memories"]["fine"]["by_image"])
    assert kept[TAILS].sum() == int(0.16 * 3 * 8 * POSITIONS)
    assert kept.sum() - kept[TAILS].sum() == int(0.06 * 28 * POSITIONS)


def test_a_contaminant_that_was_left_out_scores_high(train: ArrayImages, store: DiskFeatureStore) -> None:
    method, _ = fitted(train, store, coreset_ratio=1.0)
    scores = method.predict(train).scores
    assert scores[CONTAMINANTS].min() > np.delete(scores, [*CONTAMINANTS, *TAILS]).max()


def test_rows_of_an_image_can_be_left_out(train: ArrayImages, store: DiskFeatureStore) -> None:
    """What is then found is what memory banks without these rows find, scale by scale."""
    method, notes = fitted(train, store, coreset_ratio=0.5)
    assert len(method.memories_) == 2
    left_out = [[index, (index + 1) % 33] for index in range(33)]
    found = method.predict_without(train, left_out)
    for name, memory in zip(("fine", "deep"), method.memories_, strict=True):
        origins = memory.arrays()["origins"]
        assert np.bincount(origins, minlength=33).tolist() == notes["memories"][name]["by_image"]
    whole = list(method.memories_)
    for index in (0, 8, 31):
        banks = [(memory.arrays()["memory"], memory.arrays()["origins"]) for memory in whole]
        method.memories_ = [NearestNeighbours(rows[~np.isin(of, left_out[index])]) for rows, of in banks]
        alone = method.predict(ArrayImages(train.images[index : index + 1]))
        np.testing.assert_array_equal(found.scores[index], alone.scores[0])
        np.testing.assert_array_equal(found.maps[index], alone.maps[0])


def test_files_change_nothing(train: ArrayImages, store: DiskFeatureStore, tmp_path: Path) -> None:
    method, notes = fitted(train, store)
    streamed = Runtime(seed=7, feature_store=store, scratch=tmp_path)
    other = GroupCore(**OFFLINE).fit(train, streamed)
    for one, two in zip(other.memories_, method.memories_, strict=True):
        np.testing.assert_array_equal(one.arrays()["memory"], two.arrays()["memory"])
    assert streamed.notes["odd_images"] == notes["odd_images"]


def test_the_estimate_counts_both_kinds_of_groups() -> None:
    method = GroupCore(**OFFLINE)
    both = method.memory_estimate(ImageCounts((64, 64), (200, 4), (10, 10)), streamed=False)
    assert {"coreset of 3,200 patches in 128 dimensions", "coreset of 512 patches in 128 dimensions"} <= set(
        both.phases
    )
    streamed = method.memory_estimate(ImageCounts((64, 64), (200, 4), (10, 10)), streamed=True)
    assert streamed.disk > 0
    assert both.disk == 0
