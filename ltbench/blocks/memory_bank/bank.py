"""From images to patches to a memory bank to anomaly maps: what PatchCore and its successors share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ltbench.blocks.features.extractor import FeatureExtractor, Maps
from ltbench.blocks.features.patches import Grid, Patches, official_patches, pooled_patches
from ltbench.blocks.maps import upsample_and_smooth
from ltbench.blocks.memory_bank.coreset import (
    approximate_greedy_coreset,
    coreset_size,
    draw_start,
    draw_starts,
    greedy_coreset,
    random_projection,
)
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.rows import Precision, Rows, in_memory, new_rows
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.core import Prediction
from ltbench.cores import in_order
from ltbench.errors import SpecError
from ltbench.method import ImageSet, Runtime

Embedding = Literal["official", "pooled"]
Sampling = Literal["exact", "approximate", "none"]

ROWS = 16384
"""Rows that are projected together; fixed, so that the result does not depend on the number of threads."""

READERS = 4
"""Threads that read patches from a file at once, at most: each looks at `ROWS` of them."""


class PatchEmbedder:
    """Turns images into patch vectors.

    Args:
        backbone: timm's name.
        layers: indices into timm's feature levels, finest first.
        weights: "pretrained", "random" or a checkpoint's path.
        embedding: "official" for PatchCore's locally aware patches, "pooled" for 3x3 averages on the coarsest grid.
        embed_dim: length of an official patch vector.
        runtime: device, seed, feature store and progress.
        mean_layer: the feature level of which `matrix_and_means` takes spatial means; by default the last of `layers`.
        precision: how the patches of training images are kept.
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[int],
        weights: str,
        embedding: Embedding,
        embed_dim: int,
        *,
        runtime: Runtime,
        mean_layer: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.runtime = runtime
        self.precision: Precision = precision
        levels = layers if mean_layer is None else sorted({*layers, mean_layer})
        self._extractor = FeatureExtractor(backbone, levels, weights, runtime=runtime)
        self._patch_maps = [levels.index(layer) for layer in layers]
        self._mean_map = self._patch_maps[-1] if mean_layer is None else levels.index(mean_layer)
        self._embed = partial(official_patches, embed_dim=embed_dim) if embedding == "official" else pooled_patches

    def embed(self, images: ImageSet) -> Iterator[tuple[Patches, Grid]]:
        """Yield the patches (h * w, D) of each image in row-major order, and their grid (h, w)."""
        for maps in self._extractor.extract(images):
            yield self._patches(maps)

    def embed_training(self, images: ImageSet) -> Iterator[Patches]:
        """Yield the patches of each training image, rounded as `precision` says."""
        return (self._rounded(patches) for patches, _ in self.embed(images))

    def matrix(self, images: ImageSet) -> Rows:
        """Return the patches of all training images, image by image, (N * h * w, D).

        They lie in memory or, where the runtime has a scratch folder, in a temporary file there.

        Raises:
            SpecError: no images.
        """
        return self._stacked(self.embed_training(images), len(images))

    def matrix_and_means(self, images: ImageSet) -> tuple[Rows, NDArray[np.float32]]:
        """Return `matrix` and, from the same passes through the network, the spatial mean of `mean_layer`, (N, C)."""
        means: list[NDArray[np.float32]] = []

        def patches() -> Iterator[Patches]:
            for maps in self._extractor.extract(images):
                means.append(maps[self._mean_map].mean(axis=(1, 2)))
                yield self._rounded(self._patches(maps)[0])

        matrix = self._stacked(patches(), len(images))
        return matrix, np.stack(means)

    def new_rows(self, count: int, dimension: int) -> Rows:
        """Return room for patches of training images, where and as `matrix` keeps them."""
        return new_rows((count, dimension), self.precision, self.runtime.scratch)

    def _patches(self, maps: Maps) -> tuple[Patches, Grid]:
        return self._embed([maps[index] for index in self._patch_maps])

    def _rounded(self, patches: Patches) -> Patches:
        return patches if self.precision == "float32" else patches.astype(self.precision).astype(np.float32)

    def _stacked(self, images: Iterable[Patches], count: int) -> Rows:
        """Return the patches of `count` images of one size in one matrix, made once."""
        matrix: Rows | None = None
        for index, patches in enumerate(images):
            if matrix is None:
                matrix = self.new_rows(count * len(patches), patches.shape[1])
            matrix[index * len(patches) : (index + 1) * len(patches)] = patches
        if matrix is None:
            raise SpecError("Expected training images, got none. Check the split.")
        return matrix


def project(patches: Rows, dimension: int, rng: np.random.RandomState, folder: Path | None = None) -> Rows:
    """Return patches under a random projection (`coreset.random_projection`), in which the authors measure distances.

    Args:
        patches: (N, D).
        dimension: columns of the result; with D columns already, the patches themselves.
        rng: draws the projection.
        folder: where the result is kept in a file, or None to have it in memory.
    """
    weight = random_projection(patches.shape[1], dimension, rng)
    if weight is None:
        return patches
    projected = new_rows((len(patches), dimension), folder=folder)
    for rows, block in _projections(patches, weight):
        projected[rows] = block
    return projected


def project_chosen(patches: Rows, chosen: NDArray[np.int64], dimension: int, rng: np.random.RandomState) -> Patches:
    """Return the rows `chosen` (ascending) of what `project` returns, in memory, without making the others."""
    weight = random_projection(patches.shape[1], dimension, rng)
    if weight is None:
        return patches[chosen]
    projected = np.empty((len(chosen), dimension), np.float32)
    for rows, block in _projections(patches, weight):
        first, last = np.searchsorted(chosen, (rows.start, rows.stop))
        projected[first:last] = block[chosen[first:last] - rows.start]
    return projected


def _projections(patches: Rows, weight: NDArray[np.float32]) -> Iterator[tuple[slice, Patches]]:
    """Yield the products of `ROWS` patches at a time with a weight (D, dimension), in order."""
    factor = torch.from_numpy(weight)

    def product(rows: slice) -> tuple[slice, Patches]:
        with torch_on_one_thread():
            return rows, (torch.from_numpy(patches[rows]) @ factor).numpy()

    workers = torch.get_num_threads()
    if not isinstance(patches, np.ndarray):
        workers = min(READERS, workers)
    blocks = (slice(start, min(start + ROWS, len(patches))) for start in range(0, len(patches), ROWS))
    yield from in_order((partial(product, rows) for rows in blocks), workers)


def choose_coreset(
    patches: Rows,
    ratio: float,
    sampling: Sampling,
    *,
    projection_dim: int,
    starting_points: int,
    rng: np.random.RandomState,
) -> NDArray[np.int64]:
    """Return the indices of the rows that a memory bank keeps, in the order of picking.

    Args:
        patches: (N, D).
        ratio: share of the rows to keep, in (0, 1].
        sampling: "exact" greedy from a random row that is kept; "approximate" as in PatchCore's official code;
            "none" keeps every row.
        projection_dim: dimensions that distances are measured in.
        starting_points: random rows that the approximate sampler starts from.
        rng: draws the projection, then the start.
    """
    if sampling == "none":
        return np.arange(len(patches), dtype=np.int64)
    projected = in_memory(project(patches, projection_dim, rng))
    count = coreset_size(ratio, len(patches))
    if sampling == "exact":
        return greedy_coreset(projected, count, start=draw_start(len(patches), rng))
    starts = draw_starts(len(patches), rng, starting_points)
    return approximate_greedy_coreset(projected, count, starts=starts)


def score_images(
    embedder: PatchEmbedder,
    images: ImageSet,
    memory: NearestNeighbours,
    *,
    neighbours: int = 1,
    smoothing_sigma: float = 4.0,
    weights: NDArray[np.float32] | None = None,
) -> Prediction:
    """Score images by the distances of their patches to a memory bank.

    A patch's score is the mean squared distance to its nearest rows (PatchCore's released code takes no root and does
    not re-weight); the image's score is its highest patch; the map is the grid of patches, resized bilinearly and
    smoothed.

    Args:
        embedder: makes the patches.
        images: the images.
        memory: the memory bank.
        neighbours: how many nearest rows.
        smoothing_sigma: standard deviation of the map's Gaussian, in pixels of the image.
        weights: one factor a row of the memory bank, which multiplies the scores of patches nearest to it (SoftPatch).
    """
    grids: list[Grid] = []

    def patches() -> Iterator[Patches]:
        for vectors, grid in embedder.embed(images):
            grids.append(grid)
            yield vectors

    scores = np.empty(len(images), np.float32)
    maps = np.empty((len(images), *images.size), np.float32)
    for index, (distances, nearest) in enumerate(memory.search_each(patches(), neighbours)):
        patch_scores = distances.mean(axis=1)
        if weights is not None:
            patch_scores = patch_scores * weights[nearest[:, 0]]
        scores[index] = patch_scores.max()
        maps[index] = upsample_and_smooth(patch_scores.reshape(grids[index]), images.size, smoothing_sigma)
    return Prediction(scores, maps)
