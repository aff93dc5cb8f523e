"""From images to patches to a memory bank to anomaly maps: what PatchCore and its successors share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.each_image import gathered
from ltbench.blocks.features.batches import Maps, Then
from ltbench.blocks.features.extractor import FeatureExtractor
from ltbench.blocks.features.patches import Grid, Patches, official, official_patches, pooled, pooled_patches
from ltbench.blocks.maps import tensor_maps, upsample_and_smooth
from ltbench.blocks.memory_bank.coreset import (
    approximate_greedy_coreset,
    coreset_size,
    draw_start,
    draw_starts,
    greedy_coreset,
)
from ltbench.blocks.memory_bank.device_search import DeviceRows
from ltbench.blocks.memory_bank.neighbours import Found, NearestNeighbours
from ltbench.blocks.memory_bank.projection import project
from ltbench.blocks.memory_bank.rows import Precision, Rows, in_memory, new_rows
from ltbench.blocks.references import Chosen
from ltbench.blocks.switches import Precision as BackbonePrecision
from ltbench.core import Prediction
from ltbench.errors import ContractError, SpecError
from ltbench.method import ImageSet, Runtime

Embedding = Literal["official", "pooled"]
Sampling = Literal["exact", "approximate", "none"]


class PatchEmbedder:
    """Turns images into patch vectors.

    Args:
        backbone: timm's name.
        layers: indices into timm's feature levels, finest first.
        weights: "pretrained", "random" or a checkpoint's path.
        embedding: "official" for PatchCore's locally aware patches, "pooled" for 3x3 averages on the coarsest grid.
        embed_dim: length of an official patch vector.
        runtime: device, seed, feature store and progress.
        mean_layers: the feature levels of which `matrix_and_means` takes spatial means; by default the last layer.
        precision: how the patches of training images are kept.
        backbone_precision: what the backbone computes in.
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
        mean_layers: Sequence[int] = (),
        precision: Precision = "float32",
        backbone_precision: BackbonePrecision = "float32",
    ) -> None:
        self.runtime = runtime
        self.precision: Precision = precision
        levels = sorted({*layers, *mean_layers}) if mean_layers else layers
        self._extractor = FeatureExtractor(backbone, levels, weights, runtime=runtime, precision=backbone_precision)
        self._patch_maps = [levels.index(layer) for layer in layers]
        self._mean_maps = [levels.index(layer) for layer in mean_layers or layers[-1:]]
        self._embed = partial(official_patches, embed_dim=embed_dim) if embedding == "official" else pooled_patches
        self._embed_batch = partial(official, embed_dim=embed_dim) if embedding == "official" else pooled

    def embed(self, images: ImageSet) -> Iterator[tuple[Patches, Grid]]:
        """Yield the patches (h * w, D) of each image in row-major order, and their grid (h, w)."""
        if self.takes_batches:
            for (patches,) in self._extractor.extract_with(images, lambda levels: [self.patches_of(levels)]):
                yield patches.reshape(-1, patches.shape[2]), (patches.shape[0], patches.shape[1])
            return
        for maps in self._extractor.extract(images):
            yield self._patches(maps)

    @property
    def takes_batches(self) -> bool:
        """Whether images go to the device in batches, so that patches are made there."""
        return bool(self._extractor.backbone.batch)

    def extract_with(self, images: ImageSet, then: Then) -> Iterator[Maps]:
        """Yield what `then` makes of the levels of each image, on a device that takes batches."""
        return self._extractor.extract_with(images, then)

    def patches_of(self, levels: Sequence[Tensor]) -> Tensor:
        """Return the patches, (B, h, w, D), of a batch's levels, on their device."""
        return self._embed_batch([levels[index] for index in self._patch_maps])

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

    def matrix_and_means(self, images: ImageSet) -> tuple[Rows, list[NDArray[np.float32]]]:
        """Return `matrix` and, from the same passes through the network, the spatial means of `mean_layers`, (N, C)."""
        means: list[list[NDArray[np.float32]]] = [[] for _ in self._mean_maps]

        def parts(levels: list[Tensor]) -> list[Tensor]:
            return [
                self.patches_of(levels).flatten(1, 2),
                *(levels[index].mean(dim=(2, 3)) for index in self._mean_maps),
            ]

        def patches() -> Iterator[Patches]:
            if self.takes_batches:
                for found, *of_image in self._extractor.extract_with(images, parts):
                    for rows, mean in zip(means, of_image, strict=True):
                        rows.append(mean.copy())  # it is a window of a whole batch
                    yield self._rounded(found)
                return
            for maps in self._extractor.extract(images):
                for rows, index in zip(means, self._mean_maps, strict=True):
                    rows.append(maps[index].mean(axis=(1, 2)))
                yield self._rounded(self._patches(maps)[0])

        matrix = self._stacked(patches(), len(images))
        return matrix, [np.stack(rows) for rows in means]

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


def choose_coreset(
    patches: Rows,
    ratio: float,
    sampling: Sampling,
    *,
    projection_dim: int,
    starting_points: int,
    rng: np.random.RandomState,
    device: str = "cpu",
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
        device: where the projection is computed.
    """
    if sampling == "none":
        return np.arange(len(patches), dtype=np.int64)
    projected = in_memory(project(patches, projection_dim, rng, device=device))
    count = coreset_size(ratio, len(patches))
    if sampling == "exact":
        return greedy_coreset(projected, count, start=draw_start(len(patches), rng))
    starts = draw_starts(len(patches), rng, starting_points)
    return approximate_greedy_coreset(projected, count, starts=starts)


def score_images(
    embedder: PatchEmbedder,
    images: ImageSet,
    memory: NearestNeighbours,
    left_out: Sequence[Sequence[int]] = (),
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
        left_out: for each image the training images, by position, whose rows are not searched for it; or nothing.
            An image for which there are none scores the same as without.
        neighbours: how many nearest rows.
        smoothing_sigma: standard deviation of the map's Gaussian, in pixels of the image.
        weights: one factor a row of the memory bank, which multiplies the scores of patches nearest to it (SoftPatch).

    Raises:
        ContractError: `left_out` of another length than the images.
        SpecError: too few rows are left to search.
    """
    if left_out and len(left_out) != len(images):
        raise ContractError(f"Expected what to leave out for each of {len(images)} images, got {len(left_out)} lists.")
    settings = _Settings(neighbours, smoothing_sigma, weights)
    if memory.on_device is not None and embedder.takes_batches:
        whole = _score_on_device(embedder, images, memory.on_device, settings)
    else:
        whole = _score(embedder, images, memory.search_each, settings)
    without = {index: rows for index, own in enumerate(left_out) if len(rows := memory.rows_of(own))}
    if without:  # a second time, so that the first time is what it is for other images
        search = partial(memory.search_without, without=without.values())
        again = _score(embedder, Chosen(images, list(without)), search, settings)
        whole.scores[list(without)], whole.maps[list(without)] = again.scores, again.maps
    return whole


@dataclass(frozen=True, slots=True)
class _Settings:
    """What `score_images` makes of distances."""

    neighbours: int
    smoothing_sigma: float
    weights: NDArray[np.float32] | None


def _score(
    embedder: PatchEmbedder, images: ImageSet, search: Callable[..., Iterator[Found]], settings: _Settings
) -> Prediction:
    grids: list[Grid] = []

    def patches() -> Iterator[Patches]:
        for vectors, grid in embedder.embed(images):
            grids.append(grid)
            yield vectors

    scores = np.empty(len(images), np.float32)
    maps = np.empty((len(images), *images.size), np.float32)
    for index, (distances, nearest) in enumerate(search(patches(), k=settings.neighbours)):
        found = distances.mean(axis=1)
        if settings.weights is not None:
            found = found * settings.weights[nearest[:, 0]]
        scores[index] = found.max()
        maps[index] = upsample_and_smooth(found.reshape(grids[index]), images.size, settings.smoothing_sigma)
    return Prediction(scores, maps)


def _score_on_device(
    embedder: PatchEmbedder,
    images: ImageSet,
    memory: DeviceRows,
    settings: _Settings,
) -> Prediction:
    """Return what `_score` does, batch by batch on a device: all that leaves it are scores and maps."""
    factors = None if settings.weights is None else torch.tensor(settings.weights, device=memory.device)

    def scored(levels: list[Tensor]) -> list[Tensor]:
        patches = embedder.patches_of(levels)
        distances, nearest = memory.search(patches.flatten(0, 2), settings.neighbours)
        found = distances.mean(dim=1)
        if factors is not None:
            found = found * factors[nearest[:, 0]]
        grids = found.view(patches.shape[:3])
        return [grids.amax(dim=(1, 2)), tensor_maps(grids, images.size, settings.smoothing_sigma)]

    return gathered(embedder.extract_with(images, scored), len(images), images.size)
