"""Where the student fails: gradients of the score with respect to the image.

Source: the authors' code (rohban-lab/Knowledge_Distillation_AD, `localization`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.maps import smooth

Localisation = Literal["guided", "gradients", "smooth_grad"]
MapNorm = Literal["per_image", "none"]
Map = NDArray[np.float32]

AT_ONCE = 10
"""Noisy copies of an image whose graphs are in memory at once."""

PERCENTILE = 99
"""Of the gradients of an image, the one that becomes 1 (authors' code)."""


def gradients(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the gradient of each image's score with respect to the image, (B, 3, H, W).

    The gradient of their sum is each image's own.

    Args:
        score: images (B, 3, H, W) -> (B), each score of its image alone.
        images: (B, 3, H, W).
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        seen = images.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(score(seen).sum(), seen)
    return found


def magnitudes_of(gradient: Tensor) -> Tensor:
    """Return the magnitudes of gradients (B, 3, H, W), added over colours, (B, H, W)."""
    return gradient.abs().sum(dim=1)


def grey(magnitudes: Map, norm: MapNorm) -> Map:
    """Return the magnitudes of a gradient, (H, W), on the scale of a map.

    With "per_image" the smallest becomes 0, the 99th percentile 1, and so does what is above; a flat map becomes 0.
    """
    if norm == "none":
        return magnitudes
    low, high = float(magnitudes.min()), float(np.percentile(magnitudes, PERCENTILE))
    return np.clip(_divided(magnitudes - np.float32(low), high - low), 0, 1).astype(np.float32)


def stretched(values: Map) -> Map:
    """Return values from 0 to 1; flat ones become 0."""
    return _divided(values - values.min(), float(np.ptp(values))).astype(np.float32)


def noise_deviation(image: Tensor, scale: float) -> float:
    """Return the standard deviation of SmoothGrad's noise: (scale / range of the image)^2, squared as in the code.

    A flat image gets none.
    """
    extent = (image.max() - image.min()).item()
    return (scale / extent) ** 2 if extent else 0.0


def noisy_grey(
    gradients_of: Callable[[Tensor], Tensor],
    image: Tensor,
    noise: Callable[[int], Tensor],
    *,
    norm: MapNorm,
    draws: int,
) -> Map:
    """Return the mean of the grey maps of noisy copies of an image, (H, W), as SmoothGrad has it.

    Args:
        gradients_of: images (B, 3, H, W) -> their gradients.
        image: (3, H, W).
        noise: number of copies -> (copies, 3, H, W) to be added; called several times.
        norm: see `grey`.
        draws: noisy copies.
    """
    total = np.zeros(image.shape[1:], np.float64)
    for start in range(0, draws, AT_ONCE):
        found = magnitudes_of(gradients_of(image + noise(min(AT_ONCE, draws - start))))
        for magnitudes in found.cpu().numpy():
            total += grey(magnitudes, norm)
    return (total / draws).astype(np.float32)


def anomaly_map(found: Map, *, localisation: Localisation, norm: MapNorm, sigma: float) -> Map:
    """Return the map of an image, (H, W), from 0.

    Args:
        found: its grey map, or the mean of those of noisy copies.
        localisation: with "per_image", "guided" and "smooth_grad" stretch the map once more.
        norm: as in `grey`.
        sigma: Gaussian over the map, in pixels.
    """
    if norm == "per_image" and localisation != "gradients":
        found = stretched(found)
    return smooth(found, sigma)


def _divided(values: Map, by: float) -> Map:
    return values / np.float32(by) if by > 0 else np.zeros_like(values)
