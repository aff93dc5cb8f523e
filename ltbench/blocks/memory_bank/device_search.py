"""Exact nearest rows on a device: products in blocks with a running choice, candidates measured anew."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.features.backbones import reproducible
from ltbench.blocks.memory_bank.rows import Rows, windows

QUERIES = 4096
"""Queries that are searched together; the last ones are padded, so that every product has one shape."""

ROWS = 16384
"""Rows that queries are multiplied with together."""


class DeviceRows:
    """A memory bank on a device.

    As on a CPU the products, which lose digits where distances are small, only choose candidates: one more than asked
    for. These are measured anew and ordered by distance, then by index. What is found for a query does not depend on
    the other queries.

    Args:
        memory: (N, D) float32.
        device: "cuda", "cuda:N" or "cpu".
    """

    def __init__(self, memory: Rows, device: str) -> None:
        self.device = torch.device(device)
        self._rows = torch.empty(memory.shape, dtype=torch.float32, device=self.device)
        for place, rows in windows(memory):
            self._rows[place] = torch.tensor(rows, device=self.device)
        self._squares = self._rows.square().sum(dim=1)
        self._count = len(self._rows)

    def without(self, rows: NDArray[np.int64]) -> DeviceRows:
        """Return the same memory bank without some rows; indices stay those of the whole one."""
        left = copy(self)
        left._squares = self._squares.clone()
        left._squares[torch.from_numpy(rows).to(self.device)] = torch.inf  # what products choose as the farthest
        left._count = self._count - len(rows)
        return left

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the squared distances and indices of the k nearest rows, (Q, k) each, nearest first, on the device.

        Args:
            queries: (Q, D) float32 on the device.
            k: how many, at most as many as there are rows.
        """
        found = []
        with torch.inference_mode(), reproducible(self.device):
            for start in range(0, len(queries), QUERIES):
                block = queries[start : start + QUERIES]
                padded = torch.nn.functional.pad(block, (0, 0, 0, QUERIES - len(block)))
                distances, indices = self._measured(padded, self._candidates(padded, min(k + 1, self._count)), k)
                found.append((distances[: len(block)], indices[: len(block)]))
        if not found:
            return queries.new_empty(0, k), torch.empty(0, k, dtype=torch.int64, device=self.device)
        return torch.cat([distances for distances, _ in found]), torch.cat([indices for _, indices in found])

    def _candidates(self, queries: Tensor, count: int) -> Tensor:
        """Return the indices of the nearest rows by products, (Q, count), ascending."""
        near = queries.new_empty(len(queries), 0)
        places = torch.empty(len(queries), 0, dtype=torch.int64, device=self.device)
        for start in range(0, len(self._rows), ROWS):
            rows, squares = self._rows[start : start + ROWS], self._squares[start : start + ROWS]
            products = torch.addmm(squares, queries, rows.T, alpha=-2)
            values, own = products.topk(min(count, len(rows)), dim=1, largest=False)
            near, places = torch.cat([near, values], dim=1), torch.cat([places, own + start], dim=1)
            near, kept = near.topk(min(count, near.shape[1]), dim=1, largest=False)
            places = places.gather(1, kept)
        return places.sort(dim=1).values

    def _measured(self, queries: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k nearest of the candidates, each distance measured by itself."""
        distances = torch.stack(
            [(self._rows[candidates[:, place]] - queries).square().sum(dim=1) for place in range(candidates.shape[1])],
            dim=1,
        )
        nearest = distances.argsort(dim=1, stable=True)[:, :k]
        return distances.gather(1, nearest), candidates.gather(1, nearest)
