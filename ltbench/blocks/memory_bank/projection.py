"""Random projections of patches, in which the authors measure distances."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ltbench.blocks.device import batch_of, upload
from ltbench.blocks.features.patches import Patches
from ltbench.blocks.memory_bank.coreset import random_projection
from ltbench.blocks.memory_bank.rows import Rows, new_rows
from ltbench.blocks.switches import reproducible
from ltbench.cores import in_order

ROWS = 16384
"""Rows that are projected together; fixed, so that the result does not depend on the number of threads."""

READERS = 4
"""Threads that read patches from a file at once, at most: each looks at `ROWS` of them."""


def project(
    patches: Rows, dimension: int, rng: np.random.RandomState, folder: Path | None = None, device: str = "cpu"
) -> Rows:
    """Return patches under a random projection (`coreset.random_projection`), in which the authors measure distances.

    Args:
        patches: (N, D).
        dimension: columns of the result; with D columns already, the patches themselves.
        rng: draws the projection.
        folder: where the result is kept in a file, or None to have it in memory.
        device: where it is computed.
    """
    weight = random_projection(patches.shape[1], dimension, rng)
    if weight is None:
        return patches
    projected = new_rows((len(patches), dimension), folder=folder)
    for rows, block in _projections(patches, weight, device):
        projected[rows] = block
    return projected


def project_chosen(
    patches: Rows, chosen: NDArray[np.int64], dimension: int, rng: np.random.RandomState, device: str = "cpu"
) -> Patches:
    """Return the rows `chosen` (ascending) of what `project` returns, in memory, without making the others."""
    weight = random_projection(patches.shape[1], dimension, rng)
    if weight is None:
        return patches[chosen]
    projected = np.empty((len(chosen), dimension), np.float32)
    for rows, block in _projections(patches, weight, device):
        first, last = np.searchsorted(chosen, (rows.start, rows.stop))
        projected[first:last] = block[chosen[first:last] - rows.start]
    return projected


def _projections(patches: Rows, weight: NDArray[np.float32], device: str) -> Iterator[tuple[slice, Patches]]:
    """Yield the products of `ROWS` patches at a time with a weight (D, dimension), in order."""
    where = torch.device(device)
    factor, takes_batches = torch.from_numpy(weight).to(where), bool(batch_of(where))

    def product(rows: slice) -> tuple[slice, Patches]:
        with reproducible(where):
            block = patches[rows]
            if takes_batches:  # of one shape, so that the last rows meet the same kernel
                block = np.pad(block, ((0, ROWS - len(block)), (0, 0)))
                return rows, (upload(block, where) @ factor).cpu().numpy()[: rows.stop - rows.start]
            return rows, (torch.from_numpy(block) @ factor).numpy()

    workers = 1 if takes_batches else torch.get_num_threads()
    if not isinstance(patches, np.ndarray):
        workers = min(READERS, workers)
    blocks = (slice(start, min(start + ROWS, len(patches))) for start in range(0, len(patches), ROWS))
    yield from in_order((partial(product, rows) for rows in blocks), workers)
