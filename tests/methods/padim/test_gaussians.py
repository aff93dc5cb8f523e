"""Gaussians at positions against numpy and scipy, one position after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis

from ltbench.errors import SpecError
from methods.padim.gaussians import BATCH, PositionGaussians

Images = NDArray[np.float32]


def features(n: int, positions: int, channels: int, seed: int = 0, offset: float = 3.0) -> Images:
    """Correlated channels away from the origin."""
    rng = np.random.RandomState(seed)
    mixing = rng.randn(positions, channels, channels) * np.geomspace(5, 0.05, channels)[:, None]
    images: Images = (np.einsum("npc,pcd->npd", rng.randn(n, positions, channels), mixing) + offset).astype(np.float32)
    return images


def expected(train: Images, test: Images, epsilon: float) -> NDArray[np.float64]:
    """The distances as the public code computes them: np.cov, inverse, scipy's mahalanobis."""
    found = np.empty(test.shape[:2])
    for position in range(test.shape[1]):
        vectors = train[:, position].astype(np.float64)
        inverse = np.linalg.inv(np.cov(vectors, rowvar=False) + epsilon * np.eye(vectors.shape[1]))
        for image, vector in enumerate(test[:, position].astype(np.float64)):
            found[image, position] = mahalanobis(vector, vectors.mean(axis=0), inverse)
    return found


@pytest.mark.parametrize(
    ("n", "positions", "channels"),
    [(40, 20, 7), (3 * BATCH, 5, 12), (BATCH + 1, 17, 3), (2, 4, 6), (10, 3, 60), (90, 2, 2)],
)
def test_equals_the_public_code(n: int, positions: int, channels: int) -> None:
    train, test = features(n, positions, channels), features(6, positions, channels, seed=1)
    test[0] = train[0]
    gaussians = PositionGaussians.fit(train, 0.01)
    np.testing.assert_allclose(gaussians.means, train.mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.stack(list(gaussians.distances(test))), expected(train, test, 0.01), rtol=1e-7)


@given(st.integers(2, 80), st.floats(-1e4, 1e4), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_no_digits_are_lost_far_from_the_origin(n: int, offset: float, seed: int) -> None:
    near = np.random.RandomState(seed).randint(-8, 8, (n, 3, 4)).astype(np.float32)
    whole = np.float32(round(offset))  # integers, so that the shift is exact
    test = near[:2] + np.float32(1)
    there = np.stack(list(PositionGaussians.fit(near + whole, 0.01).distances(test + whole)))
    here = np.stack(list(PositionGaussians.fit(near, 0.01).distances(test)))
    np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-9)


def test_distances_depend_on_neither_batch_nor_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = features(50, 40, 30), features(BATCH + 5, 40, 30, seed=2)
    once = np.stack(list(PositionGaussians.fit(train, 0.01).distances(test)))
    for cores in (1, 3):
        monkeypatch.setattr("methods.padim.gaussians.usable_cores", lambda cores=cores: cores)
        gaussians = PositionGaussians.fit(iter(train), 0.01)
        assert np.array_equal(np.stack(list(gaussians.distances(iter(test)))), once)
        alone = [next(gaussians.distances([image])) for image in test[::-1]]
        assert np.array_equal(np.stack(alone)[::-1], once)


def test_identical_images_leave_epsilon_alone() -> None:
    train = np.repeat(features(1, 3, 5), 9, axis=0)
    distances = next(PositionGaussians.fit(train, 0.25).distances([train[0] + np.float32(1)]))
    np.testing.assert_allclose(distances, np.sqrt(5 / 0.25), rtol=1e-6)


def test_nothing_to_score_gives_nothing() -> None:
    assert list(PositionGaussians.fit(features(4, 2, 3), 0.01).distances([])) == []


@pytest.mark.parametrize("n", [0, 1])
def test_a_covariance_needs_two_images(n: int) -> None:
    with pytest.raises(SpecError, match=f"at least 2 training images for a covariance, got {n}"):
        PositionGaussians.fit(features(n, 2, 3), 0.01)


def test_too_small_an_epsilon_is_refused() -> None:
    with pytest.raises(SpecError, match=r"epsilon .* got 1e-300"):
        PositionGaussians.fit(np.repeat(features(9, 2, 1).round(), 3, axis=2), 1e-300)  # three equal channels
