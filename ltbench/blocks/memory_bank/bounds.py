"""Nearest rows by lower bounds of the distances: the same neighbours as a search of all rows, for less arithmetic.

A row's coordinates on the first principal axes, and the length of what they leave out, bound its distance to any query
from below: |q - r|^2 >= |q' - r'|^2 + (|q''| - |r''|)^2, where ' is the part on the axes and '' the rest. On patch
features that bound, a matrix product of a quarter of the columns, leaves a few dozen of thousands of rows to measure.
Every rounding error is bounded too, so that no row that could be among the nearest is passed over.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from ltbench.blocks.memory_bank.farthest import rough_distance
from ltbench.blocks.memory_bank.lof import kth_least
from ltbench.blocks.networks.linear import linear
from ltbench.blocks.switches import full_float32
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.compiled import compiled

Array = NDArray[np.float32]

SHARE = 4
"""The bound takes one of so many columns, its arithmetic as much less."""

MIN_ROWS, MIN_COLUMNS = 8192, 256
"""Smaller memory banks are searched about as fast without bounds."""

BLOCK = 4096
"""Rows whose bounds are computed at a time: 16 MiB for 1,024 queries."""

_SAMPLE = 2048  # rows whose principal axes are taken
_CONVERTED = 1024  # rows that are taken to float64 at a time
_LANES = 64  # bounds of which only the least is looked at first
_MOST = 8  # a query is given up when one row of so many is measured for it, which takes as long as a search of all
_PROBES, _PROBED, _GIVEN_UP = 128, 16, 8  # bounds pay where one row of 16 is enough for all but one query of 8
_ROOM = 32  # rows that can be as near as the k-th to within rounding; where there are more, the query is given up
_UNIT = 2.0**-24  # largest relative error of one float32 rounding
_TINY = 2.0**-126  # above what float32 distances lose to underflow


def suited(memory: Array) -> bool:
    """Return whether a memory bank is large enough for bounds to be worth a try, and finite."""
    blocks = (memory[first : first + _CONVERTED] for first in range(0, len(memory), _CONVERTED))
    return bounds_bytes(*memory.shape) > 0 and all(bool(np.isfinite(block).all()) for block in blocks)


def bounds_bytes(rows: int, columns: int) -> int:
    """Return the bytes that bounds take beside a memory bank and while they are made; 0 where there will be none."""
    if rows < MIN_ROWS or columns < MIN_COLUMNS:
        return 0
    kept = 4 * rows * (columns // SHARE + 1)
    return kept + 8 * columns * (2 * _SAMPLE + 4 * columns + 4 * _CONVERTED)


class Bounds:
    """Coordinates of a memory bank's rows from which distances are bounded.

    Args:
        memory: (N, D) float32, finite, `suited`; kept, not copied.
    """

    def __init__(self, memory: Array) -> None:
        self._memory = memory
        count, columns = memory.shape
        sample = memory[:: max(1, count // _SAMPLE)].astype(np.float64)
        self._mean = sample.mean(axis=0)
        sample -= self._mean
        axes = columns // SHARE - 1
        principal = eigh(sample.T @ sample, subset_by_index=(columns - axes, columns - 1))[1]
        self._axes = torch.from_numpy(np.ascontiguousarray(principal))
        sketch = np.empty((count, axes + 1), np.float32)
        norms = np.empty(count, np.float32)
        self._size = self._longest = 0.0
        for first in range(0, count, _CONVERTED):
            part = slice(first, first + _CONVERTED)
            sketch[part], norms[part], lengths, sizes = self._sketched(memory[part])
            self._longest = max(self._longest, float(lengths.max()))
            self._size = max(self._size, float(sizes.max()))
        self._sketch, self._norms = torch.from_numpy(sketch), torch.from_numpy(norms)

    def pay(self, queries: Array, k: int) -> bool:
        """Return whether bounds leave few rows to be measured, by the first of some queries. No clock is asked."""
        _, counts = self._measure(queries[:_PROBES], k, len(self._memory) // _PROBED)
        return int((counts == 0).sum()) * _GIVEN_UP <= len(counts)

    def search(self, queries: Array, k: int) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
        """Return the squared distances and indices of the k nearest rows, and the queries that were given up.

        Args:
            queries: (Q, D).
            k: how many.

        Returns:
            (Q, k) and (Q, k), nearest first, then by index; and the positions of queries that are not finite, or for
            which too many rows had to be measured or are as near as the k-th: what is returned for them means nothing.
        """
        rows, counts = self._measure(queries, k, len(self._memory) // _MOST)
        of = np.repeat(np.arange(len(queries)), counts)
        near = rows[np.arange(rows.shape[1]) < counts[:, None]]
        squares = np.empty(len(near), np.float32)
        for first in range(0, len(near), _CONVERTED):
            part = slice(first, first + _CONVERTED)
            squares[part] = ((self._memory[near[part]] - queries[of[part]]) ** 2).sum(axis=1)
        order = np.lexsort((near, squares, of))
        distances, indices = np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
        known = np.flatnonzero(counts >= k)
        chosen = order[(np.cumsum(counts) - counts)[known, None] + np.arange(k)]
        distances[known], indices[known] = squares[chosen], near[chosen]
        return distances, indices, np.flatnonzero(counts < k)

    def _sketched(self, rows: Array) -> tuple[Array, Array, NDArray[np.float64], NDArray[np.float64]]:
        """Return coordinates, the rest's length last, their squared norms, and the rows' lengths, centred and not."""
        centred = rows - self._mean
        with torch_on_one_thread():
            on_axes = (torch.from_numpy(centred) @ self._axes).numpy()
        squares = np.einsum("ij,ij->i", centred, centred)
        rest = np.sqrt(np.maximum(squares - np.einsum("ij,ij->i", on_axes, on_axes), 0))
        sizes = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        sketch = np.column_stack([on_axes, rest]).astype(np.float32)
        norms = np.square(sketch, dtype=np.float64).sum(axis=1).astype(np.float32)
        return sketch, norms, np.sqrt(squares), sizes

    def _measure(self, queries: Array, k: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows that contain each query's k nearest, and how many they are, 0 for a query that is given up.

        It is given up where more than `most` rows would have to be measured.
        """
        count, columns = self._memory.shape
        finite: NDArray[np.bool_] = np.all(np.isfinite(queries), axis=1)
        queries = np.ascontiguousarray(np.where(finite[:, None], queries, 0))
        sketch, norms, lengths, sizes = self._sketched(queries)
        longest = np.maximum(lengths, self._longest)
        # Two sketches are at most as far apart as their rows, plus: their rounding to float32, the root of what float64
        # leaves of the rest's square, and the centring's errors.
        noise = (2 + 2 * columns**0.75) * _UNIT * longest + columns * 2.0**-45 * np.maximum(sizes, self._size)
        # |r'|^2 - 2 q'r' + |q'|^2 is off by a sum of products in any order and eight roundings beside it.
        error = 4 * (sketch.shape[1] + 8) * _UNIT * longest**2
        slack = 1 + 8 * (columns + 8) * _UNIT  # above the float32 errors of two squared distances, measured in any way
        near = np.full((len(queries), k), np.inf, np.float32)
        rows, squares = np.empty((len(queries), _ROOM + k), np.int64), np.empty((len(queries), _ROOM + k), np.float32)
        left = np.where(finite & (longest < 2.0**60), max(most, 4 * k), -1)
        counts = np.zeros(len(queries), np.int64)
        doubled = torch.from_numpy(-2 * sketch)
        for first in range(0, count, BLOCK):
            part = slice(first, first + BLOCK)
            with torch_on_one_thread(), full_float32(), torch.no_grad():
                bounds = linear(doubled, self._sketch[part], self._norms[part]).numpy()
            _take(
                bounds,
                self._memory[part],
                first,
                queries,
                norms,
                noise,
                error,
                slack,
                near,
                rows,
                squares,
                counts,
                left,
            )
        _compact(rows, squares, counts, near, slack)
        counts[left < 0] = 0
        return rows, counts


@compiled
def _take(
    bounds: Array,
    memory: Array,
    first: int,
    queries: Array,
    norms: Array,
    noise: NDArray[np.float64],
    error: NDArray[np.float64],
    slack: float,
    near: Array,
    rows: NDArray[np.int64],
    squares: Array,
    counts: NDArray[np.int64],
    left: NDArray[np.int64],
) -> None:
    """Measure the rows of a block that could be among a query's nearest, and keep those that still can.

    `bounds` are those of squared distances without the query's norm; `near` (Q, k) the least squares, ascending;
    `rows`, `squares` and `counts` what is kept of each query; `left` how many rows may be measured, below 0 for none.
    """
    k = near.shape[1]
    least, groups = np.empty(k, np.float32), np.empty(-(-bounds.shape[1] // _LANES), np.float32)
    for q in range(len(queries)):
        if left[q] < 0:
            continue
        _group(bounds[q], groups)
        limit = _limit(near[q, k - 1], norms[q], noise[q], error[q], slack)
        bar = kth_least(groups, least)
        for likely in (True, False):  # the likeliest first: they lower the limit for the others
            for g in range(len(groups)):
                if groups[g] <= limit and (not likely or groups[g] <= bar):
                    for j in range(g * _LANES, min(g * _LANES + _LANES, bounds.shape[1])):
                        if bounds[q, j] <= limit and (bounds[q, j] <= bar) == likely:
                            left[q] -= 1
                            square = rough_distance(queries[q], memory[j])
                            _keep(first + j, square, slack, q, near, rows, squares, counts, left)
                            if left[q] < 0:
                                break
                            limit = _limit(near[q, k - 1], norms[q], noise[q], error[q], slack)
                if left[q] < 0:
                    break


@compiled
def _group(bounds: Array, groups: Array) -> None:
    """Write the least of each `_LANES` bounds."""
    for g in range(len(groups)):
        least = np.float32(np.inf)
        for j in range(g * _LANES, min(g * _LANES + _LANES, len(bounds))):
            least = bounds[j] if bounds[j] < least else least
        groups[g] = least


@compiled
def _keep(
    row: int,
    square: np.float32,
    slack: float,
    q: int,
    near: Array,
    rows: NDArray[np.int64],
    squares: Array,
    counts: NDArray[np.int64],
    left: NDArray[np.int64],
) -> None:
    """Keep a row of which a query is as near as of the k-th, or nearer; give the query up where there is no room."""
    last = near.shape[1] - 1
    if square > near[q, last] * slack + _TINY:
        return
    if counts[q] == rows.shape[1]:
        _compact_one(rows[q], squares[q], counts, q, near[q, last] * slack + _TINY)
    if counts[q] == rows.shape[1]:
        left[q] = -1
        return
    rows[q, counts[q]], squares[q, counts[q]] = row, square
    counts[q] += 1
    if square < near[q, last]:
        place = last
        while place > 0 and near[q, place - 1] > square:
            near[q, place] = near[q, place - 1]
            place -= 1
        near[q, place] = square


@compiled
def _limit(square: float, norm: float, noise: float, error: float, slack: float) -> float:
    """Return which bounds, without the query's norm, a row can have whose distance is not above the k-th nearest's."""
    return float((np.sqrt(square * slack + _TINY) + noise) ** 2 + error - norm)


@compiled
def _compact(rows: NDArray[np.int64], squares: Array, counts: NDArray[np.int64], near: Array, slack: float) -> None:
    """Drop what was kept of each query and cannot be among its nearest after all."""
    for q in range(len(counts)):
        _compact_one(rows[q], squares[q], counts, q, near[q, near.shape[1] - 1] * slack + _TINY)


@compiled
def _compact_one(rows: NDArray[np.int64], squares: Array, counts: NDArray[np.int64], q: int, limit: float) -> None:
    kept = 0
    for place in range(counts[q]):
        if squares[place] <= limit:
            rows[kept], squares[kept] = rows[place], squares[place]
            kept += 1
    counts[q] = kept
