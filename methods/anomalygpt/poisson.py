"""Poisson blending (Perez, Gangnet, Blake, SIGGRAPH 2003) as OpenCV's seamlessClone does it, without OpenCV.

It agrees with OpenCV 5.0 to one grey level (tests/methods/anomalygpt/test_parity.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dstn, idstn
from scipy.ndimage import binary_erosion

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Field = NDArray[np.float64]

FEWEST = 50
"""Pixels of a mask below which nothing is blended (AnomalyGPT's code)."""

_SQUARE = np.ones((3, 3), np.bool_)


def box_of(mask: Mask, margin: int = 0) -> tuple[slice, slice]:
    """Return the rows and columns of a mask's bounding box, a margin more on each side as far as there is one."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + 1 + margin),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + 1 + margin),
    )


def blended(piece: Pixels, mask: Mask, image: Pixels, centre: tuple[int, int]) -> Pixels:
    """Return an image with a piece blended in: gradients are the piece's, colours those around it.

    Args:
        piece: (h, w, 3).
        mask: (h, w), where the piece counts, not empty; its outermost pixels are False.
        image: (H, W, 3).
        centre: (row, column) of the image at which the middle of the mask's bounding box comes to lie.
    """
    box = box_of(mask)
    inner = mask[box]
    height, width = inner.shape
    if min(height, width) < 3:  # all of it is the window's outermost pixels, which stay
        return image
    top, left = centre[0] - height // 2, centre[1] - width // 2
    window = image[top : top + height, left : left + width].astype(np.float64)
    source = np.where(inner[..., None], piece[box], 0).astype(np.float64)
    own = binary_erosion(inner, _SQUARE, iterations=3, border_value=0)[..., None]
    rows, columns = (np.where(own, _ahead(source, axis), _ahead(window, axis)) for axis in (0, 1))
    divergence = rows - np.roll(rows, 1, axis=0) + columns - np.roll(columns, 1, axis=1)
    found = image.copy()
    inside = found[top + 1 : top + height - 1, left + 1 : left + width - 1]
    inside[:] = solved(divergence[1:-1, 1:-1], window).clip(0, 255).astype(np.uint8)
    return found


def _ahead(values: Field, axis: int) -> Field:
    """Return the difference to the next pixel; behind the last one the last but one stands again."""
    last = np.take(values, [-2], axis=axis)
    return np.diff(values, axis=axis, append=last)


def solved(divergence: Field, window: Field) -> Field:
    """Return the pixels inside a window (h, w, 3) whose Laplacian is given and whose outermost pixels stay.

    The sine transform of the second kind of boundary, fixed values, makes the five-point Laplacian diagonal.
    """
    right = divergence.copy()
    right[0] -= window[0, 1:-1]
    right[-1] -= window[-1, 1:-1]
    right[:, 0] -= window[1:-1, 0]
    right[:, -1] -= window[1:-1, -1]
    down, across = (
        2 * np.cos(np.pi * np.arange(1, count + 1) / (count + 1)) for count in (right.shape[0], right.shape[1])
    )
    values = dstn(right, type=1, axes=(0, 1)) / (down[:, None] + across - 4)[..., None]
    solution: Field = idstn(values, type=1, axes=(0, 1))
    return solution
