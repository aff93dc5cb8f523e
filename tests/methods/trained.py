"""A small training of a method, which tests repeat on other numbers of threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime


def noise_images(count: int, seed: int, side: int = 64) -> ArrayImages:
    """Return grey images of noise."""
    rng = np.random.RandomState(seed)
    return ArrayImages(rng.randint(90, 160, (count, side, side, 3)).astype(np.uint8))


def predicted(method: type[Any], values: Mapping[str, Any], threads: int) -> Prediction:
    """Return what a method with these hyper-parameters predicts, trained and applied on so many threads."""
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        prediction: Prediction = method(**values).fit(noise_images(7, 0), Runtime(seed=3)).predict(noise_images(3, 1))
    finally:
        torch.set_num_threads(usual)
    return prediction
