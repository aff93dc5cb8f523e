"""Time the exact greedy coreset beside two plain loops, in one run, and print a Markdown table.

    python benchmarks/coreset.py --images DIR                                            # 100,000 rows at 10 %
    python benchmarks/coreset.py --images DIR --rows 1000000 --ratio 0.01 --loop-picks 20

The loops cost the same at every pick: some picks are timed, and their median stands for the rest; `--loop-picks 0` runs
them to the end. The picks are compared, index for index, with a loop in float64.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from patch_features import add_arguments, patch_features, training_images
from tabulate import tabulate
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ltbench.blocks.memory_bank.coreset import (
    approximate_greedy_coreset,
    coreset_size,
    draw_starts,
    greedy_coreset,
)
from ltbench.cores import usable_cores

Points = NDArray[np.float32]
START = 5


def in_place_loop(points: Points) -> Iterator[int]:
    """Exact greedy sampling in float32 with numpy, without allocating in the loop."""
    nearest = np.full(len(points), np.inf, np.float32)
    difference, squares = np.empty_like(points), np.empty(len(points), np.float32)
    pick = START
    while True:
        yield pick
        np.subtract(points, points[pick], out=difference)
        np.einsum("ij,ij->i", difference, difference, out=squares)
        np.minimum(nearest, squares, out=nearest)
        pick = int(nearest.argmax())


def float64_loop(points: Points) -> Iterator[int]:
    """Exact greedy sampling in float64 with numpy: the yardstick of the picks, not of the time."""
    nearest = np.full(len(points), np.inf)
    pick = START
    while True:
        yield pick
        for a in range(0, len(points), 4096):
            difference = points[a : a + 4096].astype(np.float64) - points[pick]
            np.minimum(nearest[a : a + 4096], (difference * difference).sum(axis=1), out=nearest[a : a + 4096])
        pick = int(nearest.argmax())


def approximate_loop(points: Points, starts: NDArray[np.int64]) -> Iterator[int]:
    """Approximate greedy sampling as patchcore-inspection does it: a broadcast distance to each pick, with torch."""
    features = torch.from_numpy(points)

    def distances(rows: torch.Tensor) -> torch.Tensor:
        squares = (features[:, None] @ features[:, :, None]).reshape(-1, 1)
        row_squares = (rows[:, None] @ rows[:, :, None]).reshape(1, -1)
        return (squares + row_squares - 2 * features @ rows.T).clamp(0).sqrt()

    anchors = distances(features[torch.from_numpy(starts)]).mean(dim=1, keepdim=True)
    while True:
        pick = int(anchors.argmax())
        yield pick
        anchors = torch.cat([anchors, distances(features[pick : pick + 1])], dim=1).min(dim=1, keepdim=True).values


def seconds(task: Callable[[], object]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def peak_mib(task: Callable[[], object]) -> float:
    """Return the most memory that arrays of a task took at once."""
    tracemalloc.start()
    task()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def real_rows(args: argparse.Namespace) -> tuple[Points, str]:
    images = training_images(args.images) if args.images else []
    side = 14 if args.images is None or args.rows <= 14 * 14 * len(images) else 28
    patches, source = patch_features(args.images, -(-args.rows // side**2), side, args.columns)
    rows = patches.reshape(-1, patches.shape[2])
    chosen = np.sort(np.random.RandomState(0).permutation(len(rows))[: args.rows])
    return np.ascontiguousarray(rows[chosen]), source


def measure(points: Points, count: int, args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of every side, the sides taking turns; all but the last on one thread."""
    starts = draw_starts(len(points), np.random.RandomState(0))

    def whole(loop: Iterator[int]) -> float:
        """Return the seconds of a loop to the end, or what they come to after `loop_picks` picks."""
        steps = [seconds(lambda: next(loop)) for _ in range(1 + min(count - 1, args.loop_picks or count))]
        return steps[0] + (median(steps[1:]) * (count - 1) if args.loop_picks else sum(steps[1:]))

    sides: dict[str, Callable[[], float]] = {
        "greedy, 1 thread": lambda: seconds(lambda: greedy_coreset(points, count, start=START, threads=1)),
        "approximate, 1 thread": lambda: seconds(
            lambda: approximate_greedy_coreset(points, count, starts=starts, threads=1)
        ),
        "numpy loop in place, 1 thread": lambda: whole(in_place_loop(points)),
        "official approximate loop, 1 thread": lambda: whole(approximate_loop(points, starts)),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    cores = f"greedy, {usable_cores()} threads"
    times[cores] = []
    for _ in range(args.repeats):
        with threadpool_limits(1):
            for name, side in sides.items():
                times[name].append(side())
        times[cores].append(seconds(lambda: greedy_coreset(points, count, start=START)))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--rows", type=int, default=100_000, help="rows to choose from (%(default)s)")
    parser.add_argument("--ratio", type=float, default=0.1, help="share of the rows that is picked (%(default)s)")
    parser.add_argument(
        "--loop-picks",
        type=int,
        default=100,
        help="picks that the loops are timed over, 0 for all (%(default)s)",
    )
    args = parser.parse_args()

    points, source = real_rows(args)
    count = coreset_size(args.ratio, len(points))
    compiling = seconds(lambda: approximate_greedy_coreset(points[:600], 100, starts=np.array([0])))
    times = measure(points, count, args)
    greedy = median(times["greedy, 1 thread"])
    rows = [[name, median(values), median(values) / greedy] for name, values in times.items()]
    print(f"{count} of {len(points)} rows, {points.shape[1]} columns; {source}; medians of {args.repeats}\n")
    print(tabulate(rows, ["", "seconds", "x greedy, 1 thread"], tablefmt="github", floatfmt=".2f"))

    picks = greedy_coreset(points, count, start=START, threads=1)
    print(f"\nFirst call (compiling, or reading the compiled code): {compiling:.2f} s.")
    print(f"Same picks on all cores: {np.array_equal(picks, greedy_coreset(points, count, start=START))}.")
    compared = min(count, args.loop_picks or count)
    for name, loop in (("float64", float64_loop), ("float32", in_place_loop)):
        same = sum(pick == other for pick, other in zip(picks[:compared], loop(points), strict=False))
        print(f"Same picks as a numpy loop in {name}: {same} of the first {compared}.")
    mib = peak_mib(lambda: greedy_coreset(points, count, start=START, threads=1))
    print(f"Memory beside the {points.nbytes / 2**20:.0f} MiB of rows: {mib:.1f} MiB.")


if __name__ == "__main__":
    main()
