"""Time `ltbench evaluate` of maps on disk beside scikit-learn and a 200-threshold PRO on the same files.

    PYTHONPATH=.:benchmarks python benchmarks/evaluate.py

Maps are random with blurred defects, 256 x 256, in categories of 115 images, as MVTec AD's 1,725 test images have them
in the mean. The other side reads the same files and is timed on one category, times the number of categories.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pixel_metrics import pro_loop, scikit_learn_three
from scipy.ndimage import gaussian_filter

SIDE, IMAGES, GOOD = 256, 115, 40


def main() -> None:
    """Draw maps, evaluate them both ways, and print a table."""
    parser = argparse.ArgumentParser(description="time ltbench evaluate")
    parser.add_argument("--categories", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(options.categories):
            _draw(root, f"c{number:02d}", number)
        command = [
            sys.executable,
            "-m",
            "ltbench.cli",
            "evaluate",
            "-s",
            "drawn_full",
            "--predictions",
            str(root / "maps"),
        ]
        more = ["-m", "Drawn", "--data-root", str(root), "--results", str(root / "results"), "--json"]
        start = time.perf_counter()
        subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        ours = time.perf_counter() - start
        start = time.perf_counter()
        maps, masks = _read(root, "c00")
        scikit_learn_three(maps, masks)
        pro_loop(maps, masks)
        theirs = (time.perf_counter() - start) * options.categories
    print(f"| {options.categories * IMAGES:,} maps | seconds | times ltbench |\n|---|---:|---:|")
    print(f"| ltbench evaluate, from its start ({peak:,.0f} MiB at most) | {ours:.1f} | 1.0 |")
    print(f"| scikit-learn + 200-threshold PRO, from one category | {theirs:.1f} | {theirs / ours:.1f} |")


def _draw(root: Path, category: str, seed: int) -> None:
    rng = np.random.RandomState(seed)
    for number in range(IMAGES):
        kind = "good" if number < GOOD else "spot"
        mask = np.zeros((SIDE, SIDE), np.uint8)
        if kind == "spot":
            y, x = rng.randint(20, SIDE - 60, 2)
            mask[y : y + 30, x : x + 40] = 255
        own = gaussian_filter(rng.rand(SIDE, SIDE) + 0.3 * (mask > 0), 3).astype(np.float32)
        blank = np.full((SIDE, SIDE, 3), number, np.uint8)
        for file, image in (
            (root / "drawn" / category / "test" / kind / f"{number:03d}.png", blank),
            (root / "maps" / category / "test" / kind / f"{number:03d}.tiff", own),
            (root / "drawn" / category / "ground_truth" / kind / f"{number:03d}_mask.png", mask),
        ):
            if kind == "spot" or "ground_truth" not in file.parts:
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(file)
    train = root / "drawn" / category / "train" / "good" / "000.png"
    train.parent.mkdir(parents=True)
    Image.fromarray(np.full((SIDE, SIDE, 3), seed, np.uint8)).save(train)


def _read(root: Path, category: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    files = sorted((root / "maps" / category).rglob("*.tiff"))
    truths = root / "drawn" / category / "ground_truth" / "spot"
    masks = np.zeros((len(files), SIDE, SIDE), np.bool_)
    for place, file in enumerate(files):
        if file.parent.name == "spot":
            masks[place] = np.asarray(Image.open(truths / f"{file.stem}_mask.png")) > 0
    return np.stack([np.asarray(Image.open(file)) for file in files]), masks


if __name__ == "__main__":
    main()
