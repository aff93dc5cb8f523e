"""How odd each image of a group is beside the others: what a memory bank of the others makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.rows import Rows, in_memory, select, windows


@dataclass(frozen=True)
class Scale:
    """The patches of all training images at one scale.

    Args:
        patches: (N * positions, D), image by image.
        images: N.
    """

    patches: Rows
    images: int

    @property
    def positions(self) -> int:
        """Patches of an image."""
        return len(self.patches) // self.images

    @cached_property
    def variance(self) -> float:
        """Mean squared distance of the patches to their mean; 1 where all are equal."""
        count, dimension = self.patches.shape
        total, squares = np.zeros(dimension), np.zeros(dimension)
        for _, rows in windows(self.patches):
            wide = rows.astype(np.float64)
            total += wide.sum(axis=0)
            squares += (wide * wide).sum(axis=0)
        return float((squares / count - (total / count) ** 2).sum()) or 1.0


def deal(count: int, folds: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """Return the fold of each of `count` images: as many in each as can be, dealt at random; none is empty."""
    fold = np.empty(count, np.int64)
    fold[rng.permutation(count)] = np.arange(count) % min(folds, count)
    return fold


def held_out_scores(
    scale: Scale,
    images: NDArray[np.int64],
    fold: NDArray[np.int64],
    references: int,
    rng: np.random.RandomState,
    device: str = "cpu",
) -> NDArray[np.float32]:
    """Return, of each image, its highest patch's squared distance to patches of images of other folds.

    As in cross-validation, the images of one fold are searched for in a memory bank of the other folds', which has as
    many patches of each of them, drawn at random. A defect is far from it unless images of several folds have the same.

    Args:
        scale: patches of all images.
        images: (n,) which images form the group, n >= 2.
        fold: (n,) of `deal`, two folds at least.
        references: patches of the whole group that memory banks are made of, about; at least one an image.
        rng: draws the patches of each image.
        device: where to search.
    """
    positions = scale.positions
    each = min(positions, max(1, references // len(images)))
    drawn = np.stack([image * positions + np.sort(rng.permutation(positions)[:each]) for image in images])
    scores = np.empty(len(images), np.float32)
    for number in range(fold.max() + 1):
        memory = NearestNeighbours(select(scale.patches, drawn[fold != number].ravel()), device=device)
        members = np.flatnonzero(fold == number)
        found = memory.search_each(_each_image(scale.patches, positions, images[members]))
        scores[members] = [distances.max() for distances, _ in found]
    return scores


def oddest(scores: NDArray[np.floating], share: float) -> NDArray[np.int64]:
    """Return the indices of the highest scores, floor(share * n) of them, ascending; of equal ones the first."""
    return np.sort(np.argsort(-scores, kind="stable")[: int(share * len(scores))])


def _each_image(patches: Rows, positions: int, images: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for image in images:
        yield in_memory(select(patches, np.arange(image * positions, (image + 1) * positions)))
