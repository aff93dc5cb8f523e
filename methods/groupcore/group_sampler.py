"""GroupSampler: which training images are of one kind, and which kinds are tail, without labels.

Images are alike if the angle between their embeddings is at most half the largest angle of any two: what TailSampler
(Jung et al., CVPR 2025, arXiv:2504.02775) calls `symmin`. Where it counts the images around each image, here groups are
what such pairs connect, directly or through others (single linkage). An unusual image of a diverse category is far from
most of its category and near to some of it: by its own neighbourhood it counts as rare, by what it is connected to it
does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltbench.blocks.tails.cosine import CosineBlocks, half_angle
from ltbench.errors import SpecError


@dataclass
class GroupSampler:
    """Find groups of images that are alike, and those that are tail, from embeddings alone.

    A zero embedding is a group of its own; equal embeddings are one group.

    Args:
        tail_limit: images that a tail group has at most. TailedCore's tables call a category tail below 20 images.
        block_mib: MiB of float32 similarities held at once. It bounds memory and does not change the result.

    Attributes:
        threshold_: cosine from which on two images are alike.
        labels_: (n,) int64, the group of each image; groups are numbered by their first images.
        group_sizes_: (C,) int64, images in each group.
        tail_indices_: (t,) int64, images in tail groups, ascending.

    Raises:
        SpecError: a hyper-parameter out of range.
    """

    tail_limit: int = 19
    block_mib: float = 256.0

    threshold_: np.float32 = field(init=False, repr=False, compare=False)
    labels_: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    group_sizes_: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    tail_indices_: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tail_limit < 1:
            raise SpecError(f"Expected tail_limit of 1 or more images, got {self.tail_limit}. The default is 19.")
        if not 0 < self.block_mib < math.inf:
            raise SpecError(f"Expected block_mib above 0, got {self.block_mib}. The default is 256.")

    def fit(self, E: ArrayLike) -> Self:
        """Find groups and tails.

        Similarities are exact before they are rounded to float32, so the result does not depend on `block_mib` or the
        number of threads, and a permutation of the images permutes it. It takes O(n^2 d) time and O(n d) memory besides
        the block, and makes two passes over the similarities if they do not fit in one block.

        Args:
            E: (n, d) finite embeddings, one an image, n >= 2, of any length.

        Raises:
            ContractError: embeddings of another shape or type, or NaN or infinity among them.
        """
        blocks = CosineBlocks(E, block_bytes=int(self.block_mib * 2**20))
        self.threshold_ = half_angle(np.float32(min(S.min() for _, S in blocks)))
        self.labels_ = _numbered(_connected(blocks, self.threshold_))
        self.group_sizes_ = np.bincount(self.labels_)
        self.tail_indices_ = np.flatnonzero(self.group_sizes_[self.labels_] <= self.tail_limit)
        return self


def embeddings(means: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return what tells groups apart, (n, sum of C): the spatial means of several levels beside one another.

    Each level is divided by the mean length of its rows, so that all have the same say.

    Args:
        means: (n, C) of each level.
    """
    lengths = [np.linalg.norm(level.astype(np.float64), axis=1).mean() for level in means]
    return np.concatenate([level / (length or 1.0) for level, length in zip(means, lengths, strict=True)], axis=1)


def sampler_bytes(n: int, columns: int, block_mib: float = GroupSampler.block_mib) -> int:
    """Return the bytes that `fit` takes for n embeddings: them twice, a block, a strip of products."""
    return 8 * n * columns + min(4 * n * n, max(4 * n, int(block_mib * 2**20))) + 2**26


def _connected(blocks: CosineBlocks, threshold: np.float32) -> NDArray[np.int64]:
    """Return the smallest image that each image is connected with."""
    labels = np.arange(len(blocks))
    for _, S in blocks:
        for row in S:
            own = labels[threshold <= row]
            lowest = own.min()
            for label in np.unique(own[own != lowest]):
                labels[labels == label] = lowest
    return labels


def _numbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return labels as 0, 1, 2, ... in the order of their first images."""
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[numbers].astype(np.int64)
