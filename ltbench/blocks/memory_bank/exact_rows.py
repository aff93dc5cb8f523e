"""Exact nearest rows on a CPU: products estimate all distances, and what could be among the nearest is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ltbench.blocks.memory_bank.measuring import earlier_copies, gamma, summands, take, tiny
from ltbench.blocks.memory_bank.sketches import SHARE, Centred, Principal, Sketch
from ltbench.blocks.networks.linear import linear
from ltbench.blocks.switches import full_float32
from ltbench.blocks.threads import torch_on_one_thread

Array = NDArray[np.float32]
Indices = NDArray[np.int64]

NONE = np.empty(0, np.int64)
"""No rows."""

BLOCK = 1024
"""Rows whose distances are estimated at a time: 4 MiB for 1,024 queries."""

MIN_ROWS, MIN_COLUMNS = 8192, 512
"""Smaller memory banks are searched about as fast without principal axes."""

_MOST = 8  # a query is given up when one row of so many is measured for it, which takes as long as all estimates
_PROBED, _PAYS = 128, 40  # principal axes pay where one row of 40 is enough on average; queries that are asked
_LONGEST = 2.0**60  # of which squares are far below float32's largest number
_INFINITY = float("inf")


class ExactRows:
    """A memory bank of which the nearest rows are found exactly, whatever the products round.

    A distance is what float32 gives for one row by itself: the sum, as NumPy adds it, of squared differences. The k
    nearest are those of the least distances, and of smaller indices where distances are equal, among *all* rows.

    A product estimates the distances of many queries to many rows, and a bound of its roundings says how large an
    estimate can be whose distance is not above the k-th found so far. Every row with such an estimate is measured.
    What is found is therefore independent of the estimates: of the other queries, threads, libraries, and of whether
    `sketch` was called. Rows without numbers, or whose squares float32 does not hold, are measured one and all.

    Args:
        memory: (N, D) float32; kept, not copied.
    """

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self._plain = Estimates(Centred(memory), memory)
        self._sketched: Estimates | None = None

    def search(self, queries: Array, k: int, without: Indices = NONE) -> tuple[Array, Indices]:
        """Return the squared distances and indices of the k nearest rows, (Q, k) each, nearest first.

        Args:
            queries: (Q, D) float32.
            k: how many, at most as many as there are rows. NaN counts as farther than everything.
            without: rows that are passed over; indices stay those among all.
        """
        near, places = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        waiting = np.arange(len(queries))
        for estimates in (self._sketched, self._plain):
            if estimates is not None and len(waiting):
                most = len(self.memory) if estimates is self._plain else max(len(self.memory) // _MOST, 4 * k)
                near[waiting], places[waiting], left = estimates.choose(queries[waiting], k, most + 1, without)
                waiting = waiting[left == 0]
        for index in waiting:
            near[index], places[index] = self._measured(queries[index], k, without)
        return near, places

    def sketch(self, queries: Array, k: int) -> None:
        """Prepare to be searched by principal axes, where these pay by some queries.

        It takes as long as searching for some thousand queries, and may be called while others search.
        """
        if len(self.memory) < MIN_ROWS or self.memory.shape[1] < MIN_COLUMNS or self._plain.longest > _LONGEST:
            return
        with torch_on_one_thread():
            sketched = Estimates(Principal(self.memory), self.memory, kept=True)
        most = len(self.memory) // _MOST
        left = sketched.choose(queries[:_PROBED], k, most)[2]
        if (most - left).sum() * _PAYS <= len(left) * len(self.memory):
            self._sketched = sketched

    def _measured(self, query: Array, k: int, without: Indices) -> tuple[Array, Indices]:
        """Return the distances and indices of the nearest rows by measuring all of them."""
        starts = range(0, len(self.memory), BLOCK)
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [((self.memory[first : first + BLOCK] - query) ** 2).sum(axis=1) for first in starts]
        squares: Array = np.concatenate(parts)
        kept = np.delete(np.arange(len(squares)), without)
        nearest = kept[np.argsort(squares[kept], kind="stable")[:k]]
        return squares[nearest], nearest


def sketch_bytes(rows: int, columns: int) -> int:
    """Return the bytes that `ExactRows.sketch` takes, for good and while it works; 0 where it does nothing."""
    if rows < MIN_ROWS or columns < MIN_COLUMNS:
        return 0
    return 4 * rows * (columns // SHARE) + 8 * columns * (2048 + 4 * columns)


class Estimates:
    """Estimates of distances by products of sketches, and the rows that these leave to be measured.

    Without roundings the squared distance of two sketches, |s(q)|^2 + |s(r)|^2 - 2 s(q) s(r), is at most the true one
    of a query and a row. An estimate is the last two terms: a sum of width + 1 terms in any order, of which one was
    rounded before, each below |s(r)|^2 or |s(q)| |s(r)|.

    Args:
        sketch: how rows are sketched.
        memory: (N, D).
        kept: keep the sketches of the rows instead of making them anew for each search.

    Attributes:
        longest: length of the longest sketch of a row.
    """

    def __init__(self, sketch: Sketch, memory: Array, *, kept: bool = False) -> None:
        self._sketch, self._memory = sketch, memory
        self._sketches = np.empty((len(memory), sketch.width), np.float32) if kept else None
        squares = np.empty(len(memory))
        for part in _blocks(memory):
            sketches = sketch.of(memory[part])
            squares[part] = _squares(sketches)
            if self._sketches is not None:
                self._sketches[part] = sketches
        self.longest = math.sqrt(squares.max()) if np.isfinite(squares).all() else _INFINITY
        norms = np.minimum(squares, 2 * _LONGEST**2).astype(np.float32)
        self._norms = torch.from_numpy(norms)
        self._copies = torch.from_numpy(earlier_copies(memory, norms, norms.argsort(kind="stable")))

    def choose(self, queries: Array, k: int, most: int, without: Indices = NONE) -> tuple[Array, Indices, Indices]:
        """Return distances and indices of the nearest rows, (Q, k) each, and how many more might have been measured.

        Args:
            queries: (Q, D).
            k: how many.
            most: rows that may be measured for a query, less one. Where that was too few, or estimates cannot be made,
                0 are left, and what is found means nothing.
            without: rows that are passed over: their estimates are NaN, which is never near enough to be measured.
        """
        near, places = np.full((len(queries), k), np.inf, np.float32), np.full((len(queries), k), len(self._memory))
        order = summands(queries.shape[1])
        with torch_on_one_thread(), torch.no_grad(), full_float32(), torch.autocast("cpu", enabled=False):
            sketches = self._sketch.of(queries)
            squares = _squares(sketches)
            is_served = (squares <= _LONGEST**2) & (self.longest <= _LONGEST)  # not where it is NaN
            squares[~is_served], sketches[~is_served] = 0, 0
            left = np.where(is_served, most, 0)
            reach, rest = self._margins(squares)
            doubled = torch.from_numpy(-2 * sketches)
            if len(without):  # the earlier ones of equal rows may be among them
                norms = self._norms.index_fill(0, torch.from_numpy(without), math.nan)
            else:
                norms = self._norms.masked_fill(self._copies >= k, _INFINITY)  # k equal ones come before these
            for part in _blocks(self._memory) if is_served.any() else ():
                rows = self._memory[part]
                others = self._sketch.of(rows) if self._sketches is None else self._sketches[part]
                estimates = linear(doubled, torch.from_numpy(others), norms[part]).numpy()
                take(estimates, rows, part.start, queries, reach, rest, near, places, left, order)
        return near, places, left

    def _margins(self, squares: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return `reach` and `rest` of `take` for queries whose sketches have squared lengths (Q,)."""
        lengths, width = np.sqrt(squares), self._sketch.width
        reach = self._sketch.error * (lengths + self.longest) + 2 * tiny(width)
        rounding = gamma(width + 4) * self.longest * (self.longest + 2 * lengths) + tiny(width)
        return reach, rounding - squares


def _blocks(rows: Array) -> Iterator[slice]:
    yield from (slice(first, min(first + BLOCK, len(rows))) for first in range(0, len(rows), BLOCK))


def _squares(rows: Array) -> NDArray[np.float64]:
    """Return the squared lengths of rows (n, D), (n,)."""
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return squares
