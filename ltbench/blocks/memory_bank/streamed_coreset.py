"""A coreset of the patches of many images, without ever holding all of these patches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ltbench.blocks.features.patches import Patches
from ltbench.blocks.memory_bank.bank import PatchEmbedder
from ltbench.blocks.memory_bank.coreset import coreset_size, draw_start, greedy_coreset, random_projection
from ltbench.blocks.memory_bank.rows import Rows
from ltbench.blocks.switches import CPU, reproducible
from ltbench.errors import SpecError
from ltbench.method import ImageSet


def streamed_coreset(
    embedder: PatchEmbedder, images: ImageSet, ratio: float, *, projection_dim: int, rng: np.random.RandomState
) -> tuple[NDArray[np.int64], Rows]:
    """Return an exact greedy coreset of the patches of all images: what it keeps, and from where.

    What `choose_coreset(matrix, ratio, "exact")` is for where the matrix is too large: the images are gone through
    twice, first for the projections of their patches, then for the patches that were picked. With a feature store the
    network computes them once. At most the projections are held in memory, 4 N projection_dim bytes for N patches, and
    what `greedy_coreset` needs; then the coreset, or a window of it where the runtime has a scratch folder.

    Args:
        embedder: makes the patches.
        images: all of one size.
        ratio: share of the patches to keep, in (0, 1].
        projection_dim: dimensions that distances are measured in.
        rng: draws the projection, then the start.

    Returns:
        The rows of the matrix that are kept, ascending, and these rows (K, D).

    Raises:
        SpecError: no images.
    """
    projected, dimension = _projections(embedder, images, projection_dim, rng)
    count = coreset_size(ratio, len(projected))
    with embedder.runtime.progress.timed("coreset"):
        rows = np.sort(greedy_coreset(projected, count, start=draw_start(len(projected), rng)))
    each = len(projected) // len(images)
    del projected
    kept = embedder.new_rows(count, dimension)
    bounds = np.searchsorted(rows, np.arange(len(images) + 1) * each)
    for index, patches in enumerate(embedder.embed_training(images)):
        own = slice(bounds[index], bounds[index + 1])
        kept[own] = patches[rows[own] - index * each]
    return rows, kept


def _projections(
    embedder: PatchEmbedder, images: ImageSet, projection_dim: int, rng: np.random.RandomState
) -> tuple[Patches, int]:
    """Return all patches under one random projection, (N, projection_dim), and the length of a patch before it."""
    projected: Patches | None = None
    weight: NDArray[np.float32] | None = None
    dimension = 0
    for index, patches in enumerate(embedder.embed_training(images)):
        if projected is None:
            dimension = patches.shape[1]
            weight = random_projection(dimension, projection_dim, rng)
            projected = np.empty((len(images) * len(patches), projection_dim), np.float32)
        own = slice(index * len(patches), (index + 1) * len(patches))
        projected[own] = patches if weight is None else _product(patches, weight)
    if projected is None:
        raise SpecError("Expected images to choose patches from, got none. Check the split.")
    return projected, dimension


def _product(patches: Patches, weight: NDArray[np.float32]) -> Patches:
    with reproducible(CPU):
        product: Patches = (torch.from_numpy(patches) @ torch.from_numpy(weight)).numpy()
    return product
