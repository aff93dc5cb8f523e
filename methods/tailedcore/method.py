"""TailedCore (Jung et al., CVPR 2025, arXiv 2504.02775), as the authors' released program computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.blocks.features.pyramids import map_shapes
from ltbench.blocks.memory_bank.rows import Rows
from ltbench.method import ImageCounts, ImageSet, Method, MethodInfo, Probe, Runtime

from .tail_sampler import TailSampler, Threshold, Vote, VoteDirection, sampler_bytes
from .two_memories import TwoMemories

EXPECTED_SHARE = 2
"""Images that may be predicted tail for each that is, when memory is estimated."""

_SHALLOW = {"sampler_layer": 0}  # where the two categories of the contract's images are not told apart so well


@dataclass
class TailedCore(TwoMemories):
    """A memory bank without outliers, and one of the images that TailSampler takes to be of rare categories."""

    info: ClassVar[MethodInfo] = MethodInfo("tailedcore", "TailedCore", paper="arXiv:2504.02775")

    sampler_layer: Annotated[
        int,
        Field(ge=0, description="feature level whose spatial mean TailSampler compares"),
        Probe(0, {"threshold": "half_min"}),
    ] = 4
    p: Annotated[
        float,
        Field(gt=0, le=1, description="share of an image's half-angle region that is kept"),
        Probe(0.5, {**_SHALLOW, "quantize": False}),
    ] = 0.85
    vote_direction: Annotated[
        VoteDirection,
        Field(description="who votes on the size of an image's category"),
        Probe("forward", {**_SHALLOW, "quantize": False}),
    ] = "reverse"
    quantize: Annotated[
        bool, Field(description="floor similarities to multiples of 1/n"), Probe(value=False, given=_SHALLOW)
    ] = True
    cap: Annotated[
        float,
        Field(ge=0, le=1, description="share of the images that may be tail; 1 is no limit"),
        Probe(0.5, {**_SHALLOW, "threshold": "half_min"}),
    ] = 0.15
    threshold: Annotated[
        Threshold, Field(description="how similar a neighbour has to be"), Probe("half_min", _SHALLOW)
    ] = "trim_min"
    vote: Annotated[
        Vote, Field(description="how votes are joined"), Probe("mean", {**_SHALLOW, "threshold": "half_min"})
    ] = "mode"

    def observe(self, train: ImageSet, runtime: Runtime) -> tuple[Rows, NDArray[np.int64]]:
        """Return the patches of all training images, and the images that TailSampler takes to be tail."""
        patches, (embeddings,) = self.embedder(runtime, self.mean_layers).matrix_and_means(train)
        with runtime.progress.timed("tail sampler"):
            sampler = TailSampler(
                p=self.p,
                vote_direction=self.vote_direction,
                quantize=self.quantize,
                cap=self.cap,
                threshold=self.threshold,
                vote=self.vote,
            ).fit(embeddings)
        runtime.notes["tails"] = {
            "indices": sampler.tail_indices_.tolist(),
            "max_tail_size": sampler.max_tail_size_,
            "elbow_size": sampler.elbow_size_,
            "cap_size": sampler.cap_size_,
            "class_sizes": sampler.class_sizes_.tolist(),
            "kappa": [int(size) if size.is_integer() else size for size in sampler.kappa_.tolist()],
        }
        return patches, sampler.tail_indices_

    def expected_tails(self, sizes: Sequence[int]) -> int:
        """Return twice the tail images that true sizes give: on the authors' splits at most 1.9 times are predicted."""
        kappa = np.repeat(sizes, sizes)
        return EXPECTED_SHARE * len(TailSampler(cap=self.cap).fit_sizes(kappa).tail_indices_)

    @property
    def mean_layers(self) -> tuple[int, ...]:
        """The level that TailSampler looks at."""
        return (self.sampler_layer,)

    def observing_bytes(self, images: ImageCounts) -> int:
        """Return what TailSampler takes."""
        (channels, _, _), *_ = map_shapes(self.backbone, (self.sampler_layer,), images.size).maps
        return sampler_bytes(sum(images.train), channels, TailSampler.block_mib)


METHOD: type[Method] = TailedCore
