"""Matrices that may be too large for memory: rows in memory, or in a temporary file that is mapped window by window.

Whatever works on rows works on either, and comes to the same bits: `rows[a:b]`, `rows[indices]` and `rows[a:b] = ...`
are all that is asked of them. The file has no name and is gone when nobody holds it any more, even after a crash.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.scratch import reserved
from ltbench.errors import LtbenchError

Precision = Literal["float32", "float16"]
"""How the patches of training images are kept: as they are, or rounded to half of the bytes."""

F = TypeVar("F", np.float32, np.float64)

WINDOW_BYTES = 2**25
"""Bytes of a file that are looked at together."""


class StoredRows(Generic[F]):
    """A matrix whose rows are written and read in windows, and kept elsewhere or otherwise than an array's.

    Args:
        shape: (rows, columns).
        dtype: of what is read.
        stored: of what is kept; float16 rounds.
        folder: of the temporary file that keeps it, or None to keep it in memory.

    Raises:
        LtbenchError: the disk has no room for the file.
    """

    def __init__(self, shape: tuple[int, int], dtype: type[F], stored: Any = None, folder: Path | None = None) -> None:
        self.shape = shape
        self.dtype: np.dtype[F] = np.dtype(dtype)
        self._stored = np.dtype(stored or dtype)
        self._folder = folder
        self._array = np.zeros(shape, self._stored) if folder is None else None
        self._file = None if folder is None else _file(folder, shape[0] * shape[1] * self._stored.itemsize)
        if self._file is not None:
            weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, key: slice) -> NDArray[F]: ...
    @overload
    def __getitem__(self, key: NDArray[np.int64]) -> NDArray[F]: ...
    def __getitem__(self, key: slice | NDArray[np.int64]) -> NDArray[F]:
        """Return a window, to be read only, or the rows at indices as an array of their own."""
        if isinstance(key, slice):
            return self._window(key).astype(self.dtype, copy=False)
        found: NDArray[F] = np.empty((len(key), self.shape[1]), self.dtype)
        order = np.argsort(key, kind="stable")
        ascending = key[order]
        for window in self.windows():
            first, last = np.searchsorted(ascending, (window.start, window.stop))
            if first < last:
                found[order[first:last]] = self[window][ascending[first:last] - window.start]
        return found

    def __setitem__(self, key: slice, rows: NDArray[Any]) -> None:
        window = self._window(key)
        with np.errstate(over="ignore"):
            window[:] = rows
        if self._stored == np.float16 and not np.isfinite(window).all():
            raise LtbenchError("Expected patches within float16's range of 65504, got larger ones. Store float32.")

    def windows(self) -> Iterator[slice]:
        """Yield the rows in order, about `WINDOW_BYTES` of them at a time."""
        step = max(1, WINDOW_BYTES // (self.shape[1] * self.dtype.itemsize))
        yield from (slice(first, min(first + step, len(self))) for first in range(0, len(self), step))

    def every(self, group: int, first: int, last: int) -> NDArray[F]:
        """Return rows `first` to `last` of each `group` rows, (last - first, groups, columns), as a new array."""
        groups = self._window(slice(0, len(self))).reshape(-1, group, self.shape[1])
        return np.ascontiguousarray(groups[:, first:last].transpose(1, 0, 2), self.dtype)

    def select(self, indices: NDArray[np.int64]) -> StoredRows[F]:
        """Return the rows at indices, kept where and as these are."""
        dtype: type[F] = self.dtype.type
        chosen = StoredRows((len(indices), self.shape[1]), dtype, self._stored, self._folder)
        for window in chosen.windows():
            chosen[window] = self[indices[window]]
        return chosen

    def _window(self, key: slice) -> NDArray[Any]:
        """Return rows as they are kept: a view, of the file mapped for as long as the view lives."""
        first, last, _ = key.indices(len(self))
        if self._file is None:
            assert self._array is not None
            return self._array[first:last]
        if first >= last:
            return np.empty((0, self.shape[1]), self._stored)
        start = first * self.shape[1] * self._stored.itemsize
        offset = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        count = (last - first) * self.shape[1]
        mapped = mmap.mmap(self._file.fileno(), start - offset + count * self._stored.itemsize, offset=offset)
        return np.frombuffer(mapped, self._stored, count, start - offset).reshape(-1, self.shape[1])


Rows = NDArray[np.float32] | StoredRows[np.float32]
"""A matrix of float32 numbers, (N, D), wherever it is."""


def new_rows(shape: tuple[int, int], precision: Precision = "float32", folder: Path | None = None) -> Rows:
    """Return a matrix to be filled, in memory or, if a folder is given, in a temporary file there."""
    if precision == "float32" and folder is None:
        return np.empty(shape, np.float32)
    return StoredRows(shape, np.float32, precision, folder)


def select(rows: Rows, indices: NDArray[np.int64]) -> Rows:
    """Return the rows at indices, kept where the others are."""
    return rows[indices] if isinstance(rows, np.ndarray) else rows.select(indices)


def every(rows: Rows, group: int, first: int, last: int) -> NDArray[np.float32]:
    """Return rows `first` to `last` of each `group` rows, (last - first, groups, columns)."""
    if isinstance(rows, np.ndarray):
        return rows.reshape(-1, group, rows.shape[1])[:, first:last].transpose(1, 0, 2)
    return rows.every(group, first, last)


def in_memory(rows: Rows) -> NDArray[np.float32]:
    """Return the rows as an array."""
    return rows if isinstance(rows, np.ndarray) else np.array(rows[:])


def windows(rows: Rows) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the rows in order with their places, an array at once, others window by window."""
    if isinstance(rows, np.ndarray):
        yield slice(0, len(rows)), rows
    else:
        yield from ((window, rows[window]) for window in rows.windows())


def _file(folder: Path, size: int) -> IO[bytes]:
    return reserved(folder, size, "set LTBENCH_CACHE to a folder on a larger disk, or raise --memory-limit")
