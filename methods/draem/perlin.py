"""Perlin noise: where synthetic defects lie.

Source: Perlin, "Improving noise", 2002 (the fade), and what the authors' code makes of it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

Plane = NDArray[np.float32]

LARGEST_POWER = 5
"""Defects have 2^0 to 2^5 cells of noise along each side (authors' code)."""


def noise(side: int, angles: NDArray[np.floating]) -> Plane:
    """Return gradient noise, (side, side), between -1 and 1.

    Pixel i lies at i * cells / side of the lattice, so that the first row and column lie on it.

    Args:
        side: in pixels.
        angles: (rows + 1, columns + 1), directions of the gradients at the lattice points in radians: cosine downwards,
            sine to the right.
    """
    downwards, rightwards = np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32)
    (top, y), (left, x) = (_places(side, count - 1) for count in angles.shape)
    y, x = y[:, None], x[None]

    def corner(down: int, right: int) -> Plane:
        place = np.ix_(top + down, left + right)
        product: Plane = downwards[place] * (y - down) + rightwards[place] * (x - right)
        return product

    across = _fade(x)
    upper, lower = ((1 - across) * corner(down, 0) + across * corner(down, 1) for down in (0, 1))
    along = _fade(y)
    mixed: Plane = np.float32(math.sqrt(2)) * ((1 - along) * upper + along * lower)
    return mixed


def drawn_noise(side: int, powers: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Return noise of 2^a by 2^b cells with random gradients.

    Args:
        side: in pixels.
        powers: (a, b) for rows and columns.
        rng: where the gradients come from.
    """
    rows, columns = (2**power for power in powers)
    return noise(side, 2 * math.pi * rng.random((rows + 1, columns + 1)))


def turned(plane: Plane, degrees: float) -> Plane:
    """Return a plane (H, W) turned clockwise on the screen about its middle, bilinear, zeros coming in."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    middle = (np.array(plane.shape) - 1) / 2
    found: Plane = affine_transform(
        plane, matrix, middle - matrix @ middle, order=1, mode="grid-constant", output=np.float32
    )
    return found


def drawn_mask(side: int, threshold: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return where a synthetic defect lies, (side, side): turned noise above a threshold; now and then nowhere.

    Args:
        side: in pixels.
        threshold: 0.5 in the authors' code.
        rng: draws the cells, the gradients and the angle of up to 90 degrees either way.
    """
    a, b = rng.integers(0, LARGEST_POWER, 2, endpoint=True).tolist()
    mask: NDArray[np.bool_] = turned(drawn_noise(side, (a, b), rng), rng.uniform(-90, 90)) > threshold
    return mask


def _places(side: int, cells: int) -> tuple[NDArray[np.intp], Plane]:
    """Return the cell of each pixel along one side, and where in it the pixel lies, in [0, 1)."""
    positions = np.arange(side) * cells / side
    first = positions.astype(np.intp)
    return first, (positions - first).astype(np.float32)


def _fade(t: Plane) -> Plane:
    """Return 6 t^5 - 15 t^4 + 10 t^3."""
    return t * t * t * (t * (t * 6 - 15) + 10)
