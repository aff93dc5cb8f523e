"""The score of an image, of its anomaly map."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

ImageScore = Literal["mean", "max"]
"""Over which pixels of a map its highest value is taken. The paper does not say."""


def image_score(anomaly_map: NDArray[np.float32], rule: ImageScore) -> float:
    """Return the score of an image by its map (H, W): the highest 16x16 average, or the highest pixel."""
    return highest_mean(anomaly_map) if rule == "mean" else float(anomaly_map.max())


def highest_mean(anomaly_map: NDArray[np.float32], side: int = 16) -> float:
    """Return the highest average of a map (H, W) over squares of `side` pixels, as UniAD scores images."""
    image = torch.from_numpy(anomaly_map)[None, None]
    return float(nn.functional.avg_pool2d(image, min(side, *anomaly_map.shape), stride=1).max())
