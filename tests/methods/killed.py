"""Train a method in miniature in a process of its own, so that a test can kill it: METHOD FOLDER VALUES."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import method_class, presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime

ROOT = Path(__file__).resolve().parents[2]


def _images(count: int, seed: int) -> ArrayImages:
    rng = np.random.RandomState(seed)
    categories = ["ab"[index % 2] for index in range(count)]
    return ArrayImages(rng.randint(90, 160, (count, 64, 64, 3)).astype(np.uint8), categories)


def predicted(name: str, values: Mapping[str, Any], checkpoints: Path | None) -> Prediction:
    """Return what a method's preset `check`, trained on seven images, says of two; it goes on from checkpoints."""
    cls = method_class(name)
    method: Any = cls(**resolve(cls, presets(cls)["check"].parameters, values))
    runtime = Runtime(seed=1, checkpoints=checkpoints, checkpoint_minutes=0)
    prediction: Prediction = method.fit(_images(7, 0), runtime).predict(_images(2, 1))
    return prediction


def killed_on_the_way(name: str, values: Mapping[str, Any], folder: Path, file: str) -> None:
    """Start a training in a process of its own, and kill it (-9) once it has written a checkpoint of this name."""
    command = [sys.executable, "-m", "tests.methods.killed", name, str(folder), json.dumps(dict(values))]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"})
    while process.poll() is None and not (folder / file).exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"


if __name__ == "__main__":
    predicted(sys.argv[1], json.loads(sys.argv[3]), Path(sys.argv[2]))
