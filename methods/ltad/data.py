"""The training images' features, read from disk image by image in training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.features.extractor import Maps
from ltbench.blocks.features.tokens import TokenExtractor, Tokens, aligned, root_mean_square, stack_on_disk
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.vision_language import VisionLanguage
from ltbench.core import sha256_of
from ltbench.errors import SpecError
from ltbench.method import ImageSet, Runtime


class PatchExtractor(TokenExtractor):
    """Gives the patches (h * w, C) and the code (D,) of images, from the feature store where it has them.

    Args:
        model: the image-text model.
        grid: (height, width) in patches.
        runtime: as for `FeatureExtractor`.
    """

    def __init__(self, model: VisionLanguage, grid: Grid, *, runtime: Runtime) -> None:
        recipe = f"aligned to {grid[0]}x{grid[1]}, and the code of {sha256_of(model.facts())}"
        super().__init__(model.images.name, model.images.layers, "", tokens=self._made, recipe=recipe, runtime=runtime)
        self._model, self._grid = model, grid

    @cached_property
    def backbone(self) -> Backbone:
        """The model's image branch."""
        return self._model.images

    def _made(self, maps: Maps) -> Tokens:
        return (*aligned(maps[:-1], self._grid), self._model.code_of(maps[-1]))


@dataclass(frozen=True)
class TrainingFeatures:
    """The features of the training images, in their order.

    Args:
        patches: (N, h * w, C).
        codes: (N, D).
        maps: (N, C, h, w) a layer, or nothing where the decoder makes patches.
        channels: channels of each layer in a patch.
        grid: (height, width) in patches.
        categories: the category of each image, as an index.
        scales: what patches and maps are divided by, and what codes are divided by.
    """

    patches: NDArray[np.float32]
    codes: NDArray[np.float32]
    maps: tuple[NDArray[np.float32], ...]
    channels: tuple[int, ...]
    grid: Grid
    categories: NDArray[np.int64]
    scales: tuple[float, float]

    def patches_of(self, indices: NDArray[np.int64]) -> Tensor:
        """Return the scaled patches of some images, (B, h * w, C)."""
        return torch.tensor(self.patches[indices]) / self.scales[0]

    def codes_of(self, indices: NDArray[np.int64]) -> Tensor:
        """Return the scaled codes of some images, (B, D)."""
        return torch.tensor(self.codes[indices]) / self.scales[1]

    def mean_codes(self, categories: int) -> Tensor:
        """Return the mean scaled code of each category's images, (categories, D)."""
        means = [self.codes[self.categories == index].mean(axis=0, dtype=np.float64) for index in range(categories)]
        return torch.tensor(np.stack(means) / self.scales[1], dtype=torch.float32)

    def targets_of(self, indices: NDArray[np.int64]) -> list[Tensor]:
        """Return what the decoder should make of some images: scaled maps, (B, C, h, w) a layer."""
        if self.maps:
            return [torch.tensor(level[indices]) / self.scales[0] for level in self.maps]
        maps = self.patches_of(indices).transpose(1, 2).reshape(len(indices), -1, *self.grid)
        return list(torch.split(maps, list(self.channels), dim=1))


def training_features(
    model: VisionLanguage,
    images: ImageSet,
    grid: Grid,
    categories: NDArray[np.int64],
    *,
    with_maps: bool,
    scaled: bool,
    runtime: Runtime,
) -> TrainingFeatures:
    """Extract the features of the training images onto disk.

    Args:
        model: the image-text model.
        images: the training images.
        grid: (height, width) in patches.
        categories: the category of each image, as an index.
        with_maps: whether the layers' maps are kept in their own sizes too.
        scaled: whether features are divided by their root mean square.
        runtime: feature store and progress.

    Raises:
        SpecError: no images.
    """
    if not len(images):
        raise SpecError("Expected images to train on, got none. Check the split.")
    if with_maps:
        patches, codes, *maps = stack_on_disk(
            _with_maps(model, images, grid, runtime), len(images), runtime.checkpoints
        )
    else:
        patches, codes = PatchExtractor(model, grid, runtime=runtime).on_disk(images)
        maps = []
    scales = (root_mean_square(patches), root_mean_square(codes)) if scaled else (1.0, 1.0)
    return TrainingFeatures(patches, codes, tuple(maps), model.channels, grid, categories, scales)


def to_patches(maps: list[Tensor], grid: Grid) -> Tensor:
    """Return maps (B, C, h, w) as patches (B, h * w, C): on one grid, corners on corners, one after the other."""
    levels = [
        level if level.shape[2:] == grid else F.interpolate(level, size=grid, mode="bilinear", align_corners=True)
        for level in maps
    ]
    return torch.cat(levels, dim=1).flatten(2).transpose(1, 2)


def _with_maps(model: VisionLanguage, images: ImageSet, grid: Grid, runtime: Runtime) -> Iterator[Maps]:
    for features in model.extract(images, runtime):
        yield (*aligned(features.maps, grid), features.code, *features.maps)
