"""TailedCore (arXiv 2504.02775) told which images are tail, to see what is lost by having to guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.blocks.memory_bank.rows import Rows
from ltbench.method import ImageSet, Method, MethodInfo, Probe, Runtime

from .two_memories import TwoMemories


@dataclass
class TailedCoreOracle(TwoMemories):
    """TailedCore whose tail memory holds the images of categories that truly have few."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "tailedcore_oracle", "TailedCore, true tails", paper="arXiv:2504.02775", uses_categories=True
    )

    max_tail_size: Annotated[
        int, Field(ge=0, description="training images that a tail category has at most"), Probe(5)
    ] = 19

    def observe(self, train: ImageSet, runtime: Runtime) -> tuple[Rows, NDArray[np.int64]]:
        """Return the patches of all training images, and the images of small categories."""
        sizes = Counter(train.categories)
        kappa = np.array([sizes[category] for category in train.categories])
        tails = np.flatnonzero(kappa <= self.max_tail_size).astype(np.int64)
        runtime.notes["tails"] = {
            "indices": tails.tolist(),
            "max_tail_size": self.max_tail_size,
            "class_sizes": sorted(sizes.values(), reverse=True),
            "kappa": kappa.tolist(),
        }
        return self._embedder.matrix(train), tails

    def expected_tails(self, sizes: Sequence[int]) -> int:
        """Return the images of small categories."""
        return sum(size for size in sizes if size <= self.max_tail_size)


METHOD: type[Method] = TailedCoreOracle
