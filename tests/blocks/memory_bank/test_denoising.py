"""Which patches a memory bank leaves out, against plain loops and values made with the released code of SoftPatch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor

from ltbench.blocks.memory_bank.coreset import coreset_size, draw_start, greedy_coreset, random_projection
from ltbench.blocks.memory_bank.denoising import WeightMethod, denoised_coreset, inliers, patch_weights
from ltbench.blocks.memory_bank.lof import gaussian_weight, local_outlier_factor, nearest_weight
from ltbench.errors import ContractError, SpecError

Patches = NDArray[np.float32]


def rng() -> np.random.RandomState:
    return np.random.RandomState(3)


def golden_patches() -> Patches:
    """12 images of 4 patches, image by image; with 128 columns nothing is projected."""
    patches = np.random.RandomState(1).randn(12, 4, 128).astype(np.float32)
    patches[0, 1] += 3
    patches[5, 2] += 1.5
    return patches.reshape(48, 128)


def test_golden_selection() -> None:
    weights = patch_weights(golden_patches(), 4, rng=rng())
    np.testing.assert_allclose(
        weights[[0, 1, 22, 33, 32]], [0.997775, 2.373914, 1.315587, 1.038692, 1.028453], atol=1e-6
    )
    keep = inliers(weights)
    assert set(np.flatnonzero(~keep).tolist()) == {1, 12, 13, 15, 22, 32, 33, 40}
    picks = denoised_coreset(golden_patches(), keep, 0.25, rng=rng())
    assert picks.tolist() == greedy_loop(golden_patches(), np.flatnonzero(keep), 10, start=rng().randint(40))
    assert picks.tolist() == [29, 30, 3, 18, 35, 42, 34, 27, 17, 25]


def greedy_loop(points: Patches, rows: NDArray[np.int64], count: int, start: int) -> list[int]:
    """Farthest-point sampling of some rows, one pick after the other."""
    exact = points.astype(np.float64)
    picks = [int(rows[start])]
    nearest = np.full(len(rows), np.inf)
    while len(picks) < count:
        nearest = np.minimum(nearest, ((exact[rows] - exact[picks[-1]]) ** 2).sum(axis=1))
        picks.append(int(rows[nearest.argmax()]))
    return picks


@pytest.mark.parametrize(
    ("method", "weigh"), [("lof", local_outlier_factor), ("nearest", nearest_weight), ("gaussian", gaussian_weight)]
)
def test_weights_are_those_of_each_position(method: WeightMethod, weigh: Any) -> None:
    patches = golden_patches()
    weights = patch_weights(patches, 4, rng=rng(), method=method)
    assert weights.shape == (48,)
    for position in range(4):
        assert np.array_equal(weights[position::4], weigh(patches[None, position::4])[0])


def test_other_dimensions_are_projected_first() -> None:
    patches = np.random.RandomState(5).randn(40 * 3, 20).astype(np.float32)
    weight = random_projection(20, 8, rng())
    assert weight is not None
    projected = (patches @ weight).reshape(40, 3, 8)
    weights = patch_weights(patches, 3, rng=rng(), lof_k=4, projection_dim=8).reshape(40, 3)
    for position in range(3):
        model = LocalOutlierFactor(n_neighbors=4).fit(projected[:, position].astype(np.float64))
        np.testing.assert_allclose(weights[:, position], -model.negative_outlier_factor_, rtol=1e-4)


def test_the_generator_is_drawn_from_once_and_in_order() -> None:
    """The projection of the weights, that of the coreset, its start: what follows is the same for both filters."""
    patches = np.random.RandomState(5).randn(60, 20).astype(np.float32)
    drawn, expected = rng(), rng()
    keep = inliers(patch_weights(patches, 3, rng=drawn, projection_dim=8))
    picks = denoised_coreset(patches, keep, 0.2, projection_dim=8, rng=drawn)
    random_projection(20, 8, expected)
    weight = random_projection(20, 8, expected)
    assert weight is not None
    rows = np.flatnonzero(keep)
    start = draw_start(len(rows), expected)
    assert picks[0] == rows[start]
    assert picks.tolist() == greedy_loop(
        (patches @ weight).astype(np.float32), rows, coreset_size(0.2, len(rows)), start
    )
    assert drawn.randint(10**9) == expected.randint(10**9)


@pytest.mark.parametrize("columns", [8, 20])
def test_the_coreset_is_that_of_a_copy(columns: int) -> None:
    patches = np.random.RandomState(6).randn(300, columns).astype(np.float32)
    keep = np.random.RandomState(7).rand(300) < 0.7
    generator = rng()
    weight = random_projection(columns, 8, generator)
    copy = patches[keep] if weight is None else (patches[keep] @ weight).astype(np.float32)
    expected = greedy_coreset(copy, coreset_size(0.1, len(copy)), start=draw_start(len(copy), generator))
    picks = denoised_coreset(patches, keep, 0.1, projection_dim=8, rng=rng())
    assert picks.tolist() == np.flatnonzero(keep)[expected].tolist()
    assert keep[picks].all()


@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.integers(1, 5).map(float) | st.floats(1, 9)),
    st.floats(0, 0.99),
)
@settings(deadline=None)
def test_inliers_are_below_the_quantile(weights: NDArray[np.float64], share: float) -> None:
    threshold = np.quantile(weights, 1 - share)
    loose = inliers(weights, share, strict=False)
    strict = inliers(weights, share)
    assert np.array_equal(loose, weights <= threshold)
    assert strict.any()
    assert loose.sum() >= (1 - share) * (len(weights) - 1)
    if (weights < threshold).any():
        assert np.array_equal(strict, weights < threshold)
    else:
        assert np.array_equal(strict, weights == weights.min())


def test_identical_images_are_all_kept() -> None:
    patches = np.tile(np.random.RandomState(0).randn(4, 128), (9, 1)).astype(np.float32)
    weights = patch_weights(patches, 4, rng=rng())
    assert inliers(weights).all()
    patches[5] += 1  # one patch of one image
    assert np.flatnonzero(~inliers(patch_weights(patches, 4, rng=rng()))).tolist() == [5]


def test_more_weights_than_torch_can_take_a_quantile_of() -> None:
    weights = np.random.RandomState(0).rand(2**24 + 100)
    assert abs(inliers(weights).mean() - 0.85) < 1e-6


def test_bad_input_is_refused() -> None:
    with pytest.raises(ContractError, match="5 patches of each image, got 48"):
        patch_weights(golden_patches(), 5, rng=rng())
    with pytest.raises(ContractError, match="at least 2 images"):
        patch_weights(golden_patches(), 48, rng=rng())
    for share in (-0.1, 1.0, np.nan):
        with pytest.raises(SpecError, match="share of outliers"):
            inliers(np.ones(3), share)
