"""What digests cost: the first and a second look at many images, and a plan over many finished cells.

    python benchmarks/digests.py --images 5000 --cells 1000

Images are drawn into a temporary folder. The cells are one run's record under as many seeds, once with digests and once
without, as ltbench wrote them before; `ltbench plan` is called over both in turns, as a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from turns import median_seconds, print_table

from ltbench.datasets.digests import digests_of
from ltbench.records.record import RunRecord, new_folder, run_folder, write_record
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name

SIDE = 224


def draw(root: Path, images: int) -> None:
    """Draw the dataset `many`: one category, half of its images for training."""
    rng = np.random.RandomState(0)
    for part, kind, count in (
        ("train", "good", images // 2),
        ("test", "good", images // 4),
        ("test", "x", images // 4),
    ):
        folder = root / "many" / "tile" / part / kind
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(folder / f"{number:05d}.png")


def write_cells(results: Path, record: RunRecord, cells: int) -> None:
    """Write a record under many seeds."""
    for seed in range(cells):
        spec = replace(record.spec, seed=seed)
        with new_folder(run_folder(results, spec)) as folder:
            write_record(folder, replace(record, spec=spec))


def plan(results: Path, cells: int) -> None:
    """Call `ltbench plan` over the cells."""
    grid = ["-m", "mean_image", "-s", "many_full", "--seeds", f"0-{cells - 1}", "--results", str(results), "--json"]
    subprocess.run([sys.executable, "-m", "ltbench.cli", "plan", *grid], check=True, stdout=subprocess.PIPE)


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--planned-images", type=int, default=1000, help="images of the dataset of the cells")
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"LTBENCH_DATA": str(folder / "cells"), "LTBENCH_CACHE": str(folder / "cache")}
        draw(folder / "looked", options.images)
        files = sorted((folder / "looked").rglob("*.png"))
        size = sum(file.stat().st_size for file in files) / 2**20
        print(f"{len(files)} files, {size:.0f} MiB:")
        for look in ("first", "second"):
            start = time.perf_counter()
            digests_of(files)
            print(f"{look} digest {time.perf_counter() - start:.2f} s")
        draw(folder / "cells", options.planned_images)
        outcome = run_by_name("mean_image", "many_full", folder / "cells", Harness(folder / "results"))
        sides: dict[str, Callable[[], object]] = {}
        for side, record in (
            ("without digests", replace(outcome.record, provenance=None)),
            ("with digests", outcome.record),
        ):
            results = folder / side.split()[0]
            write_cells(results, record, options.cells)
            sides[f"plan over {options.cells} cells, {side}"] = partial(plan, results, options.cells)
        seconds = median_seconds(sides, options.rounds)
    base = next(iter(seconds.values()))
    print_table(f"{options.planned_images} images, medians of {options.rounds}", "ratio", seconds, lambda s: s / base)


if __name__ == "__main__":
    main()
