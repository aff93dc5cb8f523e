"""TailedCore's two memory banks (arXiv 2504.02775): one without outliers, one of the tail images with nothing left out.

Leaving out outlying patches keeps defects out of a memory bank, and rare categories with them. A second memory bank
gives these back: all patches of the images that are tail, and of flipped and rotated views of them. Which images are
tail is for each method that builds on this to say.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.blocks.device_memory import FLOAT
from ltbench.blocks.features.augmentation import Augmentation, AugmentedImages, views_of
from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers, SmoothingSigma, Weights
from ltbench.blocks.memory_bank.bank import PatchEmbedder, score_images
from ltbench.blocks.memory_bank.coreset import coreset_size
from ltbench.blocks.memory_bank.denoising import denoised_coreset, inliers, patch_weights
from ltbench.blocks.memory_bank.estimate import BankMemory, patch_shape
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.rows import Rows, select
from ltbench.blocks.memory_bank.settings import (
    CoresetRatio,
    EmbedDim,
    EmbeddingKind,
    LofK,
    OutlierShare,
    PatchPrecision,
    ProjectionDim,
    WeightDim,
)
from ltbench.blocks.memory_bank.streamed_coreset import streamed_coreset
from ltbench.blocks.state import load_state, save_state
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, MethodInfo, Runtime


@dataclass
class TwoMemories(ABC):
    """A method with a clean and a tail memory; a subclass adds `info` and `observe`, and hyper-parameters for it."""

    info: ClassVar[MethodInfo]

    backbone: Backbone = "wide_resnet50_2.tv_in1k"
    weights: Weights = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Layers = (2, 3)
    embedding: EmbeddingKind = "official"
    embed_dim: EmbedDim = 1024
    memories: Annotated[
        Literal["both", "clean", "tail"], Field(description="which memories are searched; one alone is an ablation")
    ] = "both"
    augmentation: Annotated[Augmentation, Field(description="views of tail images that the tail memory sees")] = (
        "rotflip"
    )
    lof_k: LofK = 6
    weight_dim: Annotated[WeightDim, Field(description="dimensions in which outliers are told")] = 128
    outlier_share: Annotated[OutlierShare, Field(description="share of patches kept out of the clean memory")] = 0.15
    coreset_ratio: Annotated[CoresetRatio, Field(description="share of the patches each memory keeps")] = 0.1
    projection_dim: ProjectionDim = 128
    patch_precision: PatchPrecision = "float32"
    smoothing_sigma: SmoothingSigma = 4.0

    memory_savers: ClassVar = (
        {"augmentation": "rot30flip"},
        {"augmentation": "rotflip"},
        {"projection_dim": 64},
        {"coreset_ratio": 0.01},
    )

    memory_: NearestNeighbours = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    @abstractmethod
    def observe(self, train: ImageSet, runtime: Runtime) -> tuple[Rows, NDArray[np.int64]]:
        """Return the patches of all training images (`PatchEmbedder.matrix`), and the indices of those that are tail.

        Facts about the choice go to `runtime.notes["tails"]`.
        """

    @abstractmethod
    def expected_tails(self, sizes: Sequence[int]) -> int:
        """Return how many images to expect to be tail, at most, where categories have these sizes."""

    @property
    def mean_layers(self) -> tuple[int, ...]:
        """The deeper levels that `observe` needs, if any."""
        return ()

    def observing_bytes(self, images: ImageCounts) -> int:
        """Return what `observe` takes beside the patches and the network."""
        return 0

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Build both memories; `runtime.notes["memories"]` then says how many patches each has of each image.

        Random numbers are drawn from one generator: the projection in which outliers are told, the projection and the
        start of the clean coreset, the projection and the start of the tail coreset.
        """
        self._lend(runtime)
        rng = np.random.RandomState(runtime.seed)
        patches, tails = self.observe(train, runtime)
        positions = len(patches) // len(train)
        self._check_tails(len(tails), train, runtime)
        banks: dict[str, tuple[NDArray[np.int64], Rows]] = {}
        if self.memories != "tail":
            banks["clean"] = self._clean_bank(patches, positions, rng, runtime)
        del patches  # the largest array of all; the tail memory does without
        if self.memories != "clean" and len(tails):
            banks["tail"] = self._tail_bank(train, tails, positions, rng)
        if not banks:
            raise SpecError("Expected tail images for a memory of them alone, got none. Set memories=both.")
        runtime.notes["memories"] = {name: _counts(images, len(train)) for name, (images, _) in banks.items()}
        found = [banks[name] for name in ("tail", "clean") if name in banks]
        self.memory_ = NearestNeighbours(
            *(rows for _, rows in found),
            origins=np.concatenate([images for images, _ in found]),
            device=runtime.device,
            rounded=runtime.scratch is None,
        )
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score patches by the squared distance to the nearest patch of either memory."""
        return self.predict_without(images, ())

    def predict_without(self, images: ImageSet, left_out: Sequence[Sequence[int]]) -> Prediction:
        """Score patches by the nearest patch of either memory that is of no image left out, nor of a view of one."""
        return score_images(self._embedder, images, self.memory_, left_out, smoothing_sigma=self.smoothing_sigma)

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what fitting and searching will take, with as many tail images as `expected_tails` says."""
        memory = self._memory(sum(images.train), images.size, streamed)
        shape, rows = memory.shape, memory.rows
        clean = math.ceil(rows * (1 - self.outlier_share)) if self.memories != "tail" else 0
        tails = min(self.expected_tails(images.train), sum(images.train)) if self.memories != "clean" else 0
        tail = tails * len(views_of(self.augmentation)) * shape.positions
        kept_clean, kept_tail = (coreset_size(self.coreset_ratio, part) if part else 0 for part in (clean, tail))
        kept = kept_clean + kept_tail
        phases = {f"{rows:,} patches of {shape.dimension:,} values": memory.features() + self.observing_bytes(images)}
        if clean:
            phases[f"weights of {rows:,} patches"] = memory.weights(self.weight_dim, "lof")
            name = f"coreset of {clean:,} patches in {self.projection_dim} dimensions"
            phases[name] = memory.coreset(clean, self.projection_dim, self.coreset_ratio)
        if tail:
            name = f"coreset of {tail:,} patches of {tails} tail images in {self.projection_dim} dimensions"
            phases[name] = self._tail_memory(memory, tails)
        phases[f"memory bank of {kept:,} patches"] = memory.bank(kept, copied=kept_clean)
        phases[f"search in {kept:,} patches"] = memory.search(kept, images)
        disk = memory.stored + rows * self.weight_dim * FLOAT + memory.bank_bytes(kept)
        on_device = memory.on_device(images, kept, projected=max(self.weight_dim, self.projection_dim))
        return MemoryEstimate(phases, disk if streamed else 0, on_device)

    def _memory(self, images: int, size: tuple[int, int], streamed: bool) -> BankMemory:
        shape = patch_shape(self.backbone, self.layers, self.embedding, self.embed_dim, size, self.mean_layers)
        return BankMemory(shape, images, self.patch_precision, streamed)

    def _tail_memory(self, memory: BankMemory, tails: int) -> int:
        """Return the peak bytes while the tail coreset is chosen; the training images' patches are released by then."""
        rows = tails * len(views_of(self.augmentation)) * memory.shape.positions
        alone = replace(memory, images=0).coreset(rows, self.projection_dim, self.coreset_ratio)
        clean = 0 if memory.streamed else memory.bank_bytes(coreset_size(self.coreset_ratio, memory.rows))
        own = 0 if memory.streamed else memory.bank_bytes(coreset_size(self.coreset_ratio, rows))
        return clean + max(alone, own + memory.shape.network)

    def _check_tails(self, tails: int, train: ImageSet, runtime: Runtime) -> None:
        """Raise unless a tail memory of so many images fits; the estimate before the run could not know how many."""
        if runtime.memory_limit is None or self.memories == "clean" or not tails:
            return
        needed = self._tail_memory(self._memory(len(train), train.size, runtime.scratch is not None), tails)
        if needed > runtime.memory_limit:
            raise SpecError(
                f"Expected the views of the tail images to fit in {runtime.memory_limit / 2**30:.1f} GiB, got "
                f"{needed / 2**30:.1f} GiB for {tails} images. Raise --memory-limit, or set another augmentation."
            )

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the memories and the seed."""
        save_state(folder, self, {**self.memory_.arrays(), "seed": np.array([self.seed_])})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state.pop("seed").item()))
        method.memory_ = NearestNeighbours.from_arrays(state)
        return method

    def embedder(self, runtime: Runtime, mean_layers: Sequence[int] = ()) -> PatchEmbedder:
        """Return what makes patches, with the spatial means of deeper levels if some are named."""
        return PatchEmbedder(
            self.backbone,
            self.layers,
            self.weights,
            self.embedding,
            self.embed_dim,
            runtime=runtime,
            mean_layers=mean_layers,
            precision=self.patch_precision,
            backbone_precision=self.backbone_precision,
        )

    def _lend(self, runtime: Runtime) -> None:
        self.seed_ = runtime.seed
        self._embedder = self.embedder(runtime)

    def _clean_bank(
        self, patches: Rows, positions: int, rng: np.random.RandomState, runtime: Runtime
    ) -> tuple[NDArray[np.int64], Rows]:
        """Return the image of each patch of the clean memory, and the patches."""
        with runtime.progress.timed("weights"):
            weights = patch_weights(
                patches,
                positions,
                rng=rng,
                lof_k=self.lof_k,
                projection_dim=self.weight_dim,
                folder=runtime.scratch,
                device=runtime.device,
            )
        with runtime.progress.timed("coreset"):
            keep = inliers(weights, self.outlier_share)
            rows = denoised_coreset(
                patches,
                keep,
                self.coreset_ratio,
                projection_dim=self.projection_dim,
                rng=rng,
                device=runtime.device,
            )
        return rows // positions, select(patches, rows)

    def _tail_bank(
        self, train: ImageSet, tails: NDArray[np.int64], positions: int, rng: np.random.RandomState
    ) -> tuple[NDArray[np.int64], Rows]:
        """Return the image of each patch of the tail memory, and the patches."""
        images = AugmentedImages(train, tails.tolist(), self.augmentation)
        rows, bank = streamed_coreset(
            self._embedder, images, self.coreset_ratio, projection_dim=self.projection_dim, rng=rng
        )
        return tails[rows // (positions * len(images.views))], bank


def _counts(images: NDArray[np.int64], count: int) -> dict[str, Any]:
    """Return, as plain values, how many patches a memory has in all and of each training image."""
    return {"patches": len(images), "by_image": np.bincount(images, minlength=count).tolist()}
