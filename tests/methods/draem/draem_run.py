"""Train a small DRAEM from the command line, so that a test can kill it: FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from methods.draem.method import DRAEM


def predicted(runtime: Runtime) -> Prediction:
    """Return what a method trained for 12 steps says of two images."""
    values = resolve(DRAEM, presets(DRAEM)["check"].parameters) | {"iterations": 12}
    rng = np.random.RandomState(0)
    train, test = (ArrayImages(rng.randint(90, 160, (count, 64, 64, 3)).astype(np.uint8)) for count in (7, 2))
    return DRAEM(**values).fit(train, runtime).predict(test)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    lent = Runtime(seed=1, checkpoints=folder / "checkpoints", checkpoint_minutes=0)
    np.save(folder / "maps.npy", predicted(lent).maps)
