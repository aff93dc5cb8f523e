"""From distances of tokens to Dinomaly's map and image score (its code's evaluation)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from ltbench.blocks.maps import upsample

KERNEL_SIDE = 5
"""Pixels of the Gaussian, however wide it is."""


def kernel(sigma: float) -> NDArray[np.float64]:
    """Return a Gaussian of five pixels that adds up to 1; of `sigma` 0, one that leaves a map alone."""
    offsets = np.arange(KERNEL_SIDE) - KERNEL_SIDE // 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2)) if sigma else (offsets == 0).astype(np.float64)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def smoothed(anomaly_map: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return a map (H, W) after the Gaussian; outside of it are zeros."""
    for axis in (0, 1):
        anomaly_map = correlate1d(anomaly_map, kernel(sigma), axis, np.float32, mode="constant")
    return anomaly_map


def mean_map(grids: Sequence[NDArray[np.float32]], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the mean of the groups' distances (h, w), resized bilinearly, corners on corners."""
    return upsample(np.mean(grids, axis=0), size, align_corners=True)


def top_mean(anomaly_map: NDArray[np.float32], share: float) -> float:
    """Return the mean of the largest int(share x pixels) values of a map, of one at least."""
    count = max(int(anomaly_map.size * share), 1)
    return float(np.partition(anomaly_map.ravel(), -count)[-count:].mean(dtype=np.float64))


def score_grids(
    grids: Sequence[NDArray[np.float32]], size: tuple[int, int], side: int, sigma: float, share: float
) -> tuple[float, NDArray[np.float32]]:
    """Return an image's score and its map.

    The mean of the groups is resized to the image, from there to `side` x `side` pixels and smoothed; this gives the
    score, and, resized to the image again, the map.

    Args:
        grids: distances (h, w) of each group.
        size: (H, W) of the image.
        side: pixels; 0 to stay with the image's.
        sigma: deviation of the Gaussian in those pixels.
        share: of the pixels whose mean is the score.
    """
    found = mean_map(grids, size)
    if side:
        found = upsample(found, (side, side))
    found = smoothed(found, sigma)
    return top_mean(found, share), found if found.shape == size else upsample(found, size)
