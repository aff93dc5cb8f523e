"""How usual an embedding is among those of the training images: a shrunk Gaussian, or a kernel density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage

Matrix = NDArray[np.float64]
Estimator = Literal["ledoit_wolf", "full", "kde"]


def normalised(embeddings: NDArray[np.floating]) -> Matrix:
    """Return embeddings (N, D) of length 1, float64; one of zeros stays."""
    rows = embeddings.astype(np.float64)
    lengths: Matrix = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = rows / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit


def shrunk_covariance(rows: Matrix, shrinkage: float, floor: float) -> Matrix:
    """Return (1 - s) C + s m I, where C is the covariance of the rows (with 1/N) and m the mean of its diagonal.

    Without any spread, of one row or of equal ones, it is the identity. Where C is singular, since there are no more
    rows than dimensions, s is at least `floor`: the estimate of s itself breaks down for a few rows (it is 0 of two).

    Args:
        rows: (N, D).
        shrinkage: s.
        floor: least s where N <= D, above 0.
    """
    count, dimensions = rows.shape
    centred = rows - rows.mean(axis=0)
    covariance: Matrix = centred.T @ centred / count
    mean = float(np.trace(covariance)) / dimensions
    if mean <= np.finfo(np.float64).eps ** 2:
        return np.eye(dimensions)
    share = max(shrinkage, floor) if count <= dimensions else shrinkage
    shrunk: Matrix = (1 - share) * covariance + share * mean * np.eye(dimensions)
    return shrunk


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian; the score is the Mahalanobis distance from its mean.

    Args:
        mean: (D,).
        precision: (D, D), the inverse covariance.
    """

    mean: Matrix
    precision: Matrix

    @classmethod
    def fit(cls, rows: Matrix, estimator: Estimator, floor: float) -> Gaussian:
        """Fit it to rows (N, D).

        "ledoit_wolf" shrinks the covariance as Ledoit and Wolf (2004) estimate, as scikit-learn does it; "full" does
        not shrink it. `floor` is that of `shrunk_covariance`.
        """
        wanted = float(ledoit_wolf_shrinkage(rows)) if estimator == "ledoit_wolf" and len(rows) > 1 else 0.0
        precision = np.linalg.inv(shrunk_covariance(rows, wanted, floor)).astype(np.float64)
        return cls(rows.mean(axis=0), (precision + precision.T) / 2)

    def score(self, row: Matrix) -> float:
        """Return sqrt((x - m)^T P (x - m)) of a row (D,)."""
        offset = row - self.mean
        return math.sqrt(max(float(offset @ self.precision @ offset), 0.0))


@dataclass(frozen=True)
class Kernels:
    """A Gaussian kernel of bandwidth 1 on each training row; the score is minus the log of the density.

    Its constant D/2 log(2 pi) is left out: beside it, float32 would tell few scores apart.

    Args:
        rows: (N, D).
    """

    rows: Matrix

    def score(self, row: Matrix) -> float:
        """Return log N - log sum exp(-|x - x_i|^2 / 2) of a row (D,)."""
        squares = np.square(self.rows - row).sum(axis=1)
        return float(np.log(len(self.rows)) - logsumexp(-squares / 2))


Density = Gaussian | Kernels


def fit_density(embeddings: NDArray[np.floating], estimator: Estimator, floor: float) -> Density:
    """Return the density of embeddings (N, D), which are set to length 1 first."""
    rows = normalised(embeddings)
    return Kernels(rows) if estimator == "kde" else Gaussian.fit(rows, estimator, floor)
