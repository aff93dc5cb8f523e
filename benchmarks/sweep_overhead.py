"""What a sweep costs beside its runs: seconds a cell, for many tiny cells.

    python benchmarks/sweep_overhead.py --cells 1000 --workers 1

The cells fit and score `mean_image` on a dataset of 8 images of 32 x 32 pixels, drawn into a temporary folder. The
overhead of a cell is the wall-clock time of `ltbench sweep`, from the start of its process to its end, less the seconds
that the records count for fit, predict and evaluate, divided by the number of cells. With several workers it is what
each worker spends. Then the times of a plan and of a status over the finished folder are printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from ltbench.records.record import stream_records

SIDE = 32


def draw(root: Path) -> None:
    """Draw the dataset `tiny`: one category, 4 training images, 2 good and 2 defective test images."""
    rng = np.random.RandomState(0)
    for part, kind, count in (("train", "good", 4), ("test", "good", 2), ("test", "spot", 2)):
        folder = root / "tiny" / "tile" / part / kind
        folder.mkdir(parents=True)
        for number in range(count):
            image = rng.randint(90, 110, (SIDE, SIDE, 3)).astype(np.uint8)
            if kind == "spot":
                image[8:16, 8:16] = 255
            Image.fromarray(image).save(folder / f"{number:03d}.png")


def timed(*arguments: str) -> float:
    """Run `ltbench` and return its wall-clock seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ltbench.cli", *arguments], check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"LTBENCH_DATA": name, "LTBENCH_CACHE": str(folder / "cache")}
        draw(folder)
        results = folder / "results"
        grid = ["--methods", "mean_image", "--splits", "tiny_full", "--seeds", f"0-{options.cells - 1}"]
        grid += ["--results", str(results)]
        wall = timed("sweep", *grid, "--workers", str(options.workers), "--device", "cpu", "--json")
        problems: list[str] = []
        phases = ("fit", "predict", "evaluate")
        inside = [sum(r.seconds[phase] for phase in phases) for r in stream_records(results, problems)]
        assert not problems
        assert len(inside) == options.cells
        overhead = (wall * options.workers - sum(inside)) / options.cells
        rows = [
            ("the sweep", f"{wall:.1f} s"),
            ("inside a cell (fit, predict, evaluate)", f"{1000 * sum(inside) / options.cells:.1f} ms"),
            ("beside it, a cell", f"{1000 * overhead:.1f} ms"),
            ("`ltbench plan`, all done", f"{timed('plan', *grid, '--json'):.1f} s"),
            ("`ltbench sweep`, all done", f"{timed('sweep', *grid, '--device', 'cpu', '--json'):.1f} s"),
            ("`ltbench status`, all done", f"{timed('status', '--results', str(results), '--json'):.1f} s"),
        ]
    print(tabulate(rows, (f"{options.cells} cells, {options.workers} workers", ""), tablefmt="github"))


if __name__ == "__main__":
    main()
