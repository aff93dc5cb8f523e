"""Fit and search with and without a memory limit; print estimate, peak memory and whether the results are the same.

    python benchmarks/memory_limit.py --share 0.05 --limit 2GiB      # a twentieth of mvtec_k4
    python benchmarks/memory_limit.py --share 1 --limit 3GiB --test 2 -p coreset_ratio=0.01
    python benchmarks/memory_limit.py --method patchcore --share 0.05 --limit 2GiB

The methods have their paper's settings (224 pixels, WideResNet50-2, 784 patches of 1,024 values) with random weights;
the images are drawn and as many as a split's, the heads times `--share`. Each side is a process of its own, since the
peak of memory is that of a process. "Process" is what it has before the method starts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from ltbench.blocks.features.store import scratch_folder
from ltbench.contract.parameters import parse_assignments, resolve
from ltbench.contract.registry import choose_preset, method_class
from ltbench.core import Dataset
from ltbench.errors import LtbenchError
from ltbench.method import ImageCounts, Method, Runtime
from ltbench.runs.environment import parse_size, peak_memory, resident_memory
from ltbench.runs.memory import MemoryPlan, plan_memory
from ltbench.splits.files import find_split

SIDE = 224


class DrawnImages:
    """Images of categories that differ in colour and pattern, drawn when asked for: nothing is held."""

    size = (SIDE, SIDE)

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        self.categories = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
        self._seed = seed

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return self._drawn(index, SIDE)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[index] for index in range(len(self)))

    def uncropped(self, index: int, /) -> NDArray[np.uint8]:
        return self._drawn(index, 256)

    @property
    def fingerprints(self) -> Sequence[str]:
        return [f"drawn-{self._seed}-{index}" for index in range(len(self))]

    def _drawn(self, index: int, side: int) -> NDArray[np.uint8]:
        kind = np.random.RandomState(int(self.categories[index]))
        rng = np.random.RandomState(self._seed + index)
        y, x = np.mgrid[:side, :side] + rng.randint(0, 9, (2, 1, 1))
        colour, waves = kind.uniform(60, 200, 3), kind.uniform(0.05, 0.9, (2, 3))
        image = colour + 30 * np.sin(y[..., None] * waves[0] + x[..., None] * waves[1])
        drawn: NDArray[np.uint8] = (image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)
        return drawn


def no_listing(name: str) -> Dataset:
    raise SystemExit(f"{name}: name a committed split")


def method_of(args: argparse.Namespace) -> Method:
    cls = method_class(args.method)
    chosen = choose_preset(cls, None, args.split)
    return cls(**resolve(cls, chosen.parameters, {"weights": "random"}, parse_assignments(args.parameter)))


def planned(args: argparse.Namespace, limit: int | None) -> tuple[MemoryPlan, ImageCounts]:
    counts = find_split(args.split, no_listing).counts.values()
    sizes = [sum(count.values()) for count in counts]
    train = tuple(size if size < 20 else max(20, round(args.share * size)) for size in sizes)
    images = ImageCounts((SIDE, SIDE), train, (args.test,))
    plan = plan_memory(method_of(args), images, limit, scratch_folder())
    assert plan is not None
    return plan, images


def side(args: argparse.Namespace) -> dict[str, Any]:
    """Run one side in this process."""
    limit = parse_size(args.limit) if args.side == "limited" else None
    plan, images = planned(args, limit)
    before = resident_memory()
    peaks: dict[str, float] = {}
    runtime = Runtime(scratch=scratch_folder() if plan.streamed else None, memory_limit=plan.allowance)
    start = time.perf_counter()
    with peak_memory(peaks, "fit"):
        method = method_of(args).fit(DrawnImages(images.train, seed=0), runtime)
    fitted = time.perf_counter()
    with peak_memory(peaks, "predict"):
        prediction = method.predict(DrawnImages(images.test, seed=10**6))
    digest = hashlib.sha256(prediction.scores.tobytes() + prediction.maps.tobytes()).hexdigest()
    return {
        "images": sum(images.train),
        "process": before / 2**20,
        "estimate": plan.peak / 2**20,
        "driver": plan.driver,
        "fit": peaks["fit"],
        "predict": peaks["predict"],
        "disk": plan.estimate.disk / 2**20,
        "seconds": fitted - start,
        "tails": len(runtime.notes.get("tails", {}).get("indices", ())),
        "digest": digest[:16],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="tailedcore", help="a method with a memory bank (%(default)s)")
    parser.add_argument("--split", default="mvtec_k4_noisy10_seed1", help="whose counts (%(default)s)")
    parser.add_argument("--share", type=float, default=0.05, help="share of the heads' images (%(default)s)")
    parser.add_argument("--test", type=int, default=4, help="images that are scored (%(default)s)")
    parser.add_argument("--limit", default="2GiB", help="the memory limit (%(default)s)")
    parser.add_argument("-p", "--parameter", action="append", default=[], help="a hyper-parameter, key=value")
    parser.add_argument("--only-limited", action="store_true", help="leave out the run without a limit")
    parser.add_argument("--side", choices=("free", "limited"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        try:
            print(json.dumps(side(args)))
        except LtbenchError as error:
            sys.exit(str(error))
        return
    results = {}
    for name in ("limited",) if args.only_limited else ("limited", "free"):
        command = [sys.executable, __file__, *sys.argv[1:], "--side", name]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.returncode)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    columns = ("process", "estimate", "fit", "predict", "disk", "seconds")
    names = {"limited": f"limit {args.limit}", "free": "no limit"}
    rows = [[names[name], *(result[column] for column in columns)] for name, result in results.items()]
    first = results["limited"]
    print(f"{args.method}, {first['images']} training images, {first['tails']} of them predicted tail")
    print(f"largest: {first['driver']}\n")
    headers = ["", "process MiB", "estimated peak", "peak of fit", "of predict", "on disk", "seconds of fit"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=",.0f"))
    if "free" in results:
        print(f"\nThe same scores and maps: {first['digest'] == results['free']['digest']}.")


if __name__ == "__main__":
    main()
