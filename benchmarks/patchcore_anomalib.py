"""PatchCore on one category, fit and test, beside anomalib's PatchCore Engine on the same machine.

Random weights on both sides: they change no time. Both take 256-pixel images, levels 2 and 3 and a coreset of 10 %.
anomalib runs in an environment of its own (`make bench-anomalib`); its greedy coreset is extrapolated from the first
picks. Two further rows leave the coreset out, on fewer images, and compare with the bare sum of the backbone's forward
passes and one FAISS search.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import torch
from tabulate import tabulate

from ltbench.blocks.features.backbones import load_backbone
from ltbench.core import Dataset, Prediction
from ltbench.datasets.folder import index_tree
from ltbench.datasets.images import DiskImages
from ltbench.method import Runtime
from ltbench.metrics.groups import evaluate_category
from ltbench.protocols import PROTOCOLS
from ltbench.runs.examination import read_masks
from methods.patchcore.method import PatchCore

COMMON = PROTOCOLS["common"]


def ours(dataset: Dataset, category: str, backbone: str, coreset: str) -> float:
    """Return the seconds of fit, predict and all metrics."""
    start = time.perf_counter()
    train, test = (_images(dataset, part, category) for part in ("train", "test"))
    method = PatchCore(backbone=backbone, weights="random", coreset="exact" if coreset else "none")
    prediction: Prediction = method.fit(train, Runtime()).predict(test)
    samples = dataset.test_of(category)
    labels = np.array([sample.is_anomalous for sample in samples])
    evaluate_category(prediction.scores, labels, prediction.maps, read_masks(dataset, samples, COMMON), COMMON)
    return time.perf_counter() - start


def bare(dataset: Dataset, category: str, backbone: str) -> float:
    """Return the seconds of decoding, the backbone's forward passes and one FAISS search, and nothing else."""
    train, test = (_images(dataset, part, category) for part in ("train", "test"))
    network = load_backbone(backbone, (2, 3), "random")
    start = time.perf_counter()
    for images in (train, test):
        for image in images:
            network(image)
    forward = time.perf_counter() - start
    patches = COMMON.resize // 8
    rng = np.random.RandomState(0)
    bank, queries = (rng.rand(len(s) * patches**2, 1024).astype(np.float32) for s in (train, test))
    index = faiss.IndexFlatL2(1024)
    index.add(bank)
    start = time.perf_counter()
    index.search(queries, 1)
    return forward + time.perf_counter() - start


def anomalib(python: Path, folder: Path, backbone: str, picks: int) -> float:
    """Return the seconds of anomalib's Engine, its coreset extrapolated."""
    script = Path(__file__).with_name("anomalib_patchcore.py")
    command = [
        str(python),
        str(script),
        "--category",
        str(folder),
        "--backbone",
        backbone.split(".")[0],
        "--picks",
        str(picks),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def _images(dataset: Dataset, part: str, category: str) -> DiskImages:
    samples = dataset.train_of(category) if part == "train" else dataset.test_of(category)
    return DiskImages(dataset, [sample.path for sample in samples], COMMON)


def limited(dataset: Dataset, category: str, count: int) -> Dataset:
    """Return the dataset with the first images of one category only: as many of train and test each."""
    tested = dataset.test_of(category)
    good, defective = ([sample for sample in tested if sample.is_anomalous is kind] for kind in (False, True))
    test = (*good[: count // 2], *defective[: count - count // 2])
    return replace(dataset, categories=(category,), train=dataset.train_of(category)[:count], test=test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("../shared/data/industrial8"), help="in MVTec layout")
    parser.add_argument("--category", default="screw")
    parser.add_argument("--backbone", action="append", help="resnet18, wide_resnet50_2; repeat for more")
    parser.add_argument("--anomalib-python", type=Path, help="interpreter with anomalib; left out without")
    parser.add_argument("--picks", type=int, default=100, help="picks of anomalib's coreset that are timed")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each side; the median is shown")
    parser.add_argument("--limit", type=int, default=40, help="images of each part in the rows without a coreset")
    arguments = parser.parse_args()

    dataset = index_tree(arguments.folder, arguments.folder.resolve().name)
    category_folder = (arguments.folder / arguments.category).resolve()
    rows = []
    for backbone in arguments.backbone or ["resnet18", "wide_resnet50_2"]:
        times: dict[str, list[float]] = {"ltbench": [], "anomalib": [], "no coreset": [], "bare": []}
        for _ in range(arguments.repeats):
            times["ltbench"].append(ours(dataset, arguments.category, backbone, "exact"))
            if arguments.anomalib_python:
                python = arguments.anomalib_python.absolute()
                times["anomalib"].append(anomalib(python, category_folder, backbone, arguments.picks))
            few = limited(dataset, arguments.category, arguments.limit)
            times["bare"].append(bare(few, arguments.category, backbone))
            times["no coreset"].append(ours(few, arguments.category, backbone, ""))
        medians = {side: statistics.median(seconds) for side, seconds in times.items() if seconds}
        for side, reference in (("anomalib", "ltbench"), ("no coreset", "bare")):
            if side in medians:
                rows.append([backbone, reference, f"{medians[reference]:.1f}", ""])
                rows.append([backbone, side, f"{medians[side]:.1f}", f"{medians[side] / medians[reference]:.2f}"])
    print(f"{arguments.category}, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(tabulate(rows, ["backbone", "what", "seconds", "times the row above"], tablefmt="github"))


if __name__ == "__main__":
    main()
