"""Time `ltbench predict` from its start, and beside the bare backbone and search: PatchCore of a saved run.

The first score is timed in processes of their own, from start to the first scored chunk. The bare side is what
PatchCore cannot do without: decoding, resizing, the backbone's forward pass and a FAISS search in the same memory.

    PYTHONPATH=.:benchmarks python benchmarks/predict.py --data-root ../shared/data
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import faiss
import numpy as np
import torch
from safetensors.numpy import load_file
from turns import median_seconds, print_table

from ltbench.apply.images import find_images
from ltbench.apply.scoring import Scorer
from ltbench.datasets.images import FileImages
from ltbench.runs.models import MODEL, SavedModel, find_model
from methods.patchcore.method import PatchCore

CATEGORIES = 4


def main() -> None:
    """Fit PatchCore on four categories, time applying it, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds industrial8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _four(options.data_root / "industrial8", root / "data" / "four")
        run = _fit(root)
        files = find_images([root / "data" / "four"])[0][: options.images]
        print(
            f"first score from the start of the process: {_first(run, files[0].file, options.rounds):.2f} s (median)\n"
        )
        model = find_model(str(run), root)
        scorer = Scorer(model, model.load())
        sides = {
            "bare backbone and search": _bare(model, [one.file for one in files]),
            "ltbench predict": lambda: scorer.apply(files),
        }
        seconds = median_seconds(sides, options.rounds)
        bare = seconds["bare backbone and search"]
        print_table(f"{len(files)} images", "times the bare side", seconds, lambda value: value / bare)


def _four(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for category in sorted(path for path in source.iterdir() if path.is_dir())[:CATEGORIES]:
        (target / category.name).symlink_to(category.resolve())


def _fit(root: Path) -> Path:
    command = [sys.executable, "-m", "ltbench.cli", "run", "-m", "patchcore", "-s", "four_full", "--preset", "offline"]
    options = ["--data-root", str(root / "data"), "--results", str(root / "results"), "--save-model", "--json"]
    out = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
    return Path(json.loads(out)["run"])


def _first(run: Path, image: Path, rounds: int) -> float:
    command = [sys.executable, "-m", "ltbench.cli", "predict", "--run", str(run / MODEL), str(image), "--json"]
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _bare(model: SavedModel, files: list[Path]) -> Callable[[], None]:
    method = cast(PatchCore, model.load())
    state = load_file(model.folder / "state.safetensors")
    memory = max(state.values(), key=lambda array: array.size if array.ndim == 2 else 0)
    index = faiss.IndexFlatL2(memory.shape[1])
    index.add(np.ascontiguousarray(memory, np.float32))
    images = FileImages(files, model.protocol)
    queries = np.concatenate([patches for patches, _ in method._embedder.embed(images)])
    backbone = method._embedder._extractor.backbone

    def run() -> None:
        with torch.no_grad():
            for image in images:
                values = (torch.from_numpy(image).permute(2, 0, 1) / 255 - backbone._mean) / backbone._std
                backbone.network(values[None].contiguous(memory_format=torch.channels_last))
        index.search(queries, 1)

    return run


if __name__ == "__main__":
    main()
