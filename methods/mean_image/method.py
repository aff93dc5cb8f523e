"""The floor of every table: how far each pixel lies from the mean training image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.features.settings import SmoothingSigma
from ltbench.blocks.maps import smooth
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.state import load_state, save_state
from ltbench.core import Prediction
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Runtime

FLOAT64 = 8
"""Bytes of a float64."""


@dataclass
class MeanImage:
    """Score a pixel by its squared distance to the mean training image; an image by its highest pixel.

    Args:
        smoothing_sigma: standard deviation in pixels of the Gaussian over the map.
    """

    info: ClassVar[MethodInfo] = MethodInfo("mean_image", "Mean image")

    smoothing_sigma: SmoothingSigma = 4.0

    mean_: NDArray[np.float32] = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Average the training images."""
        total = np.zeros((*train.size, 3), np.float64)
        for image in runtime.progress.track(train, "images", len(train)):
            total += image
        self.mean_ = (total / len(train) / 255).astype(np.float32)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Return the smoothed squared distance to the mean image, averaged over the colours."""
        maps = np.stack([((image / np.float32(255) - self.mean_) ** 2).mean(axis=2) for image in images])
        maps = smooth(maps, self.smoothing_sigma)
        return Prediction(maps.max(axis=(1, 2)), maps)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters and the mean image."""
        save_state(folder, self, {"mean": self.mean_})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method.mean_ = state["mean"]
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what the sum of the training images and the maps of the test images take; nothing lies in files."""
        one = 3 * images.size[0] * images.size[1]
        mean = f"mean of {sum(images.train):,} images"
        maps = f"maps of {max(images.test, default=0):,} images"
        return MemoryEstimate({mean: 3 * FLOAT64 * one, maps: FLOAT64 * one + maps_bytes(images)})


METHOD: type[Method] = MeanImage
