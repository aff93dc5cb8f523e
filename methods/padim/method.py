"""PaDiM (Defard et al., 2020, arXiv 2011.08785), as the usual public code computes it; README.md says which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.blocks.device_memory import FLOAT, features_phase
from ltbench.blocks.features.extractor import FeatureExtractor, Maps
from ltbench.blocks.features.patches import Grid
from ltbench.blocks.features.pyramids import map_shapes
from ltbench.blocks.features.room import maps_room
from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers, SmoothingSigma, Weights
from ltbench.blocks.maps import upsample_and_smooth
from ltbench.blocks.memory_bank.estimate import maps_bytes, network_bytes
from ltbench.blocks.state import load_state, save_state
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .gaussians import PositionGaussians, gaussian_bytes

_FEW = {"dimensions": 20}


@dataclass
class PaDiM:
    """A Gaussian of features at every position; a patch scores by its Mahalanobis distance."""

    info: ClassVar[MethodInfo] = MethodInfo("padim", "PaDiM", paper="arXiv:2011.08785")

    backbone: Backbone = "wide_resnet50_2.tv_in1k"
    weights: Weights = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Annotated[Layers, Probe((1, 2), _FEW)] = (1, 2, 3)
    dimensions: Annotated[int, Field(ge=1, description="channels kept, drawn from those of all levels")] = 550
    epsilon: Annotated[float, Field(gt=0, description="added to the variances, that covariances be regular")] = 0.01
    smoothing_sigma: SmoothingSigma = 4.0

    memory_savers: ClassVar = ({"dimensions": 100},)

    channels_: NDArray[np.int64] = field(init=False, repr=False)
    gaussians_: PositionGaussians = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Draw the channels and measure their mean and covariance at every position."""
        self._lend(runtime)
        total = sum(self._extractor.backbone.channels)
        if self.dimensions > total:
            raise SpecError(
                f"Expected at most {total} dimensions (channels of levels {list(self.layers)} of {self.backbone}), "
                f"got {self.dimensions}. Lower dimensions."
            )
        rng = np.random.RandomState(runtime.seed)
        self.channels_ = np.sort(rng.choice(total, self.dimensions, replace=False)).astype(np.int64)
        vectors = (found for found, _ in self._vectors(train))
        self.gaussians_ = PositionGaussians.fit(vectors, self.epsilon, runtime.scratch)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score positions by their Mahalanobis distance, and an image by the maximum of its smoothed map."""
        maps = np.empty((len(images), *images.size), np.float32)
        grids: list[Grid] = []

        def vectors() -> Iterator[NDArray[np.float32]]:
            for found, grid in self._vectors(images):
                grids.append(grid)
                yield found

        for index, distances in enumerate(self.gaussians_.distances(vectors())):
            maps[index] = upsample_and_smooth(distances.reshape(grids[index]), images.size, self.smoothing_sigma)
        return Prediction(maps.max(axis=(1, 2)), maps)

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what fitting and measuring will take."""
        _, height, width = map_shapes(self.backbone, self.layers, images.size).maps[0]
        positions = height * width
        triangles, work = gaussian_bytes(positions, self.dimensions)
        network = network_bytes(self.backbone, self.layers, images.size)
        network += 3 * positions * self.dimensions * FLOAT  # the image that is aligned
        fitting = network + work + (0 if streamed else triangles)
        name = f"Gaussians of {self.dimensions} channels at {positions:,} positions"
        phases = {name: fitting, f"distances to {name}": fitting + maps_bytes(images)}
        on_device = features_phase(maps_room(self.backbone, self.layers, images.size), images)
        return MemoryEstimate(phases, triangles if streamed else 0, on_device)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the channels, the Gaussians and the seed."""
        arrays = {
            "channels": self.channels_,
            "means": self.gaussians_.means,
            "whitening": self.gaussians_.whitening[:],
            "seed": np.array([self.seed_]),
        }
        save_state(folder, self, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state["seed"].item()))
        method.channels_ = state["channels"]
        method.gaussians_ = PositionGaussians(state["means"], state["whitening"])
        return method

    def _vectors(self, images: ImageSet) -> Iterator[tuple[NDArray[np.float32], Grid]]:
        """Yield the chosen channels of each image at every position, (h * w, dimensions), and the grid (h, w)."""
        ends = list(accumulate(self._extractor.backbone.channels, initial=0))
        chosen = [
            self.channels_[(self.channels_ >= first) & (self.channels_ < last)] - first
            for first, last in pairwise(ends)
        ]
        for maps in self._extractor.extract(images):
            yield _aligned(maps, chosen)

    def _lend(self, runtime: Runtime) -> None:
        self.seed_ = runtime.seed
        self._extractor = FeatureExtractor(
            self.backbone, self.layers, self.weights, runtime=runtime, precision=self.backbone_precision
        )


def _aligned(maps: Maps, chosen: list[NDArray[np.int64]]) -> tuple[NDArray[np.float32], Grid]:
    """Return the chosen channels of each level on the grid of the first, every coarser cell copied to those it covers.

    Args:
        maps: one (C, h, w) map a level, finest first.
        chosen: indices of channels for each level.

    Raises:
        SpecError: a grid that is no whole multiple of a coarser one.
    """
    height, width = maps[0].shape[1:]
    planes = []
    for level, channels in zip(maps, chosen, strict=True):
        _, rows, columns = level.shape
        if height % rows or width % columns:
            raise SpecError(
                f"Expected grids that divide {height}x{width}, got {rows}x{columns}. Choose an image size that the "
                "backbone's strides divide."
            )
        planes.append(level[channels].repeat(height // rows, axis=1).repeat(width // columns, axis=2))
    stacked = np.concatenate(planes)
    return np.ascontiguousarray(stacked.reshape(len(stacked), -1).T), (height, width)


METHOD: type[Method] = PaDiM
