"""GroupCore: PatchCore for training sets of several categories, some rare, with defects among the images of others.

Training images are put into groups that are alike. Of a large group, the images that are oddest beside the rest of it
stay out of the memory bank; of a small one, all patches of all views go in. Each group has a coreset of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.blocks.features.augmentation import Augmentation, AugmentedImages
from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers, SmoothingSigma, Weights
from ltbench.blocks.memory_bank.bank import PatchEmbedder, score_images
from ltbench.blocks.memory_bank.denoising import denoised_coreset
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.rows import Rows, select
from ltbench.blocks.memory_bank.settings import CoresetRatio, EmbedDim, EmbeddingKind, PatchPrecision, ProjectionDim
from ltbench.blocks.memory_bank.streamed_coreset import streamed_coreset
from ltbench.blocks.state import load_state, save_state
from ltbench.core import Prediction
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .estimate import estimated
from .group_sampler import GroupSampler, embeddings
from .odd_images import Scale, deal, held_out_scores, oddest

Bank = tuple[NDArray[np.int64], Rows]
"""The image of each patch, and the patches."""

_LARGE = {"tail_limit": 5}  # the contract's images are two groups of six
_ODD = {**_LARGE, "odd_share": 0.4}


@dataclass
class GroupCore:
    """Memory banks of two scales from groups of images that are alike; a patch scores by its nearest neighbours."""

    info: ClassVar[MethodInfo] = MethodInfo("groupcore", "GroupCore")

    backbone: Backbone = "wide_resnet50_2.tv_in1k"
    weights: Weights = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Layers = (2, 3)
    embedding: EmbeddingKind = "official"
    embed_dim: EmbedDim = 1024
    deep_layers: Annotated[
        tuple[int, ...], Field(min_length=1, description="feature levels of the second, deeper scale"), Probe((3,))
    ] = (4,)
    deep_weight: Annotated[
        float, Field(ge=0, description="what the deeper scale counts beside the first; 0 leaves it out")
    ] = 0.25
    group_layers: Annotated[
        tuple[int, ...],
        Field(min_length=1, description="feature levels whose spatial means tell groups apart"),
        Probe((0,)),
    ] = (2, 3, 4)
    tail_limit: Annotated[int, Field(ge=1, description="images that a tail group has at most"), Probe(5)] = 19
    odd_share: Annotated[
        float,
        Field(ge=0, lt=1, description="share of a large group's images that stays out of the memory bank"),
        Probe(0.5, _LARGE),
    ] = 0.15
    folds: Annotated[int, Field(ge=2, description="parts of a group that are scored by the others"), Probe(2, _ODD)] = 5
    references: Annotated[
        int, Field(ge=1, description="patches of a group that its images are compared with"), Probe(1, _ODD)
    ] = 8192
    augmentation: Annotated[Augmentation, Field(description="views of tail images in the memory bank")] = "rotflip"
    coreset_ratio: Annotated[
        CoresetRatio, Field(description="share of a large group's patches that is kept"), Probe(0.5, _LARGE)
    ] = 0.06
    tail_coreset_ratio: Annotated[CoresetRatio, Field(description="share of a tail group's patches that is kept")] = (
        0.16
    )
    projection_dim: ProjectionDim = 128
    patch_precision: PatchPrecision = "float32"
    smoothing_sigma: SmoothingSigma = 4.0

    memory_savers: ClassVar = ({"projection_dim": 64}, {"coreset_ratio": 0.01, "tail_coreset_ratio": 0.05})

    memories_: list[NearestNeighbours] = field(init=False, repr=False)
    weights_: NDArray[np.float64] = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Group the images and keep coresets; notes say which images are tail, which were odd, and what is kept.

        Random numbers are drawn from one generator, large groups first, each group by its first image: what is drawn
        for odd images, then the projection and the start of each coreset, the deep one last.
        """
        self._lend(runtime)
        rng = np.random.RandomState(runtime.seed)
        first, means = self._embedders[0].matrix_and_means(train)
        scales = [Scale(first, len(train)), *(Scale(other.matrix(train), len(train)) for other in self._embedders[1:])]
        del first
        self.weights_ = np.array([weight / scale.variance for weight, scale in zip(self._shares, scales, strict=True)])
        with runtime.progress.timed("groups"):
            sampler = GroupSampler(self.tail_limit).fit(embeddings(means))
        groups = [np.flatnonzero(sampler.labels_ == group) for group in range(len(sampler.group_sizes_))]
        banks: list[list[Bank]] = []
        odd: list[int] = []
        for images in (images for images in groups if len(images) > self.tail_limit):
            out = self._odd(scales, images, rng, runtime)
            odd += out.tolist()
            banks.append([self._bank(scale, np.setdiff1d(images, out), rng, runtime) for scale in scales])
        positions = [scale.positions for scale in scales]
        del scales  # the largest arrays of all; tail groups do without
        banks += [
            self._tail_banks(train, images, positions, rng) for images in groups if len(images) <= self.tail_limit
        ]
        self._note(runtime, sampler, odd, banks)
        self.memories_ = [
            NearestNeighbours(
                *(rows for _, rows in parts),
                origins=np.concatenate([images for images, _ in parts]),
                device=runtime.device,
            )
            for parts in zip(*banks, strict=True)
        ]
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score patches by the squared distance to the nearest patch of any group, scale by scale."""
        return self.predict_without(images, ())

    def predict_without(self, images: ImageSet, left_out: Sequence[Sequence[int]]) -> Prediction:
        """Score patches by the nearest patch that is of no image left out, nor of a view of one."""
        scores = np.zeros(len(images), np.float32)
        maps = np.zeros((len(images), *images.size), np.float32)
        for embedder, memory, weight in zip(self._embedders, self.memories_, self.weights_, strict=True):
            found = score_images(embedder, images, memory, left_out, smoothing_sigma=self.smoothing_sigma)
            scores += np.float32(weight) * found.scores
            maps += np.float32(weight) * found.maps
        return Prediction(scores, maps)

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what fitting and searching will take, with categories for groups; the deep scale is held beside."""
        return estimated(self, self._layers, images, streamed=streamed)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the memory banks, their weights and the seed."""
        arrays = {"seed": np.array([self.seed_]), "weights": self.weights_}
        for number, memory in enumerate(self.memories_):
            arrays |= {f"{name}.{number}": array for name, array in memory.arrays().items()}
        save_state(folder, self, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state.pop("seed").item()))
        method.weights_ = state.pop("weights")
        method.memories_ = [
            NearestNeighbours.from_arrays(
                {name.rpartition(".")[0]: array for name, array in state.items() if name.endswith(f".{number}")}
            )
            for number in range(len(method.weights_))
        ]
        return method

    @property
    def _layers(self) -> tuple[tuple[int, ...], ...]:
        """The feature levels of each scale."""
        return (self.layers, self.deep_layers) if self.deep_weight else (self.layers,)

    @property
    def _shares(self) -> tuple[float, ...]:
        """What each scale counts, by the variance of its patches."""
        return (1.0, self.deep_weight) if self.deep_weight else (1.0,)

    def _lend(self, runtime: Runtime) -> None:
        self.seed_ = runtime.seed
        self._embedders = [
            PatchEmbedder(
                self.backbone,
                layers,
                self.weights,
                self.embedding,
                self.embed_dim,
                runtime=runtime,
                mean_layers=self.group_layers if layers == self.layers else (),
                precision=self.patch_precision,
                backbone_precision=self.backbone_precision,
            )
            for layers in self._layers
        ]

    def _odd(
        self, scales: Sequence[Scale], images: NDArray[np.int64], rng: np.random.RandomState, runtime: Runtime
    ) -> NDArray[np.int64]:
        """Return the images of a large group that stay out of its memory bank."""
        if int(self.odd_share * len(images)) == 0:
            return images[:0]
        with runtime.progress.timed("odd images"):
            fold = deal(len(images), self.folds, rng)
            scores = np.zeros(len(images))
            for scale, weight in zip(scales, self.weights_, strict=True):
                found = held_out_scores(scale, images, fold, self.references, rng, runtime.device)
                scores += weight * found
        return images[oddest(scores, self.odd_share)]

    def _bank(self, scale: Scale, images: NDArray[np.int64], rng: np.random.RandomState, runtime: Runtime) -> Bank:
        """Return a coreset of the patches of a large group's images."""
        keep = np.zeros((len(scale.patches) // scale.positions, scale.positions), np.bool_)
        keep[images] = True
        with runtime.progress.timed("coreset"):
            rows = denoised_coreset(
                scale.patches,
                keep.ravel(),
                self.coreset_ratio,
                projection_dim=self.projection_dim,
                rng=rng,
                device=runtime.device,
            )
        return rows // scale.positions, select(scale.patches, rows)

    def _tail_banks(
        self, train: ImageSet, images: NDArray[np.int64], positions: Sequence[int], rng: np.random.RandomState
    ) -> list[Bank]:
        """Return coresets, one a scale, of the patches of all views of a tail group's images."""
        views = AugmentedImages(train, images.tolist(), self.augmentation)
        banks = []
        for embedder, count in zip(self._embedders, positions, strict=True):
            rows, bank = streamed_coreset(
                embedder, views, self.tail_coreset_ratio, projection_dim=self.projection_dim, rng=rng
            )
            banks.append((images[rows // (count * len(views.views))], bank))
        return banks

    def _note(self, runtime: Runtime, sampler: GroupSampler, odd: list[int], banks: list[list[Bank]]) -> None:
        count = len(sampler.labels_)
        runtime.notes["tails"] = {
            "indices": sampler.tail_indices_.tolist(),
            "max_tail_size": self.tail_limit,
            "class_sizes": np.sort(sampler.group_sizes_)[::-1].tolist(),
            "kappa": sampler.group_sizes_[sampler.labels_].tolist(),
        }
        runtime.notes["odd_images"] = sorted(odd)
        runtime.notes["memories"] = {
            name: {"patches": len(origins), "by_image": np.bincount(origins, minlength=count).tolist()}
            for name, parts in zip(("fine", "deep"), zip(*banks, strict=True), strict=False)
            for origins in [np.concatenate([images for images, _ in parts])]
        }


METHOD: type[Method] = GroupCore
