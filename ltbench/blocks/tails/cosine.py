"""Cosine similarities of all pairs, a block of rows at a time, the same to the last bit in any layout.

A floating-point matrix product rounds differently for another block shape, thread count or BLAS, and TailSampler cuts
similarities at a grid of 1/n, where the last bit decides. Here no product or sum is rounded at all. Unit rows are
stored as integers, in steps of 2^-26. By Cauchy-Schwarz every partial sum of a product of two rows is an integer of at
most |x| |y|, about 2^52, which float64 holds exactly, in whatever order a BLAS adds. What remains is one division and
one rounding to float32 a pair. Against the cosine of the given rows the fixed point errs by 6e-9 typically, a tenth
of a float32 step below 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltbench.errors import ContractError

STEPS = 2.0**26
"""Fixed-point steps in 1: the most for which a product of unit rows stays below 2^53 for any sensible dimension."""

STRIP, PANEL = 512, 4096
"""Rows and columns multiplied at once, 16 MiB of float64. The threads of a BLAS wait for one another in every call, and
on a busy machine long: so calls are few and large."""


class CosineBlocks:
    """The (n, n) cosine similarities of n rows as blocks of whole rows; can be iterated again and again.

    A similarity is symmetric, lies in [-1, 1], and is exactly 1 between equal rows and of a row with itself. A zero row
    has similarity 0 to every other row, so it is equal to none.

    Args:
        rows: (n, d) finite numbers, n >= 2.
        block_bytes: size of a block (one row at least). The result does not depend on it. If one block holds all rows,
            it is computed once and kept.

    Raises:
        ContractError: rows of another shape or type, or NaN or infinity among them.
    """

    def __init__(self, rows: ArrayLike, block_bytes: int) -> None:
        E = _checked(rows)
        self._integers = np.empty(E.shape, np.int32)
        self._norms = np.empty(len(E), np.float64)
        for start in range(0, len(E), STRIP):
            part = slice(start, start + STRIP)
            X = np.rint(_unit_rows(E[part], start) * STEPS)
            self._integers[part] = X
            self._norms[part] = np.sqrt((X * X).sum(axis=1))  # the sum is exact
        self._norms[self._norms == 0] = 1.0
        self._height = max(1, block_bytes // (4 * len(E)))
        self._whole: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return n."""
        return len(self._norms)

    def __iter__(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield (rows, their similarities to all rows), in order. The next block overwrites the one before."""
        n = len(self)
        if self._whole is not None:
            yield slice(0, n), self._whole
            return
        S = np.empty((min(self._height, n), n), np.float32)
        for start in range(0, n, self._height):
            stop = min(start + self._height, n)
            self._fill(S[: stop - start], start, stop)
            if stop - start == n:
                self._whole = S
            yield slice(start, stop), S[: stop - start]

    def _fill(self, S: NDArray[np.float32], start: int, stop: int) -> None:
        """Write the similarities of rows start..stop to all rows into S; what lies below the diagonal is mirrored."""
        for top in range(start, stop, STRIP):
            rows = slice(top, min(top + STRIP, stop))
            strip = S[top - start : rows.stop - start]
            strip[:, start:top] = S[: top - start, rows].T
            self._multiply(strip, rows, 0, start)
            self._multiply(strip, rows, top, len(self))
        np.fill_diagonal(S[:, start:stop], 1.0)  # changes zero rows only

    def _multiply(self, strip: NDArray[np.float32], rows: slice, first: int, end: int) -> None:
        """Write the similarities of `rows` to first..end into these columns of their strip."""
        X = self._integers[rows].astype(np.float64)
        for left in range(first, end, PANEL):
            columns = slice(left, min(left + PANEL, end))
            products = X @ self._integers[columns].astype(np.float64).T
            products /= np.multiply.outer(self._norms[rows], self._norms[columns])
            strip[:, columns] = products


def half_angle(cosine: np.float32) -> np.float32:
    """Return the cosine of half the angle of a cosine, cos(arccos(m) / 2) = sqrt((1 + m) / 2)."""
    return np.float32(np.sqrt((np.float32(1) + cosine) / np.float32(2)))


def _checked(rows: ArrayLike) -> NDArray[np.generic]:
    E = np.asarray(rows)
    if E.ndim != 2 or E.shape[1] == 0:
        raise ContractError(f"Expected embeddings of shape (n, d), got shape {E.shape}. Pass one row an image.")
    if len(E) < 2:
        raise ContractError(f"Expected at least 2 embeddings, got {len(E)}. Pass those of all training images.")
    if E.dtype.kind not in "fiu":
        raise ContractError(f"Expected real numbers as embeddings, got {E.dtype}. Convert them to float32.")
    return E


def _unit_rows(E: NDArray[np.generic], first: int) -> NDArray[np.float64]:
    """Return rows of length 1 (a zero row as it is); `first` is the index of the first row, for the message."""
    X = E.astype(np.float64, order="C")
    finite = np.isfinite(X).all(axis=1)
    if not finite.all():
        row = first + int(np.argmin(finite))
        raise ContractError(f"Expected finite embeddings, got NaN or infinity in row {row}. Look at image {row}.")
    largest = np.abs(X).max(axis=1, keepdims=True)  # taken out first, so that no square overflows or vanishes
    X /= np.where(largest > 0, largest, 1.0)
    norms = np.sqrt((X * X).sum(axis=1, keepdims=True))
    X /= np.where(norms > 0, norms, 1.0)
    return X
