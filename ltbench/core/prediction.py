"""What a method says of images, and the numbers that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import ContractError

Metrics = Mapping[str, Mapping[str, float]]
"""Metric id (`image_auroc`) -> group (a category, `high`, `low` or `avg`) -> value in [0, 1]."""

_NONE = np.zeros((0, 0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a method says of N images.

    Args:
        scores: image scores, (N,) float32, finite, higher = more anomalous.
        maps: anomaly maps, (N, H, W) float32, finite, higher = more anomalous. Left out by a method that gives none
            (`MethodInfo.has_maps` is False); they are then (N, 0, 0), maps without a pixel.

    Raises:
        ContractError: an array of another type or shape, or one that is not finite.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32] = field(default_factory=lambda: _NONE)

    def __post_init__(self) -> None:
        if self.maps is _NONE and isinstance(self.scores, np.ndarray):
            object.__setattr__(self, "maps", np.zeros((len(self.scores), 0, 0), np.float32))
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

    @property
    def has_maps(self) -> bool:
        """Whether there are anomaly maps beside the scores."""
        return self.maps.shape[1:] != (0, 0)

    def check(self, count: int, size: tuple[int, int], *, has_maps: bool = True) -> None:
        """Raise `ContractError` unless there is a score, and a map of `size` (height, width), for each image.

        Args:
            count: number of images.
            size: (height, width) of a map.
            has_maps: what the method declares: without, there must be no maps.
        """
        if not has_maps:
            if self.has_maps:
                raise ContractError(
                    f"Expected no maps, as the method declares, got shape {self.maps.shape}. Declare has_maps=True."
                )
            if len(self.scores) != count:
                raise ContractError(f"Expected {count} scores, got {len(self.scores)}. Return one an image.")
            return
        if not self.has_maps:
            raise ContractError(
                "Expected anomaly maps, got scores alone. Return maps, or declare has_maps=False in the MethodInfo."
            )
        if self.maps.shape != (count, *size):
            raise ContractError(
                f"Expected maps of shape {(count, *size)}, got {self.maps.shape}. Resize maps to the image size."
            )
