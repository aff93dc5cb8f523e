"""Train a small MKD from the command line, so that a test can kill it: FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from methods.mkd.method import MKD


def predicted(runtime: Runtime) -> Prediction:
    """Return what a method trained for 30 steps says of two images."""
    values = resolve(MKD, presets(MKD)["check"].parameters) | {"weights": "random", "iterations": 30}
    rng = np.random.RandomState(0)
    train, test = (ArrayImages(rng.randint(90, 160, (count, 64, 64, 3)).astype(np.uint8)) for count in (7, 2))
    return MKD(**values).fit(train, runtime).predict(test)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    lent = Runtime(seed=1, checkpoints=folder / "checkpoints", checkpoint_minutes=0)
    np.save(folder / "maps.npy", predicted(lent).maps)
