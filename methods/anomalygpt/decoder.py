"""From patches to maps: the linear decoder that is trained, and the memory of a few normal images.

Source: the authors' code (CASIA-IVA-Lab/AnomalyGPT). Both give one map a block, all of one size; the anomaly map is
their mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.training.losses import dice, focal

Grid = tuple[int, int]

SCALE = 100.0
"""What cosines are multiplied by before the softmax."""

AT_ONCE = 1024
"""Patches that are compared with the memory at once: a bound on what lies in memory, not part of a result."""


class Decoder(nn.Module):
    """A linear layer for each block, from its patches into the space of texts. 5,246,976 parameters for ViT-H/14.

    Args:
        widths: of the blocks' patches.
        dim: of the texts' vectors.
        seed: of the weights before training, which are torch's usual ones.
    """

    def __init__(self, widths: Sequence[int], dim: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.ModuleList(nn.Linear(width, dim) for width in widths)

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Return the patches of each block, (B, n, width), in the space of texts, (B, n, dim)."""
        return [layer(own) for layer, own in zip(self.layers, tokens, strict=True)]


def abnormal_logits(decoded: Tensor, texts: Tensor, grid: Grid, size: Grid) -> Tensor:
    """Return how much nearer patches are to "abnormal" than to "normal", resized bilinearly, corners on corners.

    The softmax over both comes after resizing; of two it is the logistic function of their difference, which is all
    that has to be resized.

    Args:
        decoded: (B, h * w, D).
        texts: (B, 2, D) of length 1, normal and abnormal.
        grid: (h, w).
        size: (H, W) wanted.

    Returns:
        (B, H, W): a map is the logistic function of this.
    """
    with torch.autocast(decoded.device.type, enabled=False):
        return float32_logits(decoded.float(), texts, grid, size)


def float32_logits(decoded: Tensor, texts: Tensor, grid: Grid, size: Grid) -> Tensor:
    """Return `abnormal_logits` of float32 values, in float32 as long as nobody casts."""
    towards = (texts[:, 1] - texts[:, 0])[..., None]
    logits = SCALE * (F.normalize(decoded, dim=-1) @ towards)
    return _resized(logits[..., 0], grid, size)


def layer_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the focal and the Dice loss of one block's logits (B, H, W) and masks (B, H, W), 1 on an anomaly."""
    abnormal = torch.sigmoid(logits)
    return focal(torch.stack([torch.sigmoid(-logits), abnormal], dim=1), masks) + dice(abnormal, masks)


def decoded_map(decoded: Sequence[Tensor], texts: Tensor, grids: Sequence[Grid], size: Grid) -> Tensor:
    """Return the anomaly maps (B, H, W) of decoded patches, in (0, 1): the mean over blocks.

    Args:
        decoded: of each block, (B, h * w, D).
        texts: (B, 2, D) of length 1, normal and abnormal.
        grids: (h, w) of each block.
        size: (H, W) wanted.
    """
    maps = [torch.sigmoid(abnormal_logits(own, texts, grid, size)) for own, grid in zip(decoded, grids, strict=True)]
    return torch.stack(maps).mean(dim=0)


def similarity(tokens: Tensor, memory: Tensor) -> Tensor:
    """Return the highest cosine of each patch (n, width) with those of the memory (m, width), of length 1: (n,)."""
    parts = torch.split(F.normalize(tokens, dim=-1), AT_ONCE)
    return torch.cat([(part @ memory.T).amax(dim=1) for part in parts])


def remembered_map(tokens: Sequence[Tensor], memory: Sequence[Tensor], grids: Sequence[Grid], size: Grid) -> Tensor:
    """Return the anomaly maps (B, H, W) of images against normal ones, in [0, 2].

    Args:
        tokens: of each block, (B, h * w, width).
        memory: of each block, (m, width), of length 1.
        grids: (h, w) of each block.
        size: (H, W) wanted.
    """
    maps = [
        _resized(torch.stack([similarity(image, kept) for image in own]), grid, size)
        for own, kept, grid in zip(tokens, memory, grids, strict=True)
    ]
    return 1 - torch.stack(maps).mean(dim=0)


def _resized(values: Tensor, grid: Grid, size: Grid) -> Tensor:
    return F.interpolate(values.view(len(values), 1, *grid), size=size, mode="bilinear", align_corners=True)[:, 0]
