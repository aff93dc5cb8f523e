"""Time the batched local outlier factor beside a loop over scikit-learn's, in one run, and print a Markdown table."""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from patch_features import add_arguments, patch_features
from sklearn.neighbors import LocalOutlierFactor
from tabulate import tabulate

from ltbench.blocks.memory_bank.lof import LOF_NEIGHBOURS, local_outlier_factor
from ltbench.cores import usable_cores

TAU = 0.15  # share of the patches that SoftPatch leaves out


def scikit_learn_loop(points: NDArray[Any], k: int) -> NDArray[np.float64]:
    model: Any = LocalOutlierFactor(n_neighbors=k, metric="l2")
    return np.stack([-model.fit(patches).negative_outlier_factor_ for patches in points])


def timed(task: Callable[[], NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
    begin = time.perf_counter()
    result = task()
    return time.perf_counter() - begin, result


def kept(weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    below: NDArray[np.bool_] = weights < np.quantile(weights, 1 - TAU)
    return below


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--count", type=int, default=800, help="images (%(default)s)")
    parser.add_argument("-k", type=int, default=LOF_NEIGHBOURS, help="neighbours (%(default)s)")
    args = parser.parse_args()

    patches, source = patch_features(args.images, args.count, 14, args.columns)
    points = patches.transpose(1, 0, 2)
    by_position = np.ascontiguousarray(points)  # scikit-learn is not charged for the copy
    local_outlier_factor(points[:1], args.k)  # compiles
    sides: dict[str, Callable[[], NDArray[np.float64]]] = {
        f"ltbench, {usable_cores()} threads": lambda: local_outlier_factor(points, args.k),
        "ltbench, 1 thread": lambda: local_outlier_factor(points, args.k, threads=1),
        "scikit-learn loop, float32": lambda: scikit_learn_loop(by_position, args.k),
        "scikit-learn loop, float64": lambda: scikit_learn_loop(by_position.astype(np.float64), args.k),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    weights: dict[str, NDArray[np.float64]] = {}
    for _ in range(args.repeats):
        for name, side in sides.items():
            spent, weights[name] = timed(side)
            times[name].append(spent)
    ours = next(iter(sides))
    rows = []
    for name, values in times.items():
        difference = np.abs(weights[name] - weights[ours])
        others = int((kept(weights[name]) != kept(weights[ours])).sum())
        rows.append([name, median(values), median(values) / median(times[ours]), difference.max()])
        rows[-1] += [int((difference > 1e-4).sum()), others]
    print(f"{points.shape} points, k = {args.k}; {source}; medians of {args.repeats}\n")
    headers = ["", "seconds", "x ltbench", "largest difference", "differ by > 1e-4", "kept otherwise"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", ".2f", ".1f", ".1e")))
    tracemalloc.start()
    local_outlier_factor(points, args.k)
    print(f"\nMemory beside the points: {tracemalloc.get_traced_memory()[1] / 2**20:.1f} MiB.")


if __name__ == "__main__":
    main()
