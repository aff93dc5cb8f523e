"""Nearest patches in a memory bank: exactly, on a CPU or a device, or approximately with FAISS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Self

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from ltbench.blocks.device import batch_of, upload
from ltbench.blocks.memory_bank.device_search import QUERIES, DeviceRows
from ltbench.blocks.memory_bank.exact_rows import NONE, ExactRows
from ltbench.blocks.memory_bank.rows import Rows, windows
from ltbench.cores import in_order, usable_cores
from ltbench.errors import SpecError

logger = logging.getLogger(__name__)

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Squared distances and row indices, (queries, k) each, nearest first."""

CHUNK = 1024
"""Queries that are searched together."""

CENTROIDS, SUBQUANTISERS, BITS = 512, 64, 8
"""The approximate index of amazon-science/patchcore-inspection."""

_MEMORY, _INDEX, _ORIGINS = "memory", "index", "origins"


class NearestNeighbours:
    """The k nearest rows of a memory bank, by squared Euclidean distance (PatchCore's FAISS takes no root either).

    The exact search finds the nearest of all rows by the float32 distance of two rows, smaller indices first where
    distances are equal (`ExactRows`). What is found for a query does not depend on the other queries, on the number of
    threads or on the way it was found. FAISS's exact search is none where rows lie close together and far from the
    origin; it is not used.

    Args:
        memory: (N, D), one matrix or several of D columns that follow one another; they are not needed afterwards.
        origins: (N,) the training image, by its position, that each row is of; None where that is not known.
        approximate: use FAISS's IndexIVFPQ with 512 centroids, 64 sub-quantisers and 8 bits: less memory, distances
            rounded.
        device: "cpu", "cuda" or "cuda:N". On CUDA the exact search is torch's (`DeviceRows`); the approximate one needs
            faiss-gpu, else the CPU searches, with a warning.
        rounded: let the exact search keep a copy rounded to int8, a quarter of the memory bank; it finds the same
            faster.

    Attributes:
        on_device: the exact search on a device that takes batches, or None.

    Raises:
        SpecError: a memory bank that is empty, or that the approximate index cannot hold.
    """

    def __init__(
        self,
        *memory: Rows,
        origins: NDArray[np.integer] | None = None,
        approximate: bool = False,
        device: str = "cpu",
        rounded: bool = True,
    ) -> None:
        for part in memory:
            if len(part.shape) != 2 or part.dtype != np.float32 or 0 in part.shape:
                raise SpecError(f"Expected a float32 memory bank (N, D), got {part.dtype} {part.shape}. Fit anew.")
        rows = _joined(memory)
        if origins is not None and origins.shape != (len(rows),):
            raise SpecError(f"Expected the image of each of {len(rows)} rows, got {origins.shape}. Fit anew.")
        self._rounded = rounded
        self._serve(_approximate_index(rows) if approximate else rows, device, origins)

    def __len__(self) -> int:
        return int(self._index.ntotal) if self._memory is None else len(self._memory)

    def search(self, queries: NDArray[np.float32], k: int = 1) -> Found:
        """Return the squared distances and indices of the k nearest rows, (Q, k) each, nearest first.

        Args:
            queries: (Q, D) float32.
            k: how many, at most as many as the memory bank has rows.
        """
        parts = list(self.search_each([queries], k))
        return parts[0]

    def search_each(self, images: Iterable[NDArray[np.float32]], k: int = 1) -> Iterator[Found]:
        """Yield the squared distances and indices for the patches of each image, as `search` returns them.

        It searches patches of several images together, which takes up to four times less time than image by image, and
        looks ahead by a few thousand patches.

        Args:
            images: (P, D) float32 patches of one image after the other; P may vary.
            k: how many neighbours.
        """
        counts: list[int] = []
        size = CHUNK if self.on_device is None else QUERIES
        tasks = (self._task(chunk, k) for chunk in _chunks(_counted(images, counts), size))
        waiting = (np.empty((0, k), np.float32), np.empty((0, k), np.int64))
        with closing(in_order(tasks, self._workers)) as results:
            for distances, indices in results:
                waiting = np.concatenate([waiting[0], distances]), np.concatenate([waiting[1], indices])
                while counts and len(waiting[0]) >= counts[0]:
                    count = counts.pop(0)
                    yield waiting[0][:count], waiting[1][:count]
                    waiting = waiting[0][count:], waiting[1][count:]
        for _ in counts:  # images without patches, behind the last chunk
            yield waiting

    def search_without(
        self, images: Iterable[NDArray[np.float32]], without: Iterable[NDArray[np.int64]], k: int = 1
    ) -> Iterator[Found]:
        """Yield what `search_each` finds in a memory bank that lacks other rows for each image.

        Indices are those of the whole memory bank. Each image is searched by itself.

        Args:
            images: (P, D) float32 patches of one image after the other.
            without: the rows that each is searched without (`rows_of`).
            k: how many neighbours.

        Raises:
            SpecError: fewer than k rows are left.
        """
        tasks = (self._task(patches, k, rows) for patches, rows in zip(images, without, strict=True))
        with closing(in_order(tasks, self._workers)) as results:
            yield from results

    def rows_of(self, positions: Sequence[int]) -> NDArray[np.int64]:
        """Return the rows that are of some training images, ascending.

        Args:
            positions: of the images among those that the memory bank was made of; of an image that has no row, or a
                position beyond the last image with one, there is none.

        Raises:
            SpecError: the memory bank does not know which images its rows are of.
        """
        if not len(positions):
            return NONE
        if self._origins is None:
            raise SpecError("Expected a memory bank that knows the image of each row, got an older one. Fit anew.")
        return np.flatnonzero(np.isin(self._origins, positions))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` needs to make the same index again."""
        origins = {} if self._origins is None else {_ORIGINS: self._origins}
        if self._memory is not None:
            return {_MEMORY: self._memory.copy(), **origins}
        return {_INDEX: faiss.serialize_index(self._index), **origins}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], device: str = "cpu") -> Self:
        """Return the index that `arrays` describes; it finds the same, to the last digit."""
        origins = arrays.get(_ORIGINS)
        if _MEMORY in arrays:
            return cls(arrays[_MEMORY], origins=origins, device=device)
        neighbours = cls.__new__(cls)
        neighbours._rounded = False
        neighbours._serve(faiss.deserialize_index(arrays[_INDEX]), device, origins)
        return neighbours

    def _serve(self, found_in: Any, device: str, origins: NDArray[np.integer] | None) -> None:
        """Search in rows (N, D), or in an index of FAISS."""
        self._origins = None if origins is None else origins.astype(np.int32)
        self._workers = usable_cores()
        self._index: Any = None
        self._searcher: Any = None
        self._memory: NDArray[np.float32] | None = None
        self._exact: ExactRows | None = None
        self.on_device: DeviceRows | None = None
        if isinstance(found_in, np.ndarray):
            self._memory = found_in
            if batch_of(torch.device(device)):
                self.on_device, self._workers = DeviceRows(found_in, device), 1
            else:
                self._exact = ExactRows(found_in)
            return
        self._index = self._searcher = found_in
        if not device.startswith("cuda"):
            return
        if hasattr(faiss, "StandardGpuResources"):
            self._resources = faiss.StandardGpuResources()  # the index uses it and does not keep it alive
            options = faiss.GpuClonerOptions()
            options.useFloat16 = True  # tables of 64 sub-quantisers fit a GPU's shared memory only so
            number = int(device.partition(":")[2] or 0)
            self._searcher = faiss.index_cpu_to_gpu(self._resources, number, found_in, options)
            self._workers = 1
        else:
            logger.warning("The approximate search runs on the CPU: this FAISS has no GPU. See docs/runs.md, On a GPU.")

    def _task(self, queries: NDArray[np.float32], k: int, without: NDArray[np.int64] = NONE) -> Callable[[], Found]:
        """Return the search for some queries, prepared for if they are not few."""
        if self._rounded and self._exact is not None and len(queries) * 2 >= CHUNK:
            self._exact.prepare()
        return partial(self._search, queries, k, without)

    def _search(self, queries: NDArray[np.float32], k: int, without: NDArray[np.int64] = NONE) -> Found:
        left = len(self) - len(without)
        if not 1 <= k <= left:
            remedy = "Lower k, or keep more rows of other images." if len(without) else "Lower k."
            raise SpecError(f"Expected 1 to {left} neighbours (rows of the memory bank), got {k}. {remedy}")
        if self._memory is not None and queries.shape[1] != self._memory.shape[1]:
            raise SpecError(
                f"Expected patches of {self._memory.shape[1]} values, as in the memory bank, got {queries.shape[1]}. "
                "Search with the backbone and layers that it was made with."
            )
        if self._exact is not None:
            return self._exact.search(queries, k, without)
        if self.on_device is not None:
            rows = self.on_device.without(without) if len(without) else self.on_device
            distances, indices = rows.search(upload(queries, rows.device), k)
            return distances.cpu().numpy(), indices.cpu().numpy()
        faiss.omp_set_num_threads(1)  # of this worker thread only
        found, places = self._searcher.search(queries, min(k + len(without), len(self)))
        if len(without):
            found, places = _remaining(found, places, without, k)
        if (places < 0).any():
            raise SpecError(f"Expected {k} neighbours in each cell, got fewer. Search exactly.")
        return found, places


def _remaining(found: NDArray[np.float32], places: NDArray[np.int64], without: NDArray[np.int64], k: int) -> Found:
    """Return the k nearest that are none of some rows, of so many more as these are; -1 where there are no more."""
    is_out = np.isin(places, without)
    order = np.argsort(is_out, axis=1, kind="stable")[:, :k]
    places = np.where(is_out, -1, places)
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(places, order, axis=1)


def _joined(parts: Sequence[Rows]) -> NDArray[np.float32]:
    """Return a new matrix of all rows."""
    joined = np.empty((sum(map(len, parts)), parts[0].shape[1]), np.float32)
    first = 0
    for part in parts:
        for place, rows in windows(part):
            joined[first + place.start : first + place.stop] = rows
        first += len(part)
    return joined


def _approximate_index(memory: NDArray[np.float32]) -> Any:
    rows, dimension = memory.shape
    if dimension % SUBQUANTISERS or rows < CENTROIDS:
        raise SpecError(
            f"Expected {CENTROIDS} or more patches of a multiple of {SUBQUANTISERS} values for the approximate search, "
            f"got {rows} of {dimension}. Search exactly."
        )
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(dimension), dimension, CENTROIDS, SUBQUANTISERS, BITS)
    for clustering in (index.cp, index.pq.cp):
        clustering.min_points_per_centroid = 1  # below 39 FAISS warns on standard error, once a sub-quantiser
    _on_one_thread(lambda: index.train(memory))
    index.add(memory)
    return index


def _on_one_thread(work: Callable[[], None]) -> None:
    """Run FAISS on one thread: the centroids that it learns depend on the number of threads."""

    def pinned() -> None:
        faiss.omp_set_num_threads(1)
        work()

    list(in_order([pinned], workers=1))


def _counted(images: Iterable[NDArray[np.float32]], counts: list[int]) -> Iterator[NDArray[np.float32]]:
    """Yield the images' patches, noting how many each has."""
    for patches in images:
        counts.append(len(patches))
        yield patches


def _chunks(arrays: Iterable[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Yield the rows of all arrays, `size` at a time; the last may be fewer."""
    waiting: list[NDArray[np.float32]] = []
    for array in arrays:
        waiting.append(np.ascontiguousarray(array, dtype=np.float32))
        if sum(map(len, waiting)) >= size:
            rows = np.concatenate(waiting)
            whole = len(rows) // size * size
            yield from (rows[start : start + size] for start in range(0, whole, size))
            waiting = [rows[whole:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)
