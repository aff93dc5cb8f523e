"""Exact nearest rows on a CPU: products estimate all distances, and what could be among the nearest is measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ltbench.blocks.memory_bank.measuring import LONGEST, earlier_copies, gamma, summands, take, take_all, tiny
from ltbench.blocks.memory_bank.rounding import multiplied, multiplies_bytes, rounded, underflow
from ltbench.blocks.networks.linear import linear
from ltbench.blocks.switches import full_float32
from ltbench.blocks.threads import torch_on_one_thread

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]

NONE = np.empty(0, np.int64)
"""No rows."""

BLOCK = 1024
"""Rows whose distances are estimated at a time: 4 MiB for 1,024 queries."""

FEW = 2
"""Queries for which every row is measured: products would read all rows as well, and write them less the centre."""

LITTLE = 2**20
"""Products of single values below which every row is measured for any number of queries."""

_SAMPLE = 2048  # rows, evenly spaced, whose mean is the centre
_MOST = 16  # rounded rows give a query up when one row of so many is measured for it
_GIVEN_UP = 4  # they are no longer asked where they give up more than one query of so many
_INFINITY = float("inf")


class ExactRows:
    """A memory bank of which the nearest rows are found exactly, whatever products round.

    A distance is what float32 gives for one row by itself: the sum, as NumPy adds it, of squared differences. The k
    nearest are those of the least distances, and of smaller indices where distances are equal, among *all* rows.

    A product estimates the distances of many queries to many rows, and a bound of its roundings says how large an
    estimate can be whose distance is not above the k-th found so far. Every row with such an estimate is measured.
    What is found is therefore independent of the estimates: of the other queries, threads, libraries, and of whether
    they are by rows rounded to int8. Rows without numbers, or whose squares float32 does not hold, are measured one and
    all.

    Args:
        memory: (N, D) float32; kept, not copied.
    """

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        with np.errstate(over="ignore", invalid="ignore"):
            sample = memory[:: -(-len(memory) // _SAMPLE)]
            self._centre = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._plain = PlainRows(memory, self._centre)
        self._rounded: RoundedRows | None = None
        self._may_round = True
        self._few, self._little = FEW, LITTLE

    def prepare(self) -> None:
        """Round the rows to int8, where this machine multiplies these faster; they are kept beside the others."""
        may = self._may_round and self._plain.longest <= LONGEST and multiplies_bytes(self.memory.shape[1])
        if may and self._rounded is None:
            self._rounded = RoundedRows(self.memory, self._centre)

    def search(self, queries: Array, k: int, without: Indices = NONE) -> tuple[Array, Indices]:
        """Return the squared distances and indices of the k nearest rows, (Q, k) each, nearest first.

        Args:
            queries: (Q, D) float32.
            k: how many, at most as many as there are rows. NaN counts as farther than everything.
            without: rows that are passed over; indices stay those among all.
        """
        is_little = len(queries) <= self._few or len(queries) * self.memory.size <= self._little
        if is_little and (found := self._plain.measured(queries, k, without)) is not None:
            return found
        near, places = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        waiting = np.arange(len(queries))
        if (quick := self._rounded) is not None:
            near, places, left = quick.choose(queries, k, max(len(self.memory) // _MOST, 8 * k), without)
            waiting = np.flatnonzero(left == 0)
            if len(waiting) * _GIVEN_UP > len(queries):
                self._rounded, self._may_round = None, False
        if len(waiting):
            near[waiting], places[waiting], left = self._plain.choose(
                queries[waiting], k, len(self.memory) + 1, without
            )
            waiting = waiting[left == 0]
        for index in waiting:
            near[index], places[index] = self._measured(queries[index], k, without)
        return near, places

    def _measured(self, query: Array, k: int, without: Indices) -> tuple[Array, Indices]:
        """Return the distances and indices of the nearest rows by measuring all of them."""
        if np.isnan(query).any():  # so are all distances: they need not be measured, nor waited for
            return np.full(k, np.nan, np.float32), np.delete(np.arange(len(self.memory)), without)[:k]
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [((self.memory[part] - query) ** 2).sum(axis=1) for part in _blocks(self.memory)]
        squares: Array = np.concatenate(parts)
        kept = np.delete(np.arange(len(squares)), without)
        nearest = kept[np.argsort(squares[kept], kind="stable")[:k]]
        return squares[nearest], nearest


class Estimates(ABC):
    """Estimates of distances by products, and the rows that these leave to be measured.

    What is multiplied is not quite a query less the centre, nor a row, but at most `losses` away from these. Its
    squared distance is |q|^2 + |r|^2 - 2 q r; an estimate is the last two terms, off by `roundings` of
    |r|^2 + 2 |q| |r| and by an `underflow`.

    Args:
        memory: (N, D); kept, not copied.
        centre: (D,), near the rows, so that products lose fewer digits.

    Attributes:
        longest: length of the longest row as it is multiplied.
    """

    roundings: int
    underflow: float

    def __init__(self, memory: Array, centre: Array) -> None:
        self._memory, self._centre = memory, centre
        squares, losses = np.empty(len(memory)), []
        for part in _blocks(memory):
            squares[part], lost = self._kept(part, self._less(memory[part]))
            losses.append(lost.max())
        self._losses = np.array(losses)
        self.longest = math.sqrt(squares.max()) if np.isfinite(squares).all() else _INFINITY
        self._norms = np.minimum(squares, 2 * LONGEST**2).astype(np.float32)
        self._copies = earlier_copies(memory, self._norms, self._norms.argsort(kind="stable"))

    @abstractmethod
    def _kept(self, part: slice, rows: Array) -> tuple[Numbers, Numbers]:
        """Keep what is needed of a block of rows less the centre, and return its squared lengths and losses."""

    @abstractmethod
    def _multiplier(self, queries: Array) -> tuple[Callable[[slice, Array], Array], Numbers, Numbers]:
        """Return what makes (Q, B) estimates of a block of rows and its norms, and queries' squares and losses."""

    def choose(self, queries: Array, k: int, most: int, without: Indices = NONE) -> tuple[Array, Indices, Indices]:
        """Return distances and indices of the nearest rows, (Q, k) each, and how many more might have been measured.

        Args:
            queries: (Q, D).
            k: how many.
            most: rows that may be measured for a query, less one. Where that was too few, or estimates cannot be made,
                0 are left, and what is found means nothing.
            without: rows that are passed over: their estimates are infinite.
        """
        near, places = np.full((len(queries), k), np.inf, np.float32), np.full((len(queries), k), len(self._memory))
        order = summands(queries.shape[1])
        with torch_on_one_thread(), torch.no_grad(), full_float32(), torch.autocast("cpu", enabled=False):
            centred = self._less(queries)
            is_served = (_squares(centred) <= LONGEST**2) & (self.longest <= LONGEST)  # not where it is NaN
            centred[~is_served] = 0
            left = np.where(is_served, most, 0)
            estimated, squares, losses = self._multiplier(centred)
            error = gamma(self.roundings) * self.longest * (self.longest + 2 * np.sqrt(squares)) + self.underflow
            norms = self._without(k, without)
            for part, loss in zip(_blocks(self._memory), self._losses, strict=True) if is_served.any() else ():
                estimates, rows = estimated(part, norms[part]), self._memory[part]
                take(estimates, rows, part.start, queries, losses + loss, error - squares, near, places, left, order)
        return near, places, left

    def measured(self, queries: Array, k: int, without: Indices = NONE) -> tuple[Array, Indices] | None:
        """Return distances and indices of the nearest rows, (Q, k) each, by all rows; None if float32 cannot hold them.

        Args:
            queries: (Q, D).
            k: how many.
            without: rows that are passed over.
        """
        squares = _squares(self._less(queries))
        if not (self.longest <= LONGEST and (squares <= LONGEST**2).all()):  # nor where it is NaN
            return None
        near, places = np.full((len(queries), k), np.inf, np.float32), np.full((len(queries), k), len(self._memory))
        is_in = np.ones(len(self._memory), np.bool_)
        is_in[without] = False
        take_all(self._memory, is_in, queries, near, places, summands(queries.shape[1]))
        return near, places

    def _without(self, k: int, without: Indices) -> Array:
        """Return the squared lengths of rows, infinite for those that are not looked for."""
        if not len(without):
            return np.where(self._copies >= k, np.float32(np.inf), self._norms)  # k equal ones come before these
        norms = self._norms.copy()  # the earlier ones of equal rows may be without
        norms[without] = np.inf
        return norms

    def _less(self, rows: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            centred: Array = rows - self._centre
        return centred


class PlainRows(Estimates):
    """Estimates by rows as they are, made anew for each search. A difference from the centre is off by one rounding."""

    def __init__(self, memory: Array, centre: Array) -> None:
        columns = memory.shape[1]
        self.roundings, self.underflow = columns + 4, tiny(columns)
        super().__init__(memory, centre)

    def _kept(self, part: slice, rows: Array) -> tuple[Numbers, Numbers]:
        squares = _squares(rows)
        return squares, _lost(rows, squares)

    def _multiplier(self, queries: Array) -> tuple[Callable[[slice, Array], Array], Numbers, Numbers]:
        doubled = torch.from_numpy(-2 * queries)

        def estimated(part: slice, norms: Array) -> Array:
            rows = torch.from_numpy(self._less(self._memory[part]))
            estimates: Array = linear(doubled, rows, torch.from_numpy(norms)).numpy()
            return estimates

        squares = _squares(queries)
        return estimated, squares, _lost(queries, squares)


class RoundedRows(Estimates):
    """Estimates by rows and queries rounded to int8."""

    def __init__(self, memory: Array, centre: Array) -> None:
        self.roundings, self.underflow = 6, underflow(memory.shape[1])
        self._values, self._scales = np.empty(memory.shape, np.int8), np.empty(len(memory), np.float32)
        super().__init__(memory, centre)

    def _kept(self, part: slice, rows: Array) -> tuple[Numbers, Numbers]:
        kept = rounded(rows)
        self._values[part], self._scales[part] = kept.values, kept.scales
        return kept.squares, kept.losses + _lost(rows, _squares(rows))

    def _multiplier(self, queries: Array) -> tuple[Callable[[slice, Array], Array], Numbers, Numbers]:
        asked = rounded(queries)

        def estimated(part: slice, norms: Array) -> Array:
            return multiplied(asked, self._values[part], self._scales[part], norms)

        return estimated, asked.squares, asked.losses + _lost(queries, _squares(queries))


def _blocks(rows: Array) -> Iterator[slice]:
    yield from (slice(first, min(first + BLOCK, len(rows))) for first in range(0, len(rows), BLOCK))


def _squares(rows: Array) -> Numbers:
    """Return the squared lengths of rows (n, D), (n,)."""
    squares: Numbers = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return squares


def _lost(rows: Array, squares: Numbers) -> Numbers:
    """Return how far rows less the centre are from what they were without rounding, given their squared lengths."""
    lost: Numbers = gamma(2) * np.sqrt(squares) + tiny(rows.shape[1])
    return lost
