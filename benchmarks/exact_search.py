"""The nearest row of a memory bank for the patches of test images, beside a bare FAISS IndexFlatL2.

Patches are those of PatchCore (1,024 values, levels 2 and 3, 256 pixels) from EfficientNet-Lite2 with its package's
weights. Each side has one thread, and the same chunks of queries; seconds are of the processor, medians over rounds,
the sides in turns. What ltbench finds is compared with what it finds with FAISS alone, to the last bit.

    PYTHONPATH=.:benchmarks python benchmarks/exact_search.py --data-root ../shared/data
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from turns import median_seconds, print_table

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.patches import official_patches
from ltbench.blocks.memory_bank.bounds import Bounds
from ltbench.blocks.memory_bank.neighbours import CHUNK, NearestNeighbours
from ltbench.datasets.images import FileImages
from ltbench.protocols import PROTOCOLS

Patches = NDArray[np.float32]


def main() -> None:
    """Print a table for each category and number of neighbours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds industrial8")
    parser.add_argument("--category", action="append", help="repeat for more; default: screw and magnetic_tile")
    parser.add_argument("--training", type=int, default=16, help="training images, of 1,024 patches each")
    parser.add_argument("--test", type=int, default=24, help="test images")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for category in given.category or ["screw", "magnetic_tile"]:
        folder = given.data_root / "industrial8" / category
        memory = patches(sorted((folder / "train/good").iterdir())[: given.training])
        queries = patches(spread(sorted((folder / "test").glob("*/*")), given.test))
        for k in (1, 3):
            compare(category, memory, queries, k, given.rounds)


def spread(files: list[Path], count: int) -> list[Path]:
    """Return some files, evenly spaced."""
    return [files[index] for index in np.linspace(0, len(files) - 1, count).astype(int)]


def patches(files: list[Path]) -> Patches:
    """Return the patches of images, (images * 1024, 1024)."""
    backbone = load_backbone("tf_efficientnet_lite2", (2, 3), "pretrained")
    images = FileImages(files, PROTOCOLS["common"])
    return np.concatenate([official_patches(backbone(image), 1024)[0] for image in images])


def compare(category: str, memory: Patches, queries: Patches, k: int, rounds: int) -> None:
    """Print the seconds of a whole search and of a chunk by either side, and whether they find the same."""
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    bare = faiss.IndexFlatL2(memory.shape[1])
    bare.add(memory)
    own, scanned = NearestNeighbours(memory), NearestNeighbours(memory, bounded=False)
    chunks = [queries[first : first + CHUNK] for first in range(0, len(queries), CHUNK)]
    made: list[Bounds] = []

    def search_bare() -> None:
        for chunk in chunks:
            bare.search(chunk, k)

    def make() -> None:
        made[:] = [Bounds(memory)]

    def search_anew() -> None:
        own._bounds = None  # so that making them counts
        own.search(queries, k)

    with threadpool_limits(1, user_api="blas"):
        sides = {
            f"FAISS, {len(queries):,} queries": search_bare,
            f"ltbench, {len(queries):,} queries, with making bounds": search_anew,
            "making bounds": make,
            f"FAISS, {CHUNK:,} queries": lambda: bare.search(chunks[-1], k),
            f"ltbench, {CHUNK:,} queries by bounds": lambda: own._bound(chunks[-1], k),
        }
        seconds = median_seconds(sides, rounds, time.process_time)
        of = next(iter(seconds.values()))
        title = f"{category}, {len(memory):,} x {memory.shape[1]:,}, k = {k}"
        print_table(title, "FAISS, whole search, is so many times it", seconds, lambda value: of / value)
        whole, part = list(seconds.values())[:2], list(seconds.values())[3:]
        found, expected = own.search(queries, k), scanned.search(queries, k)
        same = np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])
    print(f"\nWhole search {whole[0] / whole[1]:.2f} times faster, a chunk {part[0] / part[1]:.2f} times; ", end="")
    print("the same to the last bit.\n" if same else "NOT the same.\n")


if __name__ == "__main__":
    main()
