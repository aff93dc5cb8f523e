"""How much memory WinCLIP's references take, from counts alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ltbench.blocks.vision_language import LAST
from ltbench.blocks.vision_language.shapes import model_shape

DOUBLE = 8
"""Bytes of a float64."""

MAKING = 2
"""Times of a category's vectors that there are beside them while they are made: as they are read and joined, both in
float32, and in float64 before they have length 1."""


def memory_bytes(
    model: str, windows: Sequence[int], size: tuple[int, int], shots: int, categories: int
) -> tuple[int, int]:
    """Return the bytes of the references' vectors while they are made, and with cosines while images are scored.

    Args:
        model: name of the image-text model.
        windows: sides of the windows, in patches.
        size: (height, width) in pixels that the model is given.
        shots: references of each category.
        categories: of each of which there is one memory.
    """
    shape = model_shape(model)
    patches = shape.block(LAST, size)
    counts = [(patches.height - side + 1) * (patches.length - side + 1) for side in windows]
    one = DOUBLE * shots * (patches.places * patches.width + sum(counts) * shape.dim)
    most = max(patches.places, *counts, 0)
    return one * (categories + MAKING), one * categories + DOUBLE * torch.get_num_threads() * shots * most**2
