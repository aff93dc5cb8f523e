"""The 22 versions of a support image; MediaBrain-SJTU/RegAD (5e2c1f8), in the order of its test function."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .transformers import resampled

VERSIONS = 22

ANGLES = (-45.0, -33.75, -22.5, -11.25, 11.25, 22.5, 33.75, 45.0)
"""Degrees of the turns that need interpolation."""
SHIFTS = tuple((step * x, step * y) for step in (0.2, 0.1) for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1)))
"""Shifts along columns and rows, of which 2 are the whole image: out(x) = in(x + shift)."""
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue."""


def versions(images: Tensor) -> Iterator[Tensor]:
    """Yield the 22 versions of images (K, 3, H, W): as they are, turned, shifted, mirrored, grey, quarter turns.

    Quarter turns are counter-clockwise and exact; they need square images.
    """
    yield images
    for angle in ANGLES:
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        yield _moved(images, [[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    for across, along in SHIFTS:
        yield _moved(images, [[1.0, 0.0, across], [0.0, 1.0, along]])
    yield images.flip(3)
    yield (images * images.new_tensor(GREY).view(3, 1, 1)).sum(dim=1, keepdim=True).expand_as(images)
    for turns in (1, 2, 3):
        yield torch.rot90(images, turns, (2, 3))


def _moved(images: Tensor, matrix: list[list[float]]) -> Tensor:
    return resampled(images, images.new_tensor(matrix).expand(len(images), 2, 3))
