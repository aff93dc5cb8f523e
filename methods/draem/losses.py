"""DRAEM's three losses, added with weight 1: squared difference, structural similarity, and focal loss.

Source: section 3 of the paper and the authors' code (VitjanZ/DRAEM).
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ltbench.blocks.training.losses import focal

SsimRange = Literal["one", "inferred"]

SIDE, SIGMA = 11, 1.5
"""The Gaussian window of SSIM, in pixels (Wang et al., 2004)."""


def total_loss(rebuilt: Tensor, logits: Tensor, clean: Tensor, mask: Tensor, ssim_range: SsimRange) -> Tensor:
    """Return the loss of a batch, a scalar.

    Args:
        rebuilt: (B, 3, H, W).
        logits: (B, 2, H, W), normal and abnormal.
        clean: (B, 3, H, W) in [0, 1], what should have been rebuilt.
        mask: (B, H, W), 1 where pixels are abnormal, else 0.
        ssim_range: see `dynamic_range`.
    """
    similarity = ssim(rebuilt, clean, dynamic_range(rebuilt, ssim_range))
    return F.mse_loss(rebuilt, clean) + (1 - similarity) + focal(torch.softmax(logits, dim=1), mask)


def dynamic_range(rebuilt: Tensor, ssim_range: SsimRange) -> float:
    """Return L of SSIM: the range of the images' values.

    "one" is what images in [0, 1] have. "inferred" is the authors': from 0, or from -1 where a value of the batch was
    rebuilt below -0.5, to 1, or to 255 with one above 128.
    """
    if ssim_range == "one":
        return 1.0
    return (255.0 if rebuilt.max() > 128 else 1.0) - (-1.0 if rebuilt.min() < -0.5 else 0.0)


def ssim(one: Tensor, other: Tensor, value_range: float) -> Tensor:
    """Return the mean structural similarity (Wang et al., 2004, eq. 13) of images (B, C, H, W), a scalar.

    Means and variances are Gaussian-weighted, zeros outside counted; constants (0.01 L)^2 and (0.03 L)^2.
    """
    moments = torch.stack([one, other, one * one, other * other, one * other])
    mean_one, mean_other, square_one, square_other, product = _blurred(moments)
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    variances = (square_one - mean_one**2) + (square_other - mean_other**2)
    covariance = product - mean_one * mean_other
    numerator = (2 * mean_one * mean_other + c1) * (2 * covariance + c2)
    similarity: Tensor = numerator / ((mean_one**2 + mean_other**2 + c1) * (variances + c2))
    return similarity.mean()


def _blurred(maps: Tensor) -> Tensor:
    """Return maps (..., H, W) under the Gaussian window: products of matrices, many times faster than convolutions."""
    height, width = maps.shape[-2:]
    rows, columns = _window(height, maps.device, maps.dtype), _window(width, maps.device, maps.dtype)
    return rows @ maps @ columns.T


@cache
def _window(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix (length, length) that takes the window's mean along one axis, zeros outside counted."""
    places = torch.arange(length, dtype=torch.float64)
    distances = places[:, None] - places
    window = torch.where(distances.abs() <= SIDE // 2, (-distances.square() / (2 * SIGMA**2)).exp(), 0)
    weights = (-(torch.arange(SIDE, dtype=torch.float64) - SIDE // 2).square() / (2 * SIGMA**2)).exp()
    return (window / weights.sum()).to(device, dtype)
