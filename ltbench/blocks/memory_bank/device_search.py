"""Exact nearest rows on a device: products choose candidates, and what could be nearer than these is measured, too."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.device_memory import FLOAT
from ltbench.blocks.memory_bank.measuring import LONGEST, gamma, tiny
from ltbench.blocks.memory_bank.rows import Rows
from ltbench.blocks.switches import reproducible

QUERIES = 4096
"""Queries that are searched together; the last ones are padded, so that every product has one shape."""

ROWS = 16384
"""Rows that queries are multiplied with together."""

_PAIRS = 2**22  # queries and rows that are measured together where candidates are not enough, at most

_ROW = 14  # bytes of a row's square and of whether it is out, twice where some are, and of its index

_FOUND = 12  # bytes of a distance or an estimate, and of its row's index

_PAIR = 112  # bytes of a pair that is measured: itself twice, its distance, and three times sorted


class DeviceRows:
    """A memory bank on a device, of which the nearest rows are found exactly.

    As in `ExactRows` a distance is the float32 sum of squared differences of one row by itself (as the device adds it),
    the nearest are the least of all rows, then by index, and products of rows less a centre are estimates whose
    roundings are bounded. Here they choose one candidate more than asked for, which are measured. Where the next
    estimate is not above the k-th distance by more than that bound, all rows below it are measured. What is found for a
    query does not depend on the other queries.

    Args:
        memory: (N, D) float32.
        device: "cuda", "cuda:N" or "cpu".
    """

    def __init__(self, memory: Rows, device: str) -> None:
        self.device = torch.device(device)
        self._rows = torch.empty(memory.shape, dtype=torch.float32, device=self.device)
        for start in range(0, len(memory), ROWS):  # by and by, so that it is there once
            self._rows[start : start + ROWS] = torch.tensor(memory[start : start + ROWS], device=self.device)
        self._centre = self._rows[:: -(-len(self._rows) // ROWS)].mean(dim=0)
        starts = range(0, len(self._rows), QUERIES)
        squares = torch.cat([_squares(self._rows[start : start + QUERIES] - self._centre) for start in starts])
        self._squares, self._longest = squares.float(), squares.max().sqrt()
        self._is_out = torch.zeros(len(self._rows), dtype=torch.bool, device=self.device)
        self._count = len(self._rows)

    def without(self, rows: NDArray[np.int64]) -> DeviceRows:
        """Return the same memory bank without some rows; indices stay those of the whole one."""
        left, out = copy(self), torch.from_numpy(rows).to(self.device)
        left._squares, left._is_out = self._squares.clone(), self._is_out.clone()
        left._squares[out], left._is_out[out] = torch.inf, True  # what products choose as the farthest
        left._count = self._count - len(rows)
        return left

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the squared distances and indices of the k nearest rows, (Q, k) each, nearest first, on the device.

        Args:
            queries: (Q, D) float32 on the device.
            k: how many, at most as many as there are rows.
        """
        found = []
        plain = torch.autocast(self.device.type, enabled=False)
        with torch.inference_mode(), reproducible(self.device), plain:
            for start in range(0, len(queries), QUERIES):
                block = queries[start : start + QUERIES]
                found.append(self._nearest(_padded(block), k, len(block)))
        if not found:
            return queries.new_empty(0, k), torch.empty(0, k, dtype=torch.int64, device=self.device)
        return torch.cat([distances for distances, _ in found]), torch.cat([indices for _, indices in found])

    def _nearest(self, queries: Tensor, k: int, count: int) -> tuple[Tensor, Tensor]:
        """Return the nearest rows of the first `count` of QUERIES queries, (count, k) each."""
        estimates, candidates = self._candidates(queries, min(k + 1, self._count))
        columns = [self._distances(queries, candidates[:, place]) for place in range(candidates.shape[1])]
        distances = torch.stack(columns, dim=1)
        nearest = distances.argsort(dim=1, stable=True)[:, :k]
        distances, indices = distances.gather(1, nearest)[:count], candidates.gather(1, nearest)[:count]
        limits = self._limits(queries[:count], distances[:, -1])
        is_doubtful = ~(estimates[:count] > limits) if self._count > k + 1 else limits.isnan()
        doubtful = is_doubtful.nonzero()[:, 0]
        together = max(1, _PAIRS // len(self._rows))
        for start in range(0, len(doubtful), together):
            some = doubtful[start : start + together]
            distances[some], indices[some] = self._measured(queries[some], limits[some], k)
        return distances, indices

    def _estimates(self, queries: Tensor, start: int) -> Tensor:
        """Return |r|^2 - 2 q r of a block of rows and queries less the centre, (Q, rows)."""
        rows, squares = self._rows[start : start + ROWS] - self._centre, self._squares[start : start + ROWS]
        return torch.addmm(squares, queries - self._centre, rows.T, alpha=-2)

    def _candidates(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the least estimate of a row that may be left out, (Q,), and the indices of the others, ascending."""
        near = queries.new_empty(len(queries), 0)
        places = torch.empty(len(queries), 0, dtype=torch.int64, device=self.device)
        for start in range(0, len(self._rows), ROWS):
            estimates = self._estimates(queries, start)
            values, own = estimates.topk(min(count, estimates.shape[1]), dim=1, largest=False)
            near, places = torch.cat([near, values], dim=1), torch.cat([places, own + start], dim=1)
            near, kept = near.topk(min(count, near.shape[1]), dim=1, largest=False)
            places = places.gather(1, kept)
        return near.amax(dim=1), places.sort(dim=1).values

    def _limits(self, queries: Tensor, squares: Tensor) -> Tensor:
        """Return the largest estimates of rows whose squared distances to queries are not above some, (Q,).

        They are NaN where any row may be near. A row less the centre is off by a rounding, an estimate by those of its
        sum: see `Estimates` in `exact_rows`.
        """
        columns = queries.shape[1]
        own = _squares(queries - self._centre)
        length, longest = own.sqrt(), self._longest
        true = (squares.double() + tiny(columns)) / (1 - gamma(columns + 2))
        reach = gamma(2) * (length + longest) + 2 * tiny(columns)
        rounding = gamma(columns + 4) * longest * (longest + 2 * length) + tiny(columns)
        limits = (true.sqrt() + reach).square() + rounding - own
        return limits.where(torch.maximum(length, longest) <= LONGEST, torch.nan)

    def _measured(self, queries: Tensor, limits: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k nearest of the rows whose estimates are not above limits, each query's own."""
        pairs = []
        for start in range(0, len(self._rows), ROWS):
            possible = ~(self._estimates(queries, start) > limits[:, None])  # what is no number is possible
            possible &= ~self._is_out[start : start + ROWS]
            pairs.append(possible.nonzero() + torch.tensor([0, start], device=self.device))
        of, rows = torch.cat(pairs).T
        starts = range(0, len(of), QUERIES)
        parts = [(of[start : start + QUERIES], rows[start : start + QUERIES]) for start in starts]
        distances = torch.cat([self._distances(_padded(queries[q]), _padded(r))[: len(q)] for q, r in parts])
        order = rows.argsort(stable=True)
        order = order[distances[order].argsort(stable=True)]
        order = order[of[order].argsort(stable=True)]
        of, rows, distances = of[order], rows[order], distances[order]
        firsts = torch.searchsorted(of, torch.arange(len(queries), device=self.device))
        nearest = firsts[:, None] + torch.arange(k, device=self.device)
        return distances[nearest], rows[nearest]

    def _distances(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Return the squared distance of each of QUERIES queries to a row of its own; one shape, so one way to add."""
        return (self._rows[rows] - queries).square().sum(dim=1)


def search_bytes(rows: int, columns: int, queries: int, k: int = 1) -> int:
    """Return an upper estimate of what `DeviceRows` takes with a search, array by array, with rows left out.

    Args:
        rows: of the memory bank.
        columns: of rows and queries.
        queries: that are searched for at once.
        k: how many rows are found for each.
    """
    block, query = min(ROWS, rows), FLOAT * QUERIES * columns
    nearest = QUERIES * (k + 1) * _FOUND
    estimates = (1 + (rows > ROWS)) * FLOAT * QUERIES * block  # a block's are there until the next one's are
    choosing = estimates + FLOAT * block * columns + query
    pairs = rows * min(max(1, _PAIRS // rows), QUERIES)
    doubtful = _PAIR * pairs + (FLOAT + 2) * pairs * block // rows + FLOAT * block * columns + query
    one_by_one = 5 * query  # squares of what lies between in float64, or differences of gathered rows
    bank = FLOAT * rows * columns + _ROW * rows
    return bank + 2 * query + 4 * nearest + max(choosing, doubtful, one_by_one) + 2 * _FOUND * queries * k


def _padded(values: Tensor) -> Tensor:
    """Return values, padded with zeros to QUERIES."""
    return torch.cat([values, values.new_zeros(QUERIES - len(values), *values.shape[1:])])


def _squares(rows: Tensor) -> Tensor:
    """Return the squared lengths of rows (n, D) in float64, (n,)."""
    return rows.double().square().sum(dim=1)
