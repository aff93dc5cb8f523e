"""Outlier weights against scikit-learn, plain loops and values made with the released code of SoftPatch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor

from ltbench.blocks.memory_bank import lof
from ltbench.blocks.memory_bank.lof import gaussian_weight, local_outlier_factor, nearest_weight
from ltbench.errors import ContractError, SpecError

Points = NDArray[np.float32]
Weights = NDArray[np.float64]


def squares(patches: Points) -> Weights:
    exact = patches.astype(np.float64)
    matrix: Weights = np.square(exact[:, None] - exact[None]).sum(axis=2)
    np.fill_diagonal(matrix, np.inf)
    return matrix


def lof_loop(patches: Points, k: int) -> Weights:
    """Breunig's definition with scikit-learn's 1e-10; equally near patches in the order of their indices."""
    distances = np.sqrt(squares(patches))
    k = min(k, len(patches) - 1)
    neighbours = np.argsort(distances, axis=1, kind="stable")[:, :k]
    reach = np.array([distances[j, neighbours[j, -1]] for j in range(len(patches))])
    density = np.array(
        [1 / (np.mean([max(distances[i, j], reach[j]) for j in near]) + 1e-10) for i, near in enumerate(neighbours)]
    )
    return np.array([density[near].mean() / density[i] for i, near in enumerate(neighbours)])


def scikit_learn(points: Points, k: int) -> Weights:
    """scikit-learn's factors in float64; in float32 it confuses neighbours whose distances differ by a millionth."""
    model: Any = LocalOutlierFactor(n_neighbors=k, metric="l2")
    return np.stack([-model.fit(patches.astype(np.float64)).negative_outlier_factor_ for patches in points])


def features(positions: int, n: int, columns: int, seed: int = 0) -> Points:
    """Patches of two kinds of image with a few outliers, away from the origin."""
    rng = np.random.RandomState(seed)
    kinds = rng.randn(positions, 2, columns) * 4
    points = np.stack([kinds[:, i % 2] for i in range(n)], axis=1) + rng.randn(positions, n, columns) + 5
    points += rng.randn(positions, n, columns) * np.where(np.arange(n) % 50 == 1, 3, 0)[:, None]
    return points.astype(np.float32)


@pytest.mark.parametrize(("n", "columns", "k"), [(300, 64, 6), (150, 128, 5), (40, 5, 1), (60, 16, 20)])
def test_equals_scikit_learn(n: int, columns: int, k: int) -> None:
    points = features(5, n, columns, seed=n)
    ours = local_outlier_factor(points, k)
    theirs = scikit_learn(points, k)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert np.array_equal(ours < np.quantile(ours, 0.85), theirs < np.quantile(theirs, 0.85))


@pytest.mark.parametrize("n", [2, 3, 6, 7])
def test_as_few_images_as_neighbours_is_what_scikit_learn_makes_of_it(n: int) -> None:
    points = features(3, n, 8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_neighbors", UserWarning)  # it says that it takes n - 1 instead of 6
        theirs = scikit_learn(points, 6)
    np.testing.assert_allclose(local_outlier_factor(points, 6), theirs, rtol=1e-9)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(2, 25), st.integers(1, 9)), elements=st.integers(-2, 2).map(float)),
    st.integers(1, 8),
)
@settings(deadline=None, max_examples=80)
def test_ties_and_duplicates_are_defined_and_finite(patches: Points, k: int) -> None:
    weights = local_outlier_factor(patches[None], k, threads=1)[0]
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights, lof_loop(patches, k), rtol=1e-9)
    np.testing.assert_allclose(nearest_weight(patches[None], threads=1)[0], 1 + np.sqrt(squares(patches).min(axis=1)))


@given(st.integers(0, 2**32 - 1), st.integers(-36, 34), st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=40)
def test_neighbours_are_exact_at_every_scale_and_offset(seed: int, exponent: int, offset: float) -> None:
    rng = np.random.RandomState(seed)
    patches = ((rng.randn(30, 12) + offset) * 10.0**exponent).astype(np.float32)
    nearest = nearest_weight(patches[None], threads=1)[0] - 1
    expected = np.sqrt(squares(patches).min(axis=1))
    np.testing.assert_allclose(nearest, (expected + 1) - 1, rtol=1e-12)
    neighbours, distances = lof._nearest(patches, 5)
    assert np.array_equal(neighbours, np.argsort(squares(patches), axis=1, kind="stable")[:, :5])
    np.testing.assert_allclose(distances[:, 0], expected, rtol=1e-12)


def test_identical_images_have_weight_1_and_their_neighbours_a_large_one() -> None:
    patches = np.concatenate([np.full((20, 6), 0.1), np.full((1, 6), 0.2)]).astype(np.float32)
    weights = local_outlier_factor(patches[None], 6)[0]
    assert np.array_equal(weights[:20], np.ones(20))
    assert 1e8 < weights[20] < 1e10
    assert np.array_equal(local_outlier_factor(np.ones((2, 9, 4), np.float32), 3), np.ones((2, 9)))


def test_weights_depend_on_neither_threads_nor_blocks_nor_order(monkeypatch: pytest.MonkeyPatch) -> None:
    points = features(6, 120, 32)
    for weigh in (local_outlier_factor, nearest_weight, gaussian_weight):
        once = weigh(points, threads=1)
        assert once.shape == (6, 120)
        assert once.dtype == np.float64
        for threads in (2, 4, None):
            assert np.array_equal(weigh(points, threads=threads), once)
        assert np.array_equal(weigh(points[::-1]), once[::-1])
        np.testing.assert_allclose(weigh(points[:, ::-1]), once[:, ::-1], rtol=1e-12)
    once = local_outlier_factor(points)
    monkeypatch.setattr(lof, "PRODUCTS", 250)  # two rows at a time
    assert np.array_equal(local_outlier_factor(points), once)


def test_image_major_features_need_no_copy() -> None:
    image_major = features(4, 50, 16).transpose(1, 0, 2).copy()
    by_position = np.ascontiguousarray(image_major.transpose(1, 0, 2))
    for weigh in (local_outlier_factor, nearest_weight, gaussian_weight):
        assert np.array_equal(weigh(image_major.transpose(1, 0, 2)), weigh(by_position))


def test_scaling_and_shifting_leave_the_factor_alone() -> None:
    points = features(2, 60, 16)
    np.testing.assert_allclose(local_outlier_factor(points * np.float32(8)), local_outlier_factor(points), rtol=1e-8)
    whole = points.round()  # integers, so that the shift is exact
    np.testing.assert_allclose(local_outlier_factor(whole + np.float32(100)), local_outlier_factor(whole), rtol=1e-12)


def golden_points() -> Points:
    """12 images of 4 positions; the golden values are in image-major order."""
    points = np.random.RandomState(1).randn(12, 4, 128).astype(np.float32)
    points[0, 1] += 3
    points[5, 2] += 1.5
    return points.transpose(1, 0, 2)


def test_golden_factors_of_the_released_code() -> None:
    weights = local_outlier_factor(golden_points(), 6).T.ravel()
    np.testing.assert_allclose(weights[:6], [0.997775, 2.373914, 0.996370, 0.999986, 1.002258, 1.000195], atol=1e-6)
    assert np.argsort(-weights)[:4].tolist() == [1, 22, 33, 32]
    np.testing.assert_allclose(weights[[1, 22, 33, 32]], [2.373914, 1.315587, 1.038692, 1.028453], atol=1e-6)
    np.testing.assert_allclose(weights.sum(), 49.80975, atol=1e-5)
    threshold = np.quantile(weights, 0.85)
    np.testing.assert_allclose(threshold, 1.014191, atol=1e-6)
    assert set(np.flatnonzero(weights >= threshold).tolist()) == {1, 12, 13, 15, 22, 32, 33, 40}

    weights = local_outlier_factor(golden_points(), 5).T.ravel()
    np.testing.assert_allclose(weights[:6], [0.99256, 2.44584, 0.99818, 0.99970, 1.00769, 1.02343], atol=6e-6)
    np.testing.assert_allclose(weights[[1, 22, 33]], [2.44584, 1.32150, 1.06503], atol=6e-6)
    np.testing.assert_allclose(np.quantile(weights, 0.85), 1.01933, atol=6e-6)


def test_golden_factors_of_a_tail() -> None:
    """Three images of a rare category at a position reach into the other category for neighbours."""
    rng = np.random.RandomState(0)
    patches = np.concatenate([rng.randn(30, 128) * 0.1, rng.randn(3, 128) * 0.1 + 5]).astype(np.float32)
    weights = local_outlier_factor(patches[None], 6)[0]
    assert np.argsort(-weights)[:4].tolist() == [31, 30, 32, 24]
    np.testing.assert_allclose(np.sort(weights)[:-5:-1], [25.2834, 25.2662, 25.2637, 1.0313], atol=6e-5)


def test_golden_nearest_and_gaussian_weights_of_the_released_code() -> None:
    """The released code adds the float32 rounding error of a patch's distance to itself, up to 0.03, and inverts in
    float32.
    """
    weights = nearest_weight(golden_points()).T.ravel()
    np.testing.assert_allclose(weights[:6], [15.05611, 38.41038, 15.57882, 14.91649, 15.76399, 15.18257], atol=0.03)
    np.testing.assert_allclose(weights[[1, 22, 18]], [38.41038, 21.82326, 17.14404], atol=0.03)
    assert np.argsort(-weights)[:3].tolist() == [1, 22, 18]
    np.testing.assert_allclose(np.quantile(weights, 0.85), 16.30793, atol=0.03)
    weights = gaussian_weight(golden_points()).T.ravel()
    np.testing.assert_allclose(weights[:6], [4.17366, 4.17509, 4.17396, 4.17387, 4.17403, 4.17406], atol=3e-4)
    assert np.argsort(-weights)[:3].tolist() == [1, 22, 33]


def test_gaussian_weight_is_the_mahalanobis_distance_plus_1() -> None:
    points = features(3, 200, 10)
    for patches, weights in zip(points.astype(np.float64), gaussian_weight(points), strict=True):
        inverse = np.linalg.inv(np.cov(patches.T) + 0.01 * np.eye(10))
        centred = patches - patches.mean(axis=0)
        np.testing.assert_allclose(weights, 1 + np.sqrt(np.einsum("ij,jk,ik->i", centred, inverse, centred)), rtol=1e-9)


@pytest.mark.parametrize("weigh", [local_outlier_factor, nearest_weight, gaussian_weight])
def test_bad_points_are_refused(weigh: Any) -> None:
    points = features(2, 8, 4)
    with pytest.raises(ContractError, match="float64"):
        weigh(points.astype(np.float64))
    with pytest.raises(ContractError, match=r"\(8, 4\)"):
        weigh(points[0])
    with pytest.raises(ContractError, match="at least 2 images"):
        weigh(points[:, :1])
    with pytest.raises(ContractError, match="non-empty"):
        weigh(points[:0])
    with pytest.raises(SpecError, match="thread"):
        weigh(points, threads=0)
    for value in (np.nan, np.inf):
        points[1, 3, 2] = value
        with pytest.raises(ContractError, match="NaN or infinity"):
            weigh(points)


def test_no_neighbours_are_refused() -> None:
    with pytest.raises(SpecError, match="k=0"):
        local_outlier_factor(features(2, 8, 4), 0)
