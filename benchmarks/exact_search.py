"""The nearest rows of a memory bank for the patches of test images, beside a bare FAISS IndexFlatL2.

Patches are PatchCore's of 256-pixel images, with weights of packages: 1,024 values from EfficientNet-Lite2 (levels 2
and 3, 32 x 32 a image), or with --offline the 152 values of the preset `offline` (EfficientNet-Lite0, 16 x 16).
Each side has one thread and searches all queries at once; seconds are of the processor, medians over rounds, the sides
in turns. Rounding the rows to int8 counts. What ltbench finds is compared with a measurement of all rows in float32 for
some queries, and with FAISS's indices for all.

    PYTHONPATH=.:benchmarks python benchmarks/exact_search.py --data-root ../shared/data
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from turns import median_seconds, print_table

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.patches import official_patches, pooled_patches
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.datasets.images import FileImages
from ltbench.protocols import PROTOCOLS

Patches = NDArray[np.float32]

CHECKED = 50
"""Queries for which all rows are measured."""


def main() -> None:
    """Print a table for each category and number of neighbours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds industrial8")
    parser.add_argument("--category", action="append", help="repeat for more; default: screw and magnetic_tile")
    parser.add_argument("--offline", action="store_true", help="patches of the preset offline, 152 values")
    parser.add_argument("--training", type=int, default=16, help="training images")
    parser.add_argument("--test", type=int, default=12, help="test images")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # how many tasks ltbench searches in
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    for category in given.category or ["screw", "magnetic_tile"]:
        folder = given.data_root / "industrial8" / category
        memory = patches(sorted((folder / "train/good").iterdir())[: given.training], offline=given.offline)
        queries = patches(spread(sorted((folder / "test").glob("*/*")), given.test), offline=given.offline)
        for k in (1, 3):
            compare(category, memory, queries, k, given.rounds)


def spread(files: list[Path], count: int) -> list[Path]:
    """Return some files, evenly spaced."""
    return [files[index] for index in np.linspace(0, len(files) - 1, count).astype(int)]


def patches(files: list[Path], *, offline: bool) -> Patches:
    """Return the patches of images, one below the other."""
    backbone = load_backbone("tf_efficientnet_lite0" if offline else "tf_efficientnet_lite2", (2, 3), "pretrained")
    images = FileImages(files, PROTOCOLS["common"])
    of = pooled_patches if offline else lambda maps: official_patches(maps, 1024)
    return np.concatenate([of(backbone(image))[0] for image in images])


def compare(category: str, memory: Patches, queries: Patches, k: int, rounds: int) -> None:
    """Print the seconds of a whole search by either side, and whether what was found is right."""
    index = faiss.IndexFlatL2(memory.shape[1])
    index.add(memory)
    found: dict[str, tuple[Patches, NDArray[np.int64]]] = {}

    def bare() -> None:
        found["FAISS"] = index.search(queries, k)

    def ours() -> None:
        found["ltbench"] = NearestNeighbours(memory).search(queries, k)  # made anew, so that preparing it counts

    with threadpool_limits(1, user_api="blas"):
        seconds = median_seconds({"FAISS": bare, "ltbench": ours}, rounds, time.process_time)
    title = f"{category}, {len(queries):,} in {len(memory):,} x {memory.shape[1]:,}, k = {k}"
    print_table(title, "FAISS takes so many times it", seconds, lambda value: seconds["FAISS"] / value)
    some = np.linspace(0, len(queries) - 1, CHECKED).astype(int)
    measured = np.stack([((memory - query) ** 2).sum(axis=1) for query in queries[some]])
    nearest = np.argsort(measured, axis=1, kind="stable")[:, :k]
    distances, indices = found["ltbench"]
    is_right = np.array_equal(indices[some], nearest) and np.array_equal(
        distances[some], np.take_along_axis(measured, nearest, axis=1)
    )
    others = int((indices != found["FAISS"][1]).sum())
    print(f"\n{'As' if is_right else 'NOT as'} measured; {others} of {indices.size:,} indices are not FAISS's.\n")


if __name__ == "__main__":
    main()
