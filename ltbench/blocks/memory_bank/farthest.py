"""Farthest-point ("greedy") sampling of rows, exact and lazy; the samplers in `coreset` build on it.

One step is repeated: pick the row that is farthest from all rows picked so far. What is farthest is defined to the last
digit by `squared_distance`, and among equally far rows the smallest index wins, so the picks are the same on every
machine and with any number of threads.

A row's distance to the nearest pick only falls, so an old value is an upper bound: only the rows with the largest
bounds have to catch up with the picks that they have not seen. Most pairs of row and pick are then ruled out by a
sketch, the row's coordinates on a few principal axes, and most of the rest by the distance in float32, both with a
margin above every rounding error. Sketch and float32 decide how fast the picks are found, never which.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ltbench.compiled import compiled
from ltbench.cores import usable_cores

_AXES = 16  # coordinates of a sketch; on patch features they rule out 96 of 100 pairs
_TILE = 64  # picks that a row is compared with at a time
_CHUNK = 8192  # rows taken to float64 at a time
_UNIT = 2.0**-24  # largest relative error of one float32 rounding
_SLACK = 1 + 32 * _UNIT  # above the float32 errors of a sketch distance, (_AXES + 4) / 2 units


@compiled
def squared_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the squared Euclidean distance of two float32 rows: float64 terms, added in the order of the columns."""
    total = 0.0
    for c in range(a.shape[0]):
        x = np.float64(a[c]) - np.float64(b[c])
        total += x * x
    return total


@partial(compiled, fastmath=frozenset({"reassoc", "contract"}))
def rough_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    """Return the squared distance in float32, added in any order: off by at most (columns + 4) units, relatively."""
    total = np.float32(0)
    for c in range(a.shape[0]):
        x = a[c] - b[c]
        total += x * x
    return total


@compiled
def _nearer(points: NDArray[np.float32], row: int, pick: int, nearest: float) -> float:
    """Return min(nearest, squared distance of the rows); it is computed in float64 only where it may be less."""
    limit = np.float32(nearest * (1 + 2 * (points.shape[1] + 8) * _UNIT) + 2.0**-126)
    if rough_distance(points[row], points[pick]) > limit:
        return nearest
    return min(nearest, squared_distance(points[row], points[pick]))


@compiled
def _sketch_distances(sketch: NDArray[np.float32], tile: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the squared distances of a sketch (_AXES,) to a tile of sketches (_AXES, _TILE)."""
    out[:] = 0
    for c in range(0, _AXES, 4):  # four axes a pass: a quarter of the loads and stores
        for b in range(_TILE):
            x0 = sketch[c] - tile[c, b]
            x1 = sketch[c + 1] - tile[c + 1, b]
            x2 = sketch[c + 2] - tile[c + 2, b]
            x3 = sketch[c + 3] - tile[c + 3, b]
            out[b] += (x0 * x0 + x1 * x1) + (x2 * x2 + x3 * x3)


@compiled
def _catch_up(
    rows: NDArray[np.int64],
    points: NDArray[np.float32],
    sketches: NDArray[np.float32],
    scale: float,
    noise: float,
    tiles: NDArray[np.float32],
    picks: NDArray[np.int64],
    count: int,
    bound: NDArray[np.float64],
    seen: NDArray[np.int64],
    level: float,
) -> None:
    """Lower the bounds of rows by the picks that they have not seen, each until it is below `level` or has seen all."""
    near = np.empty(_TILE, np.float32)
    for row in rows:
        nearest = bound[row]
        first = seen[row] // _TILE * _TILE
        while nearest >= level and first < count:
            _sketch_distances(sketches[row], tiles[first // _TILE], near)
            limit = np.float32((math.sqrt(nearest) * scale * _SLACK + noise) ** 2)
            for b in range(min(_TILE, count - first)):
                if near[b] <= limit:
                    nearer = _nearer(points, row, picks[first + b], nearest)
                    if nearer < nearest:
                        nearest = nearer
                        limit = np.float32((math.sqrt(nearest) * scale * _SLACK + noise) ** 2)
            first += _TILE
        bound[row] = nearest
        seen[row] = min(first, count)


@compiled
def _pick_above(
    level: float,
    rows: NDArray[np.int64],
    points: NDArray[np.float32],
    picks: NDArray[np.int64],
    count: int,
    bound: NDArray[np.float64],
    seen: NDArray[np.int64],
) -> int:
    """Pick the farthest of `rows` (ascending, up to date) while it is at `level` or above; return the new count."""
    left = len(rows)
    while count < len(picks) and left > 0:
        best = rows[0]
        for n in range(1, left):
            if bound[rows[n]] > bound[best]:
                best = rows[n]
        picks[count] = best
        bound[best] = -1.0
        count += 1
        kept = 0
        for n in range(left):
            row = rows[n]
            bound[row] = _nearer(points, row, best, bound[row])
            seen[row] = count
            if bound[row] >= level:
                rows[kept] = row
                kept += 1
        left = kept
    return count


class _Sketch(NamedTuple):
    """Coordinates of N points on principal axes.

    Args:
        rows: (N, _AXES) float32. Two rows are at most `scale` times as far apart as their points, plus `noise`.
        scale: unit of the sketch in units of the points.
        noise: bound of all rounding errors, in units of the sketch.
    """

    rows: NDArray[np.float32]
    scale: float
    noise: float

    @classmethod
    def of(cls, points: NDArray[np.float32]) -> _Sketch:
        """Return the sketch of points on the principal axes of about 2048 of them."""
        n, columns = points.shape
        sample = points[:: max(1, n // 2048)].astype(np.float64)
        mean = sample.mean(axis=0)
        sample -= mean
        axes = np.zeros((columns, _AXES))
        principal = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :_AXES]  # eigh gives the largest last
        axes[:, : principal.shape[1]] = principal
        size = math.sqrt(columns) * max(abs(float(points.min())), abs(float(points.max())))
        scale = 1 / size if size > 0 else 1.0
        rows = np.empty((n, _AXES), np.float32)
        for a in range(0, n, _CHUNK):
            rows[a : a + _CHUNK] = ((points[a : a + _CHUNK] - mean) @ axes) * scale
        longest = math.sqrt(_AXES) * max(abs(float(rows.min())), abs(float(rows.max())))
        # Each of two sketches rounded to float32, twice over; and float64's errors before, some columns * 2^-53 each.
        return cls(rows, scale, 4 * _UNIT * longest + columns * 2.0**-48)


def farthest_first(
    points: NDArray[np.float32], bound: NDArray[np.float64], first: int, picks: int, threads: int | None
) -> NDArray[np.int64]:
    """Pick `first`, then again and again the row with the largest bound, lowered by the distances to all picks.

    Once every bound left is 0 (duplicates of picks), the unpicked rows follow in order.

    Args:
        points: (N, columns) float32, C-contiguous, finite.
        bound: (N,) float64, upper bounds in squared units to start from, e.g. infinity; overwritten.
        first: index of the first pick.
        picks: how many rows to pick, 1 to N.
        threads: how many threads work, or None for one a core that the process may use.

    Returns:
        The indices in the order of picking, (picks,) int64, all different.
    """
    with threadpool_limits(1, user_api="blas"):  # small products: BLAS threads would wait for one another
        sketch = _Sketch.of(points)
    order, seen = np.empty(picks, np.int64), np.zeros(len(points), np.int64)
    tiles = np.zeros((-(-picks // _TILE), _AXES, _TILE), np.float32)
    threads = threads or usable_cores()
    order[0], bound[first] = first, -1.0
    tiles[0, :, 0] = sketch.rows[first]
    count = 1
    with ThreadPoolExecutor(threads) as pool:
        while count < picks:
            level, rows = _highest(bound)
            if len(rows) == 0:
                order[count:] = np.flatnonzero(bound >= 0)[: picks - count]
                break
            for task in [
                pool.submit(_catch_up, part, points, *sketch, tiles, order, count, bound, seen, level)
                for part in np.array_split(rows, threads * 4)
            ]:
                task.result()
            rows = rows[bound[rows] >= level]
            last, count = count, int(_pick_above(level, rows, points, order, count, bound, seen))
            new = np.arange(last, count)
            tiles[new // _TILE, :, new % _TILE] = sketch.rows[order[new]]
    return order


def _highest(bound: NDArray[np.float64]) -> tuple[float, NDArray[np.int64]]:
    """Return a positive level and the rows whose bounds reach it: a sixteenth of all or more, of few rows all.

    Fewer rows would be cheaper to bring up to date, but all bounds would have to be ranked more often. Rows at 0 are
    duplicates of picks, and picks are at -1: none of them is wanted.
    """
    n = len(bound)
    place = n - min(n, max(256, n // 16))
    level = max(float(np.partition(bound, place)[place]), float(np.nextafter(0, 1)))
    return level, np.flatnonzero(bound >= level)
