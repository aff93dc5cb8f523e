"""How odd images are beside their group: against a plain implementation, and what gets which score."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ltbench.blocks.memory_bank.rows import Rows, new_rows
from methods.groupcore.odd_images import Scale, deal, held_out_scores, oddest

POSITIONS = 9


@pytest.fixture(scope="module")
def patches() -> NDArray[np.float32]:
    """Twelve images of nine patches; the last but one has one patch far away."""
    rng = np.random.RandomState(0)
    rows = rng.randn(12, POSITIONS, 4).astype(np.float32)
    rows[10, 3] += 20
    return rows.reshape(-1, 4)


def scores(patches: Rows, images: list[int], folds: int = 3, references: int = 10_000) -> NDArray[np.float32]:
    rng = np.random.RandomState(5)
    fold = deal(len(images), folds, rng)
    return held_out_scores(Scale(patches, 12), np.array(images), fold, references, rng)


def test_folds_are_of_like_size_and_none_is_empty() -> None:
    assert sorted(np.bincount(deal(11, 3, np.random.RandomState(0))).tolist()) == [3, 4, 4]
    assert np.bincount(deal(2, 5, np.random.RandomState(0))).tolist() == [1, 1]


def test_the_variance_is_that_of_all_patches(patches: NDArray[np.float32]) -> None:
    assert Scale(patches, 12).variance == pytest.approx(patches.astype(np.float64).var(axis=0).sum())
    assert Scale(np.ones((12, 4), np.float32), 12).variance == 1.0
    assert Scale(patches, 12).positions == POSITIONS


def test_against_the_definition(patches: NDArray[np.float32]) -> None:
    images = [0, 2, 3, 5, 7, 10, 11]
    fold = deal(len(images), 3, np.random.RandomState(5))
    blocks = patches.reshape(12, POSITIONS, 4).astype(np.float64)
    for place, (image, found) in enumerate(zip(images, scores(patches, images), strict=True)):
        others = np.concatenate([blocks[other] for other, own in zip(images, fold, strict=True) if own != fold[place]])
        distances = ((blocks[image][:, None] - others[None]) ** 2).sum(axis=2).min(axis=1)
        assert found == pytest.approx(distances.max(), rel=1e-5)


def test_an_image_with_a_far_patch_is_the_oddest(patches: NDArray[np.float32]) -> None:
    images = list(range(12))
    for references in (10_000, 24, 1):
        assert oddest(scores(patches, images, references=references), 0.1).tolist() == [10]


def test_a_fold_an_image_at_most(patches: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(scores(patches, [4, 10], folds=2), scores(patches, [4, 10], folds=5))


def test_rows_in_a_file_give_the_same(patches: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> None:
    stored = new_rows((len(patches), 4), folder=tmp_path_factory.mktemp("rows"))
    stored[: len(patches)] = patches
    np.testing.assert_array_equal(scores(stored, [1, 4, 10]), scores(patches, [1, 4, 10]))


def test_the_oddest_are_as_many_as_the_share_says() -> None:
    values = np.array([3, 1, 3, 2, 0, 3], np.float32)
    assert oddest(values, 0.5).tolist() == [0, 2, 5]
    assert oddest(values, 0.4).tolist() == [0, 2], "of equal ones the first"
    assert oddest(values, 0.1).tolist() == []
