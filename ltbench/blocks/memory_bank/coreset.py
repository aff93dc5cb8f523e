"""Coresets: which rows of a memory bank are kept, as PatchCore (arXiv 2106.08265, algorithm 1) and its successors do.

The samplers differ in where they start: `greedy_coreset` at a random row, which is kept (the code of TailedCore),
`official_greedy_coreset` at the row farthest from all, and `approximate_greedy_coreset` with the mean distances to a
few random rows, which are not kept (both amazon-science/patchcore-inspection). From there on all of them pick the row
that is farthest from the rows picked so far; the smallest index wins a tie and no row is picked twice.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.memory_bank.farthest import farthest_first, squared_distance
from ltbench.compiled import compiled
from ltbench.errors import ContractError, SpecError

STARTS = 10
"""Rows that PatchCore's approximate sampler starts from (`number_of_starting_points`)."""

SOFTPATCH_STARTS = 128
"""Rows that SoftPatch's weighted sampler starts from: its constructor hands the 128 dimensions of the projection to the
parameter that counts starting rows (src/sampler.py), so that 10 is what was meant and 128 what was run."""


def coreset_size(ratio: float, n: int) -> int:
    """Return how many of n rows a coreset keeps: floor(ratio * n), but at least one.

    The ratio is read as the decimal that it prints as, so that 0.29 of 100 are 29 (as floats they come to 28.999...).

    Raises:
        SpecError: a ratio outside (0, 1] or no rows.
    """
    if not 0 < ratio <= 1:
        raise SpecError(f"Expected a coreset ratio in (0, 1], got {ratio}. The papers use 0.1.")
    if n < 1:
        raise SpecError(f"Expected rows to choose a coreset from, got {n}. Check that the training set is not empty.")
    return max(1, math.floor(Fraction(repr(float(ratio))) * n))


def random_projection(dim_in: int, dim_out: int, rng: np.random.RandomState) -> NDArray[np.float32] | None:
    """Draw the random projection in which the authors measure distances: a linear layer without bias, never trained.

    Its weights have the default distribution of torch.nn.Linear, U(-1/sqrt(dim_in), 1/sqrt(dim_in)).

    Returns:
        (dim_in, dim_out) float32, to multiply features by from the right, or None if the dimensions are equal: the
        authors then leave the features as they are, and nothing is drawn.
    """
    if dim_in < 1 or dim_out < 1:
        raise SpecError(f"Expected positive dimensions, got {dim_in} and {dim_out}. The papers project to 128.")
    if dim_in == dim_out:
        return None
    limit = 1 / math.sqrt(dim_in)
    return rng.uniform(-limit, limit, (dim_in, dim_out)).astype(np.float32)


def draw_start(n: int, rng: np.random.RandomState) -> int:
    """Draw the row that `greedy_coreset` starts from, as TailedCore's code does: `randint(n)`."""
    return int(rng.randint(n))


def draw_starts(n: int, rng: np.random.RandomState, count: int = STARTS) -> NDArray[np.int64]:
    """Draw the rows that `approximate_greedy_coreset` starts from: `choice(n, min(count, n), replace=False)`."""
    return np.asarray(rng.choice(n, min(count, n), replace=False), np.int64)


def greedy_coreset(
    points: NDArray[np.float32], count: int, *, start: int, threads: int | None = None
) -> NDArray[np.int64]:
    """Pick rows by exact farthest-point sampling, beginning with the row `start`.

    Equal, index for index, to a loop that keeps every row's `squared_distance` to the nearest pick in float64. When
    only duplicates of picked rows are left they follow in order.

    Args:
        points: (N, columns) float32.
        count: how many rows to pick, 1 to N.
        start: index of the first pick.
        threads: threads to use, all cores by default; the picks do not depend on it.

    Returns:
        The indices in the order of picking, (count,) int64, all different.

    Raises:
        ContractError: points of another type or shape, or not finite.
        SpecError: a count or start out of range.
    """
    points = _checked(points, count, threads)
    _check_indices("start", np.asarray([start]), len(points))
    return farthest_first(points, np.full(len(points), np.inf), int(start), count, threads)


def official_greedy_coreset(
    points: NDArray[np.float32], count: int, *, threads: int | None = None
) -> NDArray[np.int64]:
    """Pick rows as the authors' exact sampler does, without its N x N matrix.

    That sampler starts with the row whose distances to all rows have the largest L2 norm. The norm's square is
    sum_j |x_i - x_j|^2 = N |x_i - mean|^2 + a constant, so it is the row farthest from the mean; and the norm is never
    less than a single distance, so from the second pick on nothing is left of it.
    """
    points = _checked(points, count, threads)
    mean = points.mean(axis=0, dtype=np.float64)
    chunks = (points[a : a + 8192] - mean for a in range(0, len(points), 8192))
    start = np.concatenate([np.square(chunk, out=chunk).sum(axis=1) for chunk in chunks]).argmax()
    return greedy_coreset(points, count, start=int(start), threads=threads)


def approximate_greedy_coreset(
    points: NDArray[np.float32],
    count: int,
    *,
    starts: NDArray[np.int64],
    weights: NDArray[np.generic] | None = None,
    threads: int | None = None,
) -> NDArray[np.int64]:
    """Pick rows as the authors' approximate sampler does: greedily, from the mean distances to a few starting rows.

    Every row's anchor begins as its mean Euclidean distance to the starting rows, which are not themselves kept. The
    row with the largest anchor is picked, and anchors become min(anchor, weight * distance to the pick). As in the
    released code of SoftPatch, the first anchors are not weighted: the first pick may have weight 0. After it, rows of
    weight 0 are picked only when nothing else is left.

    Args:
        points: (N, columns) float32.
        count: how many rows to pick, 1 to N.
        starts: indices of the starting rows (`draw_starts`).
        weights: (N,), 1 for rows that may be picked and 0 for those that may not: SoftPatch's weighted sampling.
        threads: threads to use, as in `greedy_coreset`, whose result and errors these are too.
    """
    points = _checked(points, count, threads)
    starts = np.asarray(starts)
    _check_indices("starts", starts, len(points))
    anchors = np.empty(len(points))
    _mean_distances(points, np.ascontiguousarray(starts, np.int64), anchors)
    first = int(anchors.argmax())
    anchors *= anchors
    if weights is not None:
        weights = np.asarray(weights)
        if weights.shape != (len(points),) or not np.isin(weights, (0, 1)).all():
            raise ContractError(f"Expected {len(points)} weights of 0 or 1, got others. Threshold them first.")
        anchors[weights == 0] = 0
    return farthest_first(points, anchors, first, count, threads)


@compiled
def _mean_distances(points: NDArray[np.float32], starts: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    for row in range(len(points)):
        total = 0.0
        for start in starts:
            total += math.sqrt(squared_distance(points[row], points[start]))
        out[row] = total / len(starts)


def _checked(points: NDArray[np.float32], count: int, threads: int | None) -> NDArray[np.float32]:
    if not isinstance(points, np.ndarray) or points.dtype != np.float32 or points.ndim != 2 or points.size == 0:
        kind = f"{points.dtype} {points.shape}" if isinstance(points, np.ndarray) else type(points).__name__
        raise ContractError(f"Expected points as a non-empty float32 array (N, columns), got {kind}. Convert them.")
    if not (math.isfinite(points.min()) and math.isfinite(points.max())):  # both pass NaN on, and need no extra memory
        raise ContractError("Expected finite points, got NaN or infinity. Look for a division by zero in the features.")
    if not 1 <= count <= len(points):
        raise SpecError(f"Expected a coreset of 1 to {len(points)} rows, got {count}. Change the coreset ratio.")
    if threads is not None and threads < 1:
        raise SpecError(f"Expected at least one thread, got {threads}. Leave it out to use all cores.")
    return np.ascontiguousarray(points)


def _check_indices(name: str, indices: NDArray[np.int64], n: int) -> None:
    if indices.ndim != 1 or indices.size == 0 or indices.dtype.kind not in "iu":
        raise SpecError(
            f"Expected {name} as row indices, got {indices.dtype} {indices.shape}. Draw them with draw_starts."
        )
    if indices.min() < 0 or indices.max() >= n:
        raise SpecError(f"Expected {name} from 0 to {n - 1}, got {indices.tolist()}. Draw them from the same points.")
