"""Maps and masks at the resolution at which a protocol compares pixels, where that is not the image's."""

from __future__ import annotations

import numpy as np

from ltbench.metrics.ranking import Flags, Values


def at_side(maps: Values, masks: Flags, side: int | None) -> tuple[Values, Flags]:
    """Return maps and masks of `side` x `side` pixels; as they are if there is no side.

    Maps are resized bilinearly and masks to the nearest pixel at or before, both as torch.nn.functional.interpolate
    does (corners not aligned, no antialiasing): Dinomaly's evaluation.

    Args:
        maps: (N, H, W).
        masks: (N, H, W) booleans.
        side: in pixels, or None.
    """
    if side is None:
        return maps, masks
    rows, columns = (_bilinear(side, length) for length in maps.shape[1:])
    resized = np.stack([(rows @ one.astype(np.float64) @ columns.T).astype(maps.dtype) for one in maps])
    places = [np.arange(side) * length // side for length in masks.shape[1:]]
    return resized, masks[:, places[0][:, None], places[1]]


def _bilinear(side: int, length: int) -> Values:
    """Return the matrix (side, length) that interpolates linearly."""
    positions = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
    weights: Values = np.maximum(0.0, 1.0 - np.abs(positions[:, None] - np.arange(length)))
    return weights
