"""What a method says of images, and the numbers that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import ContractError

Metrics = Mapping[str, Mapping[str, float]]
"""Metric id (`image_auroc`) -> group (a category, `high`, `low` or `avg`) -> value in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a method says of N images.

    Args:
        scores: image scores, (N,) float32, finite, higher = more anomalous.
        maps: anomaly maps, (N, H, W) float32, finite, higher = more anomalous.

    Raises:
        ContractError: an array of another type or shape, or one that is not finite.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, array, ndim in (("scores", self.scores, 1), ("maps", self.maps, 3)):
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise ContractError(f"Expected float32 {name}, got {kind}. Return numpy arrays as float32.")
            if array.ndim != ndim:
                raise ContractError(f"Expected {ndim}-dimensional {name}, got shape {array.shape}. Reshape them.")
            if not np.isfinite(array).all():
                raise ContractError(f"Expected finite {name}, got NaN or infinity. Look for a division by zero.")
        if len(self.scores) != len(self.maps):
            raise ContractError(
                f"Expected as many scores as maps, got {len(self.scores)} and {len(self.maps)}. Return one an image."
            )

    def check(self, count: int, size: tuple[int, int]) -> None:
        """Raise `ContractError` unless there is one map of `size` (height, width) for each of `count` images."""
        if self.maps.shape != (count, *size):
            raise ContractError(
                f"Expected maps of shape {(count, *size)}, got {self.maps.shape}. Resize maps to the image size."
            )
