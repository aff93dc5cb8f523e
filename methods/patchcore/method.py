"""PatchCore (Roth et al., CVPR 2022, arXiv 2106.08265), as amazon-science/patchcore-inspection computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field

from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers, SmoothingSigma, Weights
from ltbench.blocks.memory_bank.bank import PatchEmbedder, Sampling, choose_coreset, score_images
from ltbench.blocks.memory_bank.coreset import coreset_size
from ltbench.blocks.memory_bank.estimate import BankMemory, patch_shape
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.rows import select
from ltbench.blocks.memory_bank.settings import (
    CoresetRatio,
    EmbedDim,
    EmbeddingKind,
    Neighbours,
    PatchPrecision,
    ProjectionDim,
)
from ltbench.blocks.state import load_state, save_state
from ltbench.core import Prediction
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

_APPROXIMATE = {"coreset": "approximate"}
_OFFICIAL = {"embedding": "official", "embed_dim": 64}


@dataclass
class PatchCore:
    """A memory bank of patch features, thinned out greedily; a patch scores by its nearest neighbour."""

    info: ClassVar[MethodInfo] = MethodInfo("patchcore", "PatchCore", paper="arXiv:2106.08265")

    backbone: Backbone = "wide_resnet50_2.tv_in1k"
    weights: Weights = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Layers = (2, 3)
    embedding: EmbeddingKind = "official"
    embed_dim: EmbedDim = 1024
    coreset: Annotated[Sampling, Field(description="how the memory bank is thinned out")] = "approximate"
    coreset_ratio: CoresetRatio = 0.1
    projection_dim: ProjectionDim = 128
    starting_points: Annotated[
        int, Field(ge=1, description="random rows the approximate coreset starts from"), Probe(2, _APPROXIMATE)
    ] = 10
    neighbours: Neighbours = 1
    approximate_search: Annotated[
        bool, Field(description="search with FAISS IVFPQ"), Probe(value=True, given={"coreset": "none", **_OFFICIAL})
    ] = False
    patch_precision: PatchPrecision = "float32"
    smoothing_sigma: SmoothingSigma = 4.0

    memory_savers: ClassVar = ({"coreset_ratio": 0.01}, {"projection_dim": 64}, {"embed_dim": 512})

    memory_: NearestNeighbours = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Collect the patches of all training images and keep a coreset of them."""
        self._lend(runtime)
        patches = self._embedder.matrix(train)
        with runtime.progress.timed("coreset"):
            kept = choose_coreset(
                patches,
                self.coreset_ratio,
                self.coreset,
                projection_dim=self.projection_dim,
                starting_points=self.starting_points,
                rng=np.random.RandomState(runtime.seed),
                device=runtime.device,
            )
        origins = kept // (len(patches) // len(train))
        patches = select(patches, kept)
        self.memory_ = NearestNeighbours(
            patches,
            origins=origins,
            approximate=self.approximate_search,
            device=runtime.device,
            rounded=runtime.scratch is None,
        )
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score patches by their distance to the memory bank."""
        return self.predict_without(images, ())

    def predict_without(self, images: ImageSet, left_out: Sequence[Sequence[int]]) -> Prediction:
        """Score patches by their distance to the patches of the memory bank that are of other images."""
        return score_images(
            self._embedder,
            images,
            self.memory_,
            left_out,
            neighbours=self.neighbours,
            smoothing_sigma=self.smoothing_sigma,
        )

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what fitting and searching will take."""
        shape = patch_shape(self.backbone, self.layers, self.embedding, self.embed_dim, images.size)
        memory = BankMemory(shape, sum(images.train), self.patch_precision, streamed)
        rows = memory.rows
        kept = rows if self.coreset == "none" else coreset_size(self.coreset_ratio, rows)
        phases = {
            f"{rows:,} patches of {shape.dimension:,} values": memory.features(),
            f"memory bank of {kept:,} patches": memory.bank(kept) + memory.bank_bytes(kept) * self.approximate_search,
            f"search in {kept:,} patches": memory.search(kept, images),
        }
        if self.coreset != "none":
            name = f"coreset of {rows:,} patches in {self.projection_dim} dimensions"
            phases[name] = memory.coreset(rows, self.projection_dim, self.coreset_ratio)
        on_device = memory.on_device(
            images,
            kept,
            projected=0 if self.coreset == "none" else self.projection_dim,
            neighbours=self.neighbours,
            approximate=self.approximate_search,
        )
        return MemoryEstimate(phases, memory.stored + memory.bank_bytes(kept) if streamed else 0, on_device)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the memory bank and the seed."""
        save_state(folder, self, {**self.memory_.arrays(), "seed": np.array([self.seed_])})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state.pop("seed").item()))
        method.memory_ = NearestNeighbours.from_arrays(state)
        return method

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


METHOD: type[Method] = PatchCore
