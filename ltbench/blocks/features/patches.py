"""Patch vectors: what a memory bank holds for each place of a feature map.

`official_patches` and `pooled_patches` take one image's maps, finest first, and return its patches in row-major order
with the grid's size; `official` and `pooled` do so for a batch that is on a device, and let it stay there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.threads import torch_on_one_thread

Patches = NDArray[np.float32]
Grid = tuple[int, int]

_NEIGHBOURHOOD = 3


def official_patches(maps: Sequence[NDArray[np.float32]], embed_dim: int = 1024) -> tuple[Patches, Grid]:
    """Return PatchCore's locally aware patch features, as amazon-science/patchcore-inspection computes them.

    3x3 neighbourhoods (stride 1, zeros outside) of each level, brought to the first level's grid bilinearly; each
    neighbourhood, flattened channel by channel, adaptively averaged to `embed_dim` values; those of all levels, one
    after the other, averaged to `embed_dim` again. All of it is linear, so that where the averages line up with whole
    channels it is one 3x3 convolution a level, at the level's own resolution (WideResNet50-2: a twelfth of the time).

    Args:
        maps: one (C, h, w) map a level.
        embed_dim: length of a patch vector.

    Returns:
        Patches (h * w, embed_dim) and the grid (h, w) of the first level.
    """
    return _of_image(maps, partial(official, embed_dim=embed_dim))


def pooled_patches(maps: Sequence[NDArray[np.float32]]) -> tuple[Patches, Grid]:
    """Return 3x3-averaged features of all levels on the coarsest grid, concatenated, without normalisation.

    Each level is average-pooled (3x3, stride 1, zeros outside counted); finer levels are then averaged down to the grid
    of the coarsest. With maps of 28x28 and 14x14 that is 2x2 averages of the first.

    Args:
        maps: one (C, h, w) map a level.

    Returns:
        Patches (h * w, sum of C) and the grid (h, w) of the coarsest level.
    """
    return _of_image(maps, pooled)


def official(levels: Sequence[Tensor], embed_dim: int = 1024) -> Tensor:
    """Return what `official_patches` makes, (B, h, w, embed_dim), of a batch's levels (B, C, h, w) where they are."""
    images, _, *grid = levels[0].shape
    if _is_aligned([level.shape[1] for level in levels], embed_dim):
        parts = [_resized(_aligned(level, len(levels), embed_dim), grid) for level in levels]
        return torch.cat(parts, dim=1).permute(0, 2, 3, 1)
    averages = torch.stack([_unaligned(level, grid, embed_dim) for level in levels], dim=1)
    return F.adaptive_avg_pool1d(averages.flatten(1)[:, None], embed_dim)[:, 0].view(images, *grid, embed_dim)


def official_bytes(maps: Sequence[tuple[int, int, int]], embed_dim: int) -> int:
    """Return the bytes that `official` takes an image beside some copies of its levels, of shapes (C, h, w).

    Where averages do not line up with channels, nine values of each are there, as they are, resized and transposed.
    """
    if _is_aligned([channels for channels, _, _ in maps], embed_dim):
        return 0
    _, height, width = maps[0]
    averages = (2 * len(maps) + 1) * embed_dim * height * width
    largest = max(channels * (rows * columns + 2 * height * width) for channels, rows, columns in maps)
    return 4 * (averages + _NEIGHBOURHOOD**2 * largest)


def pooled(levels: Sequence[Tensor]) -> Tensor:
    """Return what `pooled_patches` makes, (B, h, w, sum of C), of a batch's levels (B, C, h, w) where they are."""
    grid = min((level.shape[2], level.shape[3]) for level in levels)
    averages = [F.avg_pool2d(level, _NEIGHBOURHOOD, stride=1, padding=1) for level in levels]
    return torch.cat([F.adaptive_avg_pool2d(level, grid) for level in averages], dim=1).permute(0, 2, 3, 1)


def _of_image(
    maps: Sequence[NDArray[np.float32]], of_batch: Callable[[Sequence[Tensor]], Tensor]
) -> tuple[Patches, Grid]:
    with torch.inference_mode(), torch_on_one_thread():
        found = of_batch([torch.tensor(level)[None] for level in maps])[0]
        return np.ascontiguousarray(found.flatten(0, 1).numpy()), (found.shape[0], found.shape[1])


def _is_aligned(channels: Sequence[int], embed_dim: int) -> bool:
    """Return whether averages of levels with so many channels line up with whole channels."""
    return all(own * len(channels) % embed_dim == 0 for own in channels) and embed_dim % len(channels) == 0


def _aligned(level: Tensor, levels: int, embed_dim: int) -> Tensor:
    """Return a level's share of patch vectors, (B, embed_dim / levels, h, w), where an output averages whole channels.

    Each output is the same weighted sum of the 3x3 neighbourhoods of `channels` adjacent channels: a convolution in
    which every group of channels is an image of its own.
    """
    images, count, height, width = level.shape
    channels = count * levels // embed_dim
    groups = level.reshape(images * count // channels, channels, height, width)
    weights = _weights(channels, levels, level.device)
    return F.conv2d(groups, weights, padding=1).view(images, count // channels, height, width)


@cache
def _weights(channels: int, levels: int, device: torch.device) -> Tensor:
    """Return the weight, (1, channels, 3, 3), of each neighbour in an output: what both averages make of a unit."""
    size = channels * _NEIGHBOURHOOD**2
    first = F.adaptive_avg_pool1d(torch.eye(size)[:, None], levels)
    return first.mean(dim=2).view(1, channels, _NEIGHBOURHOOD, _NEIGHBOURHOOD).to(device)


def _unaligned(level: Tensor, grid: Sequence[int], embed_dim: int) -> Tensor:
    """Return a level's averaged neighbourhoods, (B * h * w, embed_dim), by the letter of the definition."""
    planes = F.unfold(level, _NEIGHBOURHOOD, padding=1).view(len(level), -1, *level.shape[2:])
    neighbourhoods = _resized(planes, grid).flatten(2).transpose(1, 2).flatten(0, 1)
    return F.adaptive_avg_pool1d(neighbourhoods[:, None], embed_dim)[:, 0]


def _resized(planes: Tensor, grid: Sequence[int]) -> Tensor:
    if list(planes.shape[2:]) == list(grid):
        return planes
    return F.interpolate(planes, size=tuple(grid), mode="bilinear", align_corners=False)
