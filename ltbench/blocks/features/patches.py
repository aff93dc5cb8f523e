"""Patch vectors: what a memory bank holds for each place of a feature map.

Each function takes one image's maps, finest first, and returns its patches in row-major order with the grid's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

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
    grid = (maps[0].shape[1], maps[0].shape[2])
    with torch.inference_mode(), torch_on_one_thread():
        if all(len(level) * len(maps) % embed_dim == 0 for level in maps) and embed_dim % len(maps) == 0:
            channels = torch.cat([_resized(_aligned(level, len(maps), embed_dim), grid) for level in maps])
            patches = channels.flatten(1).T
        else:
            levels = torch.stack([_unaligned(torch.tensor(level), grid, embed_dim) for level in maps], dim=1)
            patches = F.adaptive_avg_pool1d(levels.flatten(1)[:, None], embed_dim)[:, 0]
        return np.ascontiguousarray(patches.numpy()), grid


def pooled_patches(maps: Sequence[NDArray[np.float32]]) -> tuple[Patches, Grid]:
    """Return 3x3-averaged features of all levels on the coarsest grid, concatenated, without normalisation.

    Each level is average-pooled (3x3, stride 1, zeros outside counted); finer levels are then averaged down to the grid
    of the coarsest. With maps of 28x28 and 14x14 that is 2x2 averages of the first.

    Args:
        maps: one (C, h, w) map a level.

    Returns:
        Patches (h * w, sum of C) and the grid (h, w) of the coarsest level.
    """
    grid = min((level.shape[1], level.shape[2]) for level in maps)
    with torch.inference_mode(), torch_on_one_thread():
        pooled = [F.avg_pool2d(torch.tensor(level)[None], _NEIGHBOURHOOD, stride=1, padding=1) for level in maps]
        levels = torch.cat([F.adaptive_avg_pool2d(level, grid)[0] for level in pooled])
        return np.ascontiguousarray(levels.flatten(1).T.numpy()), grid


def _aligned(level: NDArray[np.float32], levels: int, embed_dim: int) -> Tensor:
    """Return a level's share of the patch vector, (embed_dim / levels, h, w), where an output averages whole channels.

    Each output is the same weighted sum of the 3x3 neighbourhoods of `channels` adjacent channels: a convolution in
    which every group of channels is an image of its own.
    """
    count, height, width = level.shape
    channels = count * levels // embed_dim
    groups = torch.tensor(level).view(count // channels, channels, height, width)
    return F.conv2d(groups, _weights(channels, levels), padding=1)[:, 0]


@cache
def _weights(channels: int, levels: int) -> Tensor:
    """Return the weight, (1, channels, 3, 3), of each neighbour in an output: what both averages make of a unit."""
    size = channels * _NEIGHBOURHOOD**2
    first = F.adaptive_avg_pool1d(torch.eye(size)[:, None], levels)
    return first.mean(dim=2).view(1, channels, _NEIGHBOURHOOD, _NEIGHBOURHOOD)


def _unaligned(level: Tensor, grid: Grid, embed_dim: int) -> Tensor:
    """Return a level's averaged neighbourhoods, (h * w, embed_dim), by the letter of the definition."""
    planes = F.unfold(level[None], _NEIGHBOURHOOD, padding=1).view(-1, *level.shape[1:])
    neighbourhoods = _resized(planes, grid).flatten(1).T
    return F.adaptive_avg_pool1d(neighbourhoods[:, None], embed_dim)[:, 0]


def _resized(planes: Tensor, grid: Grid) -> Tensor:
    if planes.shape[1:] == grid:
        return planes
    return F.interpolate(planes[None], size=grid, mode="bilinear", align_corners=False)[0]
