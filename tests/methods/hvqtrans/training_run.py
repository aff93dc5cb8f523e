"""Train HVQ-Trans in miniature from the command line, so that a test can kill it: FOLDER STATISTICS."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import presets
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from methods.hvqtrans.method import HVQTrans

CHECK: dict[str, Any] = resolve(HVQTrans, presets(HVQTrans)["check"].parameters) | {"weights": "random"}


def images(count: int, seed: int, side: int = 64, names: str = "abc") -> ArrayImages:
    """Return grainy images of categories in turn."""
    rng = np.random.RandomState(seed)
    categories = [names[index % len(names)] for index in range(count)]
    tints = np.array([40 * names.index(category) for category in categories]).reshape(-1, 1, 1, 1)
    return ArrayImages((rng.randint(60, 130, (count, side, side, 3)) + tints).astype(np.uint8), categories)


def trained(runtime: Runtime, **values: Any) -> HVQTrans:
    """Return the method after training on eleven images of three categories, in steps of five."""
    return HVQTrans(**(CHECK | {"batch_size": 5, "epochs": 4} | values)).fit(images(11, 0), runtime)


if __name__ == "__main__":
    folder, statistics = Path(sys.argv[1]), sys.argv[2]
    runtime = Runtime(seed=3, checkpoints=folder / "checkpoints", checkpoint_minutes=0)
    (folder / "result").mkdir(exist_ok=True)
    trained(runtime, backbone_statistics=statistics).save(folder / "result")
