"""Outlier weights of patches: how unlike the patches at the same place in other images (SoftPatch, arXiv 2403.14233).

Patches are compared position by position. Nearest neighbours are found with float32 matrix products, whose rounding
errors are bounded: every patch that could be among the k nearest is compared again in float64 by `squared_distance`,
and the smaller index wins a tie. The weights therefore do not depend on threads, blocks or the BLAS library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ltbench.blocks.memory_bank.farthest import squared_distance
from ltbench.compiled import compiled
from ltbench.cores import usable_cores
from ltbench.errors import ContractError, SpecError

LOF_NEIGHBOURS = 6
"""SoftPatch's k (its command line's default, and TailedCore's; the released code of SoftPatch runs with 5)."""

PRODUCTS = 2**22  # entries of a block of the product matrix: 16 MiB a thread
_UNIT = 2.0**-24  # largest relative error of one float32 rounding


def local_outlier_factor(
    points: NDArray[np.float32], k: int = LOF_NEIGHBOURS, *, threads: int | None = None
) -> NDArray[np.float64]:
    """Return the local outlier factor of every patch among the patches at its position (Breunig et al., SIGMOD 2000).

    As scikit-learn's `LocalOutlierFactor`, negated: k is at most n - 1, and 1e-10 is added to the mean reachability
    distance. Where more than k patches coincide their factor is 1 and that of patches beside them large but finite.
    scikit-learn leaves open which of several equally near patches count as neighbours; here those of smaller index do.

    Args:
        points: (positions, n, columns) float32; any strides.
        k: number of neighbours.
        threads: threads to use, all cores by default; the factors do not depend on it.

    Returns:
        (positions, n) float64, about 1 for an ordinary patch, larger for an outlier.

    Raises:
        ContractError: points of another type or shape, not finite, or fewer than 2 patches a position.
        SpecError: k below 1.
    """
    if k < 1:
        raise SpecError(f"Expected at least one neighbour, got k={k}. SoftPatch uses {LOF_NEIGHBOURS}.")

    def factors(patches: NDArray[np.float32]) -> NDArray[np.float64]:
        neighbours, distances = _nearest(patches, min(k, len(patches) - 1))
        reachability = np.maximum(distances, distances[neighbours, -1])
        density: NDArray[np.float64] = 1 / (reachability.mean(axis=1) + 1e-10)
        factor: NDArray[np.float64] = density[neighbours].mean(axis=1) / density
        return factor

    return _by_position(factors, points, threads)


def nearest_weight(points: NDArray[np.float32], *, threads: int | None = None) -> NDArray[np.float64]:
    """Return 1 + the Euclidean distance of every patch to the nearest other patch at its position.

    Arguments, result and errors are those of `local_outlier_factor`. Source: SoftPatch's weight method `nearest`, which
    adds the distance of the patch to itself; that is 0 here, and there the rounding error of a square root near 0.
    """
    return _by_position(lambda patches: _nearest(patches, 1)[1][:, 0] + 1, points, threads)


def gaussian_weight(points: NDArray[np.float32], *, threads: int | None = None) -> NDArray[np.float64]:
    """Return 1 + the Mahalanobis distance of every patch to the patches at its position.

    The covariance is the unbiased one plus 0.01 times the identity, as in PaDiM. Arguments, result and errors are those
    of `local_outlier_factor`. Source: SoftPatch's weight method `gaussian`.
    """

    def distances(patches: NDArray[np.float32]) -> NDArray[np.float64]:
        centred = patches - patches.mean(axis=0, dtype=np.float64)
        covariance = centred.T @ centred / (len(centred) - 1) + 0.01 * np.eye(centred.shape[1])
        whitened = solve_triangular(cholesky(covariance, lower=True), centred.T, lower=True)
        weight: NDArray[np.float64] = np.sqrt(np.square(whitened).sum(axis=0)) + 1
        return weight

    return _by_position(distances, points, threads)


def _by_position(
    weigh: Callable[[NDArray[np.float32]], NDArray[np.float64]], points: NDArray[np.float32], threads: int | None
) -> NDArray[np.float64]:
    """Return (positions, n) weights, each position weighed on a thread of its own."""
    if not isinstance(points, np.ndarray) or points.dtype != np.float32 or points.ndim != 3 or points.size == 0:
        kind = f"{points.dtype} {points.shape}" if isinstance(points, np.ndarray) else type(points).__name__
        raise ContractError(f"Expected non-empty float32 points (positions, n, columns), got {kind}. Convert them.")
    if points.shape[1] < 2:
        raise ContractError("Expected at least 2 images to compare patches between, got 1. Add images.")
    if threads is not None and threads < 1:
        raise SpecError(f"Expected at least one thread, got {threads}. Leave it out to use all cores.")

    def weigh_one(patches: NDArray[np.float32]) -> NDArray[np.float64]:
        if not np.isfinite(patches).all():
            raise ContractError("Expected finite points, got NaN or infinity. Look for a division by zero.")
        return weigh(np.ascontiguousarray(patches))

    # One BLAS thread a position: several would wait for one another, and sum in another order.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or usable_cores()) as pool:
        return np.stack(list(pool.map(weigh_one, points)))


def _nearest(patches: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return indices and Euclidean distances of every row's k nearest other rows, (n, k) each, nearest first."""
    n, columns = patches.shape
    neighbours, squares = np.empty((n, k), np.int64), np.empty((n, k))
    centred = patches - patches.mean(axis=0, dtype=np.float64)
    spread = float(np.abs(centred).max()) or 1.0
    rows = (centred / spread).astype(np.float32)
    norms = np.square(rows, dtype=np.float64).sum(axis=1)
    # What |b|^2 - 2ab is off by for two rows a, b: a sum of `columns` terms in any order and eight roundings beside it,
    # each relative to (|a| + |b|)^2 at most, and the errors in float64 before, relative to the uncentred patches.
    longest = math.sqrt(float(norms.max()))
    size = float(np.abs(patches).max()) / spread
    error = 4 * (columns + 8) * _UNIT * longest**2 + math.sqrt(columns) * size * longest * 2.0**-46
    step = max(1, PRODUCTS // n)
    for first in range(0, n, step):
        products = rows[first : first + step] @ rows.T
        _select(products, norms.astype(np.float32), first, patches, 2 * error, neighbours, squares)
    return neighbours, np.sqrt(squares)


@compiled
def _select(
    products: NDArray[np.float32],
    norms: NDArray[np.float32],
    first: int,
    patches: NDArray[np.float32],
    margin: float,
    neighbours: NDArray[np.int64],
    squares: NDArray[np.float64],
) -> None:
    """Write the nearest other rows of the rows from `first` on, given their products with all rows."""
    n, k = squares.shape
    rough, least = np.empty(n, np.float32), np.empty(k, np.float32)
    for r in range(products.shape[0]):
        row = first + r
        for j in range(n):
            rough[j] = norms[j] - np.float32(2) * products[r, j]
        rough[row] = np.inf
        limit = np.float32(kth_least(rough, least) + margin)
        squares[row] = np.inf
        for j in range(n):
            if rough[j] <= limit:
                square = squared_distance(patches[row], patches[j])
                if square < squares[row, k - 1]:
                    place = k - 1
                    while place > 0 and squares[row, place - 1] > square:
                        squares[row, place] = squares[row, place - 1]
                        neighbours[row, place] = neighbours[row, place - 1]
                        place -= 1
                    squares[row, place] = square
                    neighbours[row, place] = j
                    if squares[row, k - 1] == 0:  # k duplicates: nobody is nearer, and there may be thousands of them
                        break


@compiled
def kth_least(values: NDArray[np.float32], least: NDArray[np.float32]) -> np.float32:
    """Return the k-th least of n >= k values; `least` (k,) is overwritten."""
    k = len(least)
    least[:] = np.inf
    last: np.float32 = least[k - 1]
    for value in values:
        if value < last:
            place = k - 1
            while place > 0 and least[place - 1] > value:
                least[place] = least[place - 1]
                place -= 1
            least[place] = value
            last = least[k - 1]
    return last
