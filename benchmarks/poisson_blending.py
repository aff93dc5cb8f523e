"""Time the blending of AnomalyGPT's simulated anomalies, and their labels, beside the textbook's way.

    python benchmarks/poisson_blending.py
    python benchmarks/poisson_blending.py --side 60 --rounds 50

The equation of a window is solved by sine transforms on one side, by a sparse factorisation (scipy) on the other; the
median in a disk is taken of the pixels that moved alone, or by scipy's filter of all. The script fails if a solution or
a median differs. Sides take turns; milliseconds are medians over rounds, on one thread.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.sparse import diags_array, eye_array, kron
from scipy.sparse.linalg import splu
from turns import median_seconds

from methods.anomalygpt.poisson import solved
from methods.anomalygpt.synthesis import RADIUS, disk_median

Field = NDArray[np.float64]


def solved_sparsely(divergence: Field, window: Field) -> Field:
    """Return what `solved` returns, by a factorisation of the five-point Laplacian."""
    right = divergence.copy()
    right[0] -= window[0, 1:-1]
    right[-1] -= window[-1, 1:-1]
    right[:, 0] -= window[1:-1, 0]
    right[:, -1] -= window[1:-1, -1]
    height, width, channels = right.shape
    rows, columns = (
        diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(count, count)) for count in (height, width)
    )
    laplacian = kron(rows, eye_array(width)) + kron(eye_array(height), columns)
    solution: Field = splu(laplacian.tocsc()).solve(right.reshape(-1, channels)).reshape(right.shape)
    return solution


def filtered(values: NDArray[np.int32], wanted: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return what `disk_median` returns, by a filter of the whole plane."""
    square = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    found: NDArray[np.int32] = median_filter(values, footprint=np.hypot(*square) <= RADIUS, mode="nearest")
    return found[wanted]


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=90, help="pixels of a piece; at most 90 of 224 are cut")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    window = rng.uniform(0, 255, (given.side, given.side, 3))
    divergence = rng.normal(0, 40, (given.side - 2, given.side - 2, 3))
    if not np.allclose(solved(divergence, window), solved_sparsely(divergence, window), atol=1e-6):
        raise SystemExit("the solutions differ")
    plane = np.zeros((given.side + 2 * (RADIUS + 3),) * 2, np.int32)
    inside = (slice(RADIUS + 3, -RADIUS - 3),) * 2
    plane[inside] = rng.integers(0, 600, (given.side, given.side))
    wanted = plane > 300
    if not np.array_equal(disk_median(plane, wanted), filtered(plane, wanted)):
        raise SystemExit("the medians differ")
    for title, sides in (
        (
            "equation",
            {
                "sine transforms": lambda: solved(divergence, window),
                "sparse factorisation": lambda: solved_sparsely(divergence, window),
            },
        ),
        ("median", {"of what moved": lambda: disk_median(plane, wanted), "filter": lambda: filtered(plane, wanted)}),
    ):
        for name, seconds in median_seconds(sides, given.rounds).items():
            print(f"{title:10} {name:22} {1000 * seconds:8.2f} ms")


if __name__ == "__main__":
    main()
