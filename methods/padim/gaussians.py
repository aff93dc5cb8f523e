"""A Gaussian at every position: mean and covariance from a stream of images, and Mahalanobis distances.

Of the symmetric covariances, and of the triangular matrices that whiten with them, only the lower triangles are kept,
row by row, in float64: 3,136 positions with 550 channels take 3.8 GB, and that once, since each step works in place.
float32 would not do: with fewer images than channels the smallest eigenvalue is epsilon, and the largest can be 10^5
times as large. They can lie in a temporary file, of which each thread looks at the block of positions it works on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ltbench.blocks.memory_bank.rows import StoredRows
from ltbench.compiled import compiled
from ltbench.cores import usable_cores
from ltbench.errors import SpecError

BATCH = 32
"""Images taken in together: each batch reads and writes all covariances once. Sums are added batch by batch."""

BLOCK = 16
"""Positions that one thread works on at a time; with 550 channels their covariances take 40 MB."""

Vectors = NDArray[np.float32]
Reals = NDArray[np.float64]
Triangles = Reals | StoredRows[np.float64]
"""(positions, channels * (channels + 1) / 2), in memory or in a file."""


class PositionGaussians:
    """One Gaussian at each position of a grid.

    Args:
        means: (positions, channels).
        whitening: (positions, channels * (channels + 1) / 2), the lower triangles of the matrices W, row by row, such
            that the Mahalanobis distance of x is the length of W (x - mean): the inverses of the Cholesky factors of
            the covariances.
    """

    def __init__(self, means: Reals, whitening: Triangles) -> None:
        self.means = means
        self.whitening = whitening

    @classmethod
    def fit(cls, images: Iterable[Vectors], epsilon: float, folder: Path | None = None) -> Self:
        """Return the means and the covariances of the images, the unbiased ones plus epsilon times the identity.

        Batches are merged by the formulas of Chan, Golub and LeVeque (1979), so that each image is seen once and no
        digits are lost far from the origin.

        Args:
            images: (positions, channels) for each image.
            epsilon: what is added to the diagonals, above 0.
            folder: of the temporary file in which the triangles are kept, or None to keep them in memory.

        Raises:
            SpecError: fewer than 2 images, or an epsilon that leaves a covariance singular.
        """
        count = 0
        means = np.zeros((0, 0))
        scatter: Triangles = means
        for batch in _batches(images):
            if not count:
                _, positions, channels = batch.shape
                means = np.zeros((positions, channels))
                shape = (positions, channels * (channels + 1) // 2)
                scatter = np.zeros(shape) if folder is None else StoredRows(shape, np.float64, folder=folder)
            _each_block(partial(_merge, batch, count, means, scatter), len(means))
            count += len(batch)
        if count < 2:
            raise SpecError(f"Expected at least 2 training images for a covariance, got {count}. Add images.")
        _each_block(partial(_whiten, epsilon, count - 1, means.shape[1], scatter), len(means))
        return cls(means, scatter)

    def distances(self, images: Iterable[Vectors]) -> Iterator[Reals]:
        """Yield the Mahalanobis distances (positions,) of each image; they do not depend on the other images."""
        for batch in _batches(images):
            found = np.empty(batch.shape[:2])
            _each_block(partial(_distances, batch, self.means, self.whitening, found), len(self.means))
            yield from found


def gaussian_bytes(positions: int, channels: int) -> tuple[int, int]:
    """Return the bytes of all triangles, and of what `fit` and `distances` hold beside them at most."""
    triangle = 8 * channels * (channels + 1) // 2
    products = BLOCK * (8 * channels**2 + 4 * triangle) + 3 * triangle + 24 * (BATCH + 1) * BLOCK * channels
    batch = 4 * BATCH * positions * channels + 8 * positions * channels
    return positions * triangle, batch + usable_cores() * products


def _batches(images: Iterable[Vectors]) -> Iterator[Vectors]:
    """Yield up to BATCH images together, (images, positions, channels); the next batch overwrites the last."""
    buffer: Vectors | None = None
    count = 0
    for vectors in images:
        if buffer is None:
            buffer = np.empty((BATCH, *vectors.shape), np.float32)
        buffer[count] = vectors
        count += 1
        if count == BATCH:
            yield buffer
            count = 0
    if buffer is not None and count:
        yield buffer[:count]


def _each_block(work: Callable[[int, int], None], positions: int) -> None:
    """Call `work` with the first and last position of each block, on all cores, each on one thread of BLAS."""
    firsts = range(0, positions, BLOCK)
    lasts = [min(first + BLOCK, positions) for first in firsts]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(work, firsts, lasts))


def _lower(channels: int) -> NDArray[np.int64]:
    """Return the places of a lower triangle in a flattened matrix, row by row."""
    rows, columns = np.tril_indices(channels)
    return rows * channels + columns


def _merge(batch: Vectors, count: int, means: Reals, scatter: Triangles, first: int, last: int) -> None:
    """Add a batch to the means and the sums of squares and products of `count` images before it."""
    vectors = batch[:, first:last].transpose(1, 0, 2).astype(np.float64)
    new, total = len(batch), count + len(batch)
    mean = vectors.mean(axis=1, keepdims=True)
    step = mean - means[first:last, None]
    rows = np.concatenate([vectors - mean, step * np.sqrt(count * new / total)], axis=1)
    products = (rows.transpose(0, 2, 1) @ rows).reshape(last - first, -1)
    block = scatter[first:last]
    block += products[:, _lower(rows.shape[2])]
    scatter[first:last] = block
    means[first:last] += step[:, 0] * (new / total)


def _whiten(epsilon: float, freedom: int, channels: int, scatter: Triangles, first: int, last: int) -> None:
    """Replace sums of squares and products by the inverses of the Cholesky factors of covariance + epsilon I."""
    lower = _lower(channels)
    covariance = np.zeros((channels, channels))
    block = scatter[first:last]
    for triangle in block:
        covariance.ravel()[lower] = triangle / freedom
        np.fill_diagonal(covariance, covariance.diagonal() + epsilon)
        try:
            factor = np.linalg.cholesky(covariance)  # reads the lower triangle only
        except np.linalg.LinAlgError as error:
            raise SpecError(f"Expected an epsilon that makes covariances regular, got {epsilon}. Raise it.") from error
        inverse, _ = dtrtri(factor, lower=1)
        triangle[:] = inverse.ravel()[lower]
    scatter[first:last] = block


def _distances(batch: Vectors, means: Reals, whitening: Triangles, out: Reals, first: int, last: int) -> None:
    """Write the Mahalanobis distances at positions first to last."""
    _measure(batch[:, first:last], means[first:last], whitening[first:last], out[:, first:last])


@partial(compiled, fastmath=frozenset({"reassoc", "contract"}))
def _measure(batch: Vectors, means: Reals, whitening: Reals, out: Reals) -> None:
    """Write the Mahalanobis distances at all positions; each image is measured by itself."""
    channels = means.shape[1]
    centred = np.empty(channels)
    for position in range(len(means)):
        for image in range(batch.shape[0]):
            for channel in range(channels):
                centred[channel] = batch[image, position, channel] - means[position, channel]
            square = 0.0
            place = 0
            for row in range(channels):
                value = 0.0
                for column in range(row + 1):
                    value += whitening[position, place + column] * centred[column]
                place += row + 1
                square += value * value
            out[image, position] = np.sqrt(square)
