"""Densities of embeddings: scikit-learn's estimates, and what becomes of one, two and three images."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KernelDensity

from methods.cutpaste.density import Estimator, fit_density, normalised, shrunk_covariance


def _rows(count: int, dimensions: int = 24, seed: int = 0) -> NDArray[np.float32]:
    return np.random.RandomState(seed).normal(1, 1, (count, dimensions)).astype(np.float32)


def _scores(train: NDArray[np.float32], test: NDArray[np.float32], estimator: Estimator = "ledoit_wolf") -> list[float]:
    density = fit_density(train, estimator, 0.1)
    return [density.score(row) for row in normalised(test)]


def test_it_is_scikit_learns_where_there_are_images_enough() -> None:
    train, test = _rows(60), _rows(10, seed=1)
    reference = LedoitWolf().fit(normalised(train))
    assert np.square(_scores(train, test)) == pytest.approx(reference.mahalanobis(normalised(test)), rel=1e-6)
    kernels = KernelDensity(bandwidth=1.0).fit(normalised(train))
    constant = 24 / 2 * np.log(2 * np.pi)
    assert np.array(_scores(train, test, "kde")) + constant == pytest.approx(
        -kernels.score_samples(normalised(test)), rel=1e-9
    )


def test_an_unshrunk_gaussian() -> None:
    train, test = _rows(60), _rows(5, seed=1)
    rows, offsets = normalised(train), normalised(test) - normalised(train).mean(axis=0)
    precision = np.linalg.inv(np.cov(rows.T, bias=True))
    expected = np.sqrt(np.einsum("ni,ij,nj->n", offsets, precision, offsets))
    assert _scores(train, test, "full") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("estimator", ["ledoit_wolf", "full", "kde"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_give_scores_ordered_by_distance(count: int, estimator: Estimator) -> None:
    """Along a direction in which the training images do not differ, farther is more anomalous."""
    train = _rows(count, 64)
    density = fit_density(train, estimator, 0.1)
    centre = normalised(train).mean(axis=0)
    direction = np.random.RandomState(9).normal(size=64)
    basis = np.linalg.qr(normalised(train).T)[0]
    direction -= basis @ (basis.T @ direction)
    scores = [density.score(centre + step * direction) for step in (0.0, 0.01, 0.1, 0.5)]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores) and len(set(scores)) == 4


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_the_mean_scores_zero_and_lengths_do_not_matter(count: int) -> None:
    train, test = _rows(count), _rows(6, seed=3)
    density = fit_density(train, "ledoit_wolf", 0.1)
    assert density.score(normalised(train).mean(axis=0)) == pytest.approx(0, abs=1e-6)
    assert _scores(train * 7, test * np.float32(0.25)) == pytest.approx(_scores(train, test), rel=1e-4)


def test_equal_images_and_a_floor_that_binds_only_where_the_covariance_is_singular() -> None:
    rows = normalised(_rows(5))
    assert np.array_equal(shrunk_covariance(np.repeat(rows[:1], 4, axis=0), 0.0, 0.1), np.eye(24))
    assert np.linalg.eigvalsh(shrunk_covariance(rows, 0.0, 0.1)).min() > 0
    many = normalised(_rows(30))
    assert np.allclose(shrunk_covariance(many, 0.0, 0.9), np.cov(many.T, bias=True))
