"""How much memory a memory bank takes while it is made and searched, from counts alone.

The figures follow the code of `bank`, `denoising`, `coreset` and `exact_rows` array by array and count the work
areas of every thread. They are upper estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import faiss
from torch import get_num_threads

from ltbench.blocks.device_memory import FLOAT, Room, features_phase
from ltbench.blocks.features.patches import official_bytes
from ltbench.blocks.features.pyramids import map_shapes
from ltbench.blocks.features.room import maps_room
from ltbench.blocks.memory_bank.bank import Embedding
from ltbench.blocks.memory_bank.coreset import coreset_size
from ltbench.blocks.memory_bank.denoising import POSITIONS
from ltbench.blocks.memory_bank.device_search import search_bytes
from ltbench.blocks.memory_bank.lof import PRODUCTS
from ltbench.blocks.memory_bank.neighbours import BITS, CHUNK, SUBQUANTISERS
from ltbench.blocks.memory_bank.projection import READERS, ROWS
from ltbench.blocks.memory_bank.rows import WINDOW_BYTES, Precision
from ltbench.cores import usable_cores
from ltbench.method import ImageCounts

GREEDY = 112
"""Bytes that `farthest_first` takes a row: bounds, sketches, and while all bounds are equal their ranking."""

GREEDY_PICK = 72
"""Bytes that it takes a pick: its index and its sketch."""

WEIGHING = 24
"""Bytes that weights take a patch: themselves, and the copies that the quantile sorts."""

METRICS = 3
"""Times of the maps that the maps, their masks and the exact metrics take together at most."""

SEARCH_BLOCK = 2**24
"""Bytes of a block of estimated distances on each thread, and of what oneDNN lays out anew for it."""

MAP = 32
"""Bytes of a pixel while patches' scores become maps on a device: products in float64, and two of float32."""

FAISS_BYTES = 2**31
"""Bytes that FAISS takes on a device beside its index: of its temporary memory alone, 1.5 GiB from the start."""

FAISS_ROW = SUBQUANTISERS * BITS // 8 + 8
"""Bytes of a row of its approximate index: the numbers of its parts' centroids, and its own."""

SEARCHED = 64
"""Bytes that the exact search keeps a row, beside the row and its values rounded to int8."""


@dataclass(frozen=True, slots=True)
class PatchShape:
    """The patches of one image.

    Args:
        positions: how many.
        dimension: length of each.
        network: bytes of the network that makes them and of the images on their way through it.
        room: of the network on a device, where patches and maps are made of its levels.
    """

    positions: int
    dimension: int
    network: int
    room: Room


def network_bytes(backbone: str, layers: tuple[int, ...], size: tuple[int, int]) -> int:
    """Return the bytes of a backbone, loaded, and of what its threads work on: on each some copies of the largest map.

    Weights count twice: as they are read and as they are used.
    """
    room = maps_room(backbone, layers, size)
    return 2 * room.weights + get_num_threads() * room.image


def patch_shape(
    backbone: str,
    layers: Sequence[int],
    embedding: Embedding,
    embed_dim: int,
    size: tuple[int, int],
    mean_layers: Sequence[int] = (),
) -> PatchShape:
    """Return what `PatchEmbedder`, with these arguments, makes of an image of `size`."""
    maps = map_shapes(backbone, tuple(layers), size).maps
    _, height, width = maps[0] if embedding == "official" else min(maps, key=lambda level: level[1:])
    dimension = embed_dim if embedding == "official" else sum(channels for channels, _, _ in maps)
    used = tuple(sorted({*layers, *mean_layers}))
    room = maps_room(backbone, used, size)
    making = official_bytes(maps, embed_dim) if embedding == "official" else 0
    room = room._replace(image=room.image + making + MAP * size[0] * size[1])
    return PatchShape(height * width, dimension, network_bytes(backbone, used, size), room)


@dataclass(frozen=True, slots=True)
class BankMemory:
    """Peak bytes of the steps that make and search a memory bank.

    Args:
        shape: the patches of an image.
        images: training images.
        precision: how their patches are kept.
        streamed: whether they are kept in a file.
    """

    shape: PatchShape
    images: int
    precision: Precision
    streamed: bool

    @property
    def rows(self) -> int:
        """Patches of all training images."""
        return self.images * self.shape.positions

    @property
    def stored(self) -> int:
        """Bytes of all patches, wherever they are kept."""
        return self.rows * self.shape.dimension * (FLOAT if self.precision == "float32" else 2)

    @property
    def held(self) -> int:
        """Bytes of all patches in memory."""
        return 0 if self.streamed else self.stored

    def features(self) -> int:
        """Collecting the patches."""
        return self.held + self.shape.network

    def weights(self, dimension: int, method: str) -> int:
        """Weighing all patches at their positions, in `dimension` columns."""
        block = self.images * POSITIONS * dimension * FLOAT
        projected = 0 if self.streamed else self.rows * dimension * FLOAT * (dimension != self.shape.dimension)
        entries = self.images * dimension if method == "gaussian" else min(PRODUCTS, self.images**2)
        work = usable_cores() * (FLOAT * entries + 32 * self.images * dimension)
        projecting = projected + self._projecting(dimension)
        weighing = projected + (2 * block if self.streamed else 0) + work + 8 * self.rows
        return self.held + self.shape.network + max(projecting, weighing, WEIGHING * self.rows)

    def coreset(self, rows: int, dimension: int, ratio: float) -> int:
        """Choosing from `rows` of the patches, in `dimension` columns; it holds the weights of all."""
        projected = rows * dimension * FLOAT
        greedy = GREEDY * rows + GREEDY_PICK * coreset_size(ratio, rows)
        beside = 16 * self.rows + max(self._projecting(dimension), greedy)
        return self.held + self.shape.network + projected + beside

    def bank(self, rows: int, copied: int | None = None) -> int:
        """Building the index of `rows` patches: the chosen ones are copied, then the copies enter the index.

        Args:
            rows: of the index.
            copied: how many of them are copied while all patches are still held; by default all.
        """
        size, copy = self.bank_bytes(rows), self.bank_bytes(rows if copied is None else copied)
        if self.streamed:
            return self.shape.network + size + 2 * min(WINDOW_BYTES, size)
        return self.shape.network + max(self.held + copy, 2 * size)

    def search(self, rows: int, images: ImageCounts) -> int:
        """Searching `rows` patches for those of the largest category's test images, and holding their maps."""
        work = get_num_threads() * (10 * CHUNK * self.shape.dimension * FLOAT + SEARCH_BLOCK)
        beside = rows * (SEARCHED + (0 if self.streamed else self.shape.dimension))
        return self.bank_bytes(rows) + beside + self.shape.network + work + maps_bytes(images)

    def on_device(
        self,
        images: ImageCounts,
        rows: int,
        *,
        projected: int = 0,
        neighbours: int = 1,
        approximate: bool = False,
        beside: int = 0,
    ) -> dict[str, int]:
        """Return what takes how much on a device, as a `MemoryEstimate` has it; nothing on a CPU.

        Args:
            images: how many there are, and how many go together.
            rows: of the memory bank.
            projected: columns in which the coreset is chosen; 0 without one.
            neighbours: rows that are found for each patch.
            approximate: whether FAISS searches: on the device where its build can, else on the CPU.
            beside: bytes of what else is there all the time.
        """
        if not images.batch:
            return {}
        room, queries = self.shape.room, images.batch * self.shape.positions
        found = features_phase(room, images)
        if projected:
            product = FLOAT * (ROWS * (self.shape.dimension + projected) + self.shape.dimension * projected)
            found[f"projection of {self.rows:,} patches to {projected} dimensions"] = room.of(0) + product
        if approximate:
            search = FAISS_BYTES + FAISS_ROW * rows if hasattr(faiss, "StandardGpuResources") else 0
        else:
            search = search_bytes(rows, self.shape.dimension, queries, neighbours)
        found[f"search in {rows:,} patches, in batches of {images.batch}"] = room.of(images.batch) + search
        return {phase: size + beside for phase, size in found.items()}

    def bank_bytes(self, rows: int) -> int:
        """Return the bytes of `rows` patches in an index."""
        return rows * self.shape.dimension * FLOAT

    def _projecting(self, dimension: int) -> int:
        """Return the bytes of the blocks that are on their way through a projection."""
        threads = min(READERS, get_num_threads()) if self.streamed else get_num_threads()
        rows = min(threads * ROWS, max(self.rows, ROWS))
        read = self.shape.dimension * (FLOAT if self.precision == "float32" else 6)
        is_read = self.streamed or self.precision != "float32"
        return rows * (read * is_read + 3 * dimension * FLOAT)


def maps_bytes(images: ImageCounts) -> int:
    """Return the bytes of the anomaly maps of the category with the most test images, and of its metrics."""
    return METRICS * max(images.test, default=0) * images.size[0] * images.size[1] * FLOAT
