"""SoftPatch (Jiang et al., NeurIPS 2022, arXiv 2403.14233): PatchCore for noisy training images.

Two variants: the one of TailedCore's tables, which removes outlying patches and then samples exactly, and the authors'
own, which samples approximately with weights. README.md compares them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.blocks.device_memory import FLOAT
from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers, SmoothingSigma, Weights
from ltbench.blocks.memory_bank.bank import PatchEmbedder, score_images
from ltbench.blocks.memory_bank.coreset import approximate_greedy_coreset, coreset_size, draw_starts
from ltbench.blocks.memory_bank.denoising import WeightMethod, denoised_coreset, inliers, patch_weights
from ltbench.blocks.memory_bank.estimate import BankMemory, patch_shape
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.projection import project
from ltbench.blocks.memory_bank.rows import Rows, in_memory, select
from ltbench.blocks.memory_bank.settings import (
    CoresetRatio,
    EmbedDim,
    EmbeddingKind,
    LofK,
    Neighbours,
    OutlierShare,
    PatchPrecision,
    ProjectionDim,
    WeightDim,
)
from ltbench.blocks.state import load_state, save_state
from ltbench.core import Prediction
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime


@dataclass
class SoftPatch:
    """PatchCore without the most outlying patches; those that stay weigh the scores of patches nearest to them."""

    info: ClassVar[MethodInfo] = MethodInfo("softpatch", "SoftPatch", paper="arXiv:2403.14233")

    backbone: Backbone = "wide_resnet50_2.tv_in1k"
    weights: Weights = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Layers = (2, 3)
    embedding: EmbeddingKind = "official"
    embed_dim: EmbedDim = 1024
    weight_method: Annotated[WeightMethod, Field(description="how outlying patches are told")] = "lof"
    lof_k: LofK = 6
    weight_dim: WeightDim = 128
    outlier_share: OutlierShare = 0.15
    filtering: Annotated[
        Literal["removal", "weighted"], Field(description="remove outliers before the coreset, or weigh the sampling")
    ] = "removal"
    coreset_ratio: CoresetRatio = 0.1
    projection_dim: ProjectionDim = 128
    starting_points: Annotated[
        int,
        Field(ge=1, description="random rows that weighted sampling starts from"),
        Probe(2, {"filtering": "weighted"}),
    ] = 128
    soft_weight: Annotated[bool, Field(description="multiply scores by the weight of the nearest row")] = True
    neighbours: Neighbours = 1
    patch_precision: PatchPrecision = "float32"
    smoothing_sigma: SmoothingSigma = 4.0

    memory_savers: ClassVar = ({"coreset_ratio": 0.01}, {"projection_dim": 64}, {"embed_dim": 512})

    memory_: NearestNeighbours = field(init=False, repr=False)
    patch_weights_: NDArray[np.float32] = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Weigh the patches of all training images and keep a coreset of those that are not outliers.

        `runtime.notes["memories"]` then says how many patches the memory bank has of each image.
        """
        self._lend(runtime)
        rng = np.random.RandomState(runtime.seed)
        patches = self._embedder.matrix(train)
        positions = len(patches) // len(train)
        with runtime.progress.timed("weights"):
            weights = patch_weights(
                patches,
                positions,
                rng=rng,
                method=self.weight_method,
                lof_k=self.lof_k,
                projection_dim=self.weight_dim,
                folder=runtime.scratch,
                device=runtime.device,
            )
        with runtime.progress.timed("coreset"):
            kept = self._select(patches, weights, rng, runtime.device)
        origins = kept // positions
        patches = select(patches, kept)
        self.memory_ = NearestNeighbours(
            patches, origins=origins, device=runtime.device, rounded=runtime.scratch is None
        )
        self.patch_weights_ = weights[kept].astype(np.float32)
        by_image = np.bincount(origins, minlength=len(train)).tolist()
        runtime.notes["memories"] = {"clean": {"patches": len(kept), "by_image": by_image}}
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score patches by their distance to the memory bank, times the weight of the nearest row."""
        return self.predict_without(images, ())

    def predict_without(self, images: ImageSet, left_out: Sequence[Sequence[int]]) -> Prediction:
        """Score patches by their distance to the rows that are of other images, times the weight of the nearest."""
        return score_images(
            self._embedder,
            images,
            self.memory_,
            left_out,
            neighbours=self.neighbours,
            smoothing_sigma=self.smoothing_sigma,
            weights=self.patch_weights_ if self.soft_weight else None,
        )

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what fitting and searching will take."""
        shape = patch_shape(self.backbone, self.layers, self.embedding, self.embed_dim, images.size)
        memory = BankMemory(shape, sum(images.train), self.patch_precision, streamed)
        rows = memory.rows if self.filtering == "weighted" else math.ceil(memory.rows * (1 - self.outlier_share))
        kept = coreset_size(self.coreset_ratio, rows)
        phases = {
            f"{memory.rows:,} patches of {shape.dimension:,} values": memory.features(),
            f"weights of {memory.rows:,} patches": memory.weights(self.weight_dim, self.weight_method),
            f"coreset of {rows:,} patches in {self.projection_dim} dimensions": memory.coreset(
                rows, self.projection_dim, self.coreset_ratio
            ),
            f"memory bank of {kept:,} patches": memory.bank(kept),
            f"search in {kept:,} patches": memory.search(kept, images),
        }
        disk = memory.stored + memory.rows * self.weight_dim * FLOAT + memory.bank_bytes(kept)
        on_device = memory.on_device(images, kept, projected=max(self.weight_dim, self.projection_dim))
        return MemoryEstimate(phases, disk if streamed else 0, on_device)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the memory bank with its weights, and the seed."""
        save_state(
            folder,
            self,
            {**self.memory_.arrays(), "patch_weights": self.patch_weights_, "seed": np.array([self.seed_])},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state.pop("seed").item()))
        method.patch_weights_ = state.pop("patch_weights")
        method.memory_ = NearestNeighbours.from_arrays(state)
        return method

    def _select(
        self, patches: Rows, weights: NDArray[np.float64], rng: np.random.RandomState, device: str
    ) -> NDArray[np.int64]:
        """Return the rows that the memory bank keeps."""
        if self.filtering == "removal":
            keep = inliers(weights, self.outlier_share)
            return denoised_coreset(
                patches, keep, self.coreset_ratio, projection_dim=self.projection_dim, rng=rng, device=device
            )
        return approximate_greedy_coreset(
            in_memory(project(patches, self.projection_dim, rng, device=device)),
            coreset_size(self.coreset_ratio, len(patches)),
            starts=draw_starts(len(patches), rng, self.starting_points),
            weights=inliers(weights, self.outlier_share, strict=False),
        )

    def _lend(self, runtime: Runtime) -> None:
        self.seed_ = runtime.seed
        self._embedder = PatchEmbedder(
            self.backbone,
            self.layers,
            self.weights,
            self.embedding,
            self.embed_dim,
            runtime=runtime,
            precision=self.patch_precision,
            backbone_precision=self.backbone_precision,
        )


METHOD: type[Method] = SoftPatch
