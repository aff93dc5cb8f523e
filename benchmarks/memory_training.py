"""Train and score with methods without a memory bank, each in a process; print what each was expected to take and took.

    python benchmarks/memory_training.py
    python benchmarks/memory_training.py --methods uniad,draem --images 24

Preset `offline` with few steps and drawn images. "Grown" is the peak of the process over what it had before the method
started, "estimated" the largest phase of the method's estimate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from ltbench.contract.parameters import hyper_parameters, resolve
from ltbench.contract.registry import choose_preset, method_class
from ltbench.datasets.annotated import AnnotatedArrayImages
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import ImageCounts, Runtime
from ltbench.runs.environment import peak_memory, resident_memory

METHODS = "uniad,rlr,hvqtrans,dinomaly,draem,mkd,cutpaste,regad,winclip,ltad,anomalyclip,anomalygpt,mean_image"
SIDES = {"dinomaly": 224}
FEW: dict[str, Any] = {"epochs": 1, "iterations": 2, "steps": 2, "updates": 2, "frozen_updates": 0}
LARGER: dict[str, dict[str, Any]] = {
    "uniad": {"batch_size": 32},
    "rlr": {"batch_size": 32},
    "draem": {"reconstructive_width": 32, "discriminative_width": 32},
}
"""Settings under which methods take so much that it shows beside what libraries take."""
TESTED = {"mean_image": 400}
"""Test images where they are what takes most; else two."""


def measured(name: str, images: int, preset: str, threads: int) -> dict[str, Any]:
    """Return estimate and growth of one method, in MiB."""
    torch.set_num_threads(threads)
    cls = method_class(name)
    own = {parameter.name for parameter in hyper_parameters(cls)}
    few = {key: value for key, value in FEW.items() if key in own}
    values = resolve(cls, choose_preset(cls, preset, "").parameters, few, LARGER.get(name, {}))
    method: Any = cls(**values)
    side = SIDES.get(name, 256)
    rng, tested = np.random.default_rng(0), TESTED.get(name, 2)
    train, test = (
        ArrayImages(rng.integers(0, 256, (count, side, side, 3), np.uint8), ["ab"[index % 2] for index in range(count)])
        for count in (images, tested)
    )
    counts = ImageCounts((side, side), (images - images // 2, images // 2), (tested,))
    found = method.memory_estimate(counts, streamed=False).phases
    masks = np.zeros((images, side, side), np.bool_)
    masks[::2, 40:80, 40:80] = True
    annotated = AnnotatedArrayImages(train.images, masks, "drawn") if cls.info.uses_annotated_data else None
    runtime = Runtime(auxiliary=annotated)
    before, peaks = resident_memory() / 2**20, dict[str, float]()
    with peak_memory(peaks, "fit"):
        method.fit(train, runtime)
    with peak_memory(peaks, "predict"):
        method.predict(test)
    phase = max(found, key=lambda own: found[own])
    return {"estimated": found[phase] / 2**20, "grown": max(peaks.values()) - before, "phase": phase}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS, help="names, separated by commas (%(default)s)")
    parser.add_argument("--images", type=int, default=32, help="training images (%(default)s)")
    parser.add_argument("--preset", default="offline", help="their settings (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.one, args.images, args.preset, args.threads)))
        return
    rows = []
    for name in args.methods.split(","):
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--one", name], check=True, stdout=subprocess.PIPE
        )
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append([name, found["estimated"], found["grown"], found["estimated"] / found["grown"], found["phase"]])
    headers = ["", "estimated MiB", "grown", "estimated / grown", "largest"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", ",.0f", ",.0f", ".2f", "")))


if __name__ == "__main__":
    main()
