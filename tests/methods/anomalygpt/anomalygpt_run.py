"""Train a small AnomalyGPT from the command line, so that a test can kill it: FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from methods.anomalygpt.method import AnomalyGPT


def predicted(runtime: Runtime) -> Prediction:
    """Return what a method trained for 60 steps says of two images."""
    values = resolve(AnomalyGPT, presets(AnomalyGPT)["check"].parameters) | {"iterations": 60}
    rng = np.random.RandomState(0)
    train, test = (
        ArrayImages(rng.randint(0, 256, (count, 64, 64, 3)).astype(np.uint8), ["nut", "bolt"] * (count // 2))
        for count in (8, 2)
    )
    return AnomalyGPT(**values).fit(train, runtime).predict(test)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    lent = Runtime(seed=1, checkpoints=folder / "checkpoints", checkpoint_minutes=0)
    np.save(folder / "maps.npy", predicted(lent).maps)
