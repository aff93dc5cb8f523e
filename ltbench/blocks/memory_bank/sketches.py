"""What stands for a bank's rows in matrix products: no farther apart than the rows, but for bounded roundings."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh

from ltbench.blocks.memory_bank.measuring import gamma

Array = NDArray[np.float32]

SAMPLE = 2048
"""Rows, evenly spaced, whose mean is the centre and whose principal axes are taken."""

SHARE = 4
"""Principal axes and the length of the rest are one of so many columns."""

_UNIT64 = 2.0**-53  # largest relative error of one float64 rounding


class Sketch(Protocol):
    """A map s of rows to vectors with |s(x) - s(y)| <= |x - y|, were it not for roundings.

    Attributes:
        width: length of a sketch.
        error: how far a sketch can be from what it would be without roundings, in units of its length.
    """

    width: int
    error: float

    def of(self, rows: Array) -> Array:
        """Return the sketches of rows (n, D), (n, width); of rows that are not finite they are not finite either."""


class Centred:
    """A row as it is, less the mean of a sample, so that products lose fewer digits."""

    def __init__(self, memory: Array) -> None:
        self.width, self.error = memory.shape[1], gamma(2)
        with np.errstate(over="ignore", invalid="ignore"):
            self._centre = _sample(memory).mean(axis=0, dtype=np.float64).astype(np.float32)

    def of(self, rows: Array) -> Array:
        """Return (n, D)."""
        with np.errstate(over="ignore", invalid="ignore"):
            centred: Array = rows - self._centre
        return centred


class Principal:
    """A row's coordinates on the first principal axes of a sample, and the length of what they leave out.

    |x - y|^2 >= |x' - y'|^2 + (|x''| - |y''|)^2, where ' is the part on the axes and '' the rest. Of patch features a
    quarter of the columns leaves a few dozen of thousands of rows to be measured.

    Roundings, relative to |x - centre|, all but the last in float64: the axes are within |A'A - I| of orthonormal ones
    (Frobenius norm), and a product with them is off by gamma(D + 2) |A|; the square of the rest, a difference, by four
    times these and the roundings of two sums; its root by no more than the root of that.
    """

    def __init__(self, memory: Array) -> None:
        columns = memory.shape[1]
        self.width = columns // SHARE
        sample = _sample(memory).astype(np.float64)
        self._centre = sample.mean(axis=0)
        sample -= self._centre
        axes = eigh(sample.T @ sample, subset_by_index=(columns - self.width + 1, columns - 1))[1]
        skew = float(np.linalg.norm(axes.T @ axes - np.eye(self.width - 1)))
        self._axes = torch.from_numpy(np.ascontiguousarray(axes))
        sums = gamma(columns + 2, _UNIT64)
        coordinates = skew + 2 * sums * self.width + sums * math.sqrt(self.width)
        error = coordinates + math.sqrt(4 * coordinates + 4 * sums) + gamma(2)
        self.error = error / (1 - error)

    def of(self, rows: Array) -> Array:
        """Return (n, axes + 1)."""
        with np.errstate(over="ignore", invalid="ignore"):
            centred = rows - self._centre
            coordinates = (torch.from_numpy(centred) @ self._axes).numpy()
            rest = np.einsum("ij,ij->i", centred, centred) - np.einsum("ij,ij->i", coordinates, coordinates)
            sketches = np.empty((len(rows), self.width), np.float32)
            sketches[:, :-1], sketches[:, -1] = coordinates, np.sqrt(np.maximum(rest, 0))
        return sketches


def _sample(memory: Array) -> Array:
    return memory[:: -(-len(memory) // SAMPLE)]
