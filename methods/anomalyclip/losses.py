"""AnomalyCLIP's losses, on probabilities of "normal" and "abnormal" (zqhang/AnomalyCLIP; paper, equation 2)."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ltbench.blocks.training.losses import dice, focal


def probabilities(vectors: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Return P(normal) and P(abnormal), (..., 2): a softmax of cosines over the temperature.

    Args:
        vectors: (..., D), of images or patches.
        texts: (2, D): of the normal and the abnormal prompt.
        temperature: tau.
    """
    cosines = F.normalize(vectors, dim=-1) @ F.normalize(texts, dim=-1).T
    return (cosines / temperature).softmax(dim=-1)


def upsampled(patches: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return probabilities of patches (B, h * w, 2) as maps (B, 2, H, W), resized bilinearly, edges on edges."""
    maps = patches.transpose(1, 2).unflatten(2, grid)  # type: ignore[no-untyped-call]
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def map_loss(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the focal loss and the dice losses of the abnormal and of the normal map."""
    return focal(maps, masks) + dice(maps[:, 1], masks) + dice(maps[:, 0], 1 - masks)


def image_loss(codes: Tensor, texts: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of images' codes (B, D) with their labels (B,), 1 for a defect."""
    cosines = F.normalize(codes, dim=-1) @ F.normalize(texts, dim=-1).T
    return F.cross_entropy(cosines / temperature, labels)
