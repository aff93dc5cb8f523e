"""Anomaly maps that look like a method's: smooth noise, raised over the defects."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

MapsAndMasks = tuple[NDArray[np.float32], NDArray[np.bool_]]


@pytest.fixture(scope="session")
def smooth() -> MapsAndMasks:
    """24 maps of 64x64, 16 of them with two defects each (touching now and then), read-only."""
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((24, 64, 64)).astype(np.float32)
    masks = np.zeros(noise.shape, np.bool_)
    for mask in masks[:16]:
        for y, x, height, width in rng.integers((0, 0, 2, 2), (50, 50, 14, 14), size=(2, 4)):
            mask[y : y + height, x : x + width] = True
    maps = np.stack([ndimage.gaussian_filter(one, 2) for one in noise + 0.3 * masks]).astype(np.float32)
    maps.setflags(write=False)
    masks.setflags(write=False)
    return maps, masks
