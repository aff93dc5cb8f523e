"""Losses of maps that say where a defect is, which several methods train by."""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTH = 1e-5
"""How far a target stays from 0 and 1, and what is added to a probability before its logarithm."""


def focal(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return the focal loss with gamma 2 and no class weights (Lin et al., arXiv 1708.02002), a scalar.

    It is the mean over pixels of -(1 - p)^2 log p, p being the probability of the true side. DRAEM, AnomalyCLIP and
    AnomalyGPT have one code of it.

    Args:
        probabilities: (B, 2, H, W), of normal and abnormal.
        masks: (B, H, W), 1 on a defect, else 0.
    """
    wanted = torch.stack([1 - masks, masks], dim=1).clamp(SMOOTH, 1 - SMOOTH)
    right = (wanted * probabilities).sum(dim=1) + SMOOTH
    return -((1 - right).square() * right.log()).mean()


def dice(maps: Tensor, masks: Tensor) -> Tensor:
    """Return 1 minus the mean over images of (2 |a g| + 1) / (|a| + |g| + 1), of maps and masks (B, H, W)."""
    a, g = maps.flatten(1), masks.flatten(1)
    return 1 - ((2 * (a * g).sum(dim=1) + 1) / (a.sum(dim=1) + g.sum(dim=1) + 1)).mean()
