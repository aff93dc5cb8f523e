"""A few training images of each category, as references that test images are compared with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ltbench.method import ImageSet


class Chosen:
    """Some images of a set, one perhaps twice."""

    def __init__(self, images: ImageSet, places: list[int]) -> None:
        self._images, self._places = images, places

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._images.size

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        return self._images[self._places[index]]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[index] for index in range(len(self)))

    def uncropped(self, index: int, /) -> NDArray[np.uint8]:
        """Return one image, not cropped."""
        return self._images.uncropped(self._places[index])

    @property
    def fingerprints(self) -> list[str]:
        """The key of each image."""
        keys = self._images.fingerprints
        return [keys[place] for place in self._places]

    @property
    def categories(self) -> list[str]:
        """The category of each image."""
        named = self._images.categories
        return [named[place] for place in self._places]


def references(train: ImageSet, count: int, seed: int, *, replacement: bool) -> dict[str, Chosen]:
    """Return the references of each category, contaminants among them; the categories by name.

    A category's depend on the seed, its name and its images alone.

    Args:
        train: the training images, with their categories.
        count: references of a category; without replacement no more than it has.
        seed: seed of the run.
        replacement: whether one image can be drawn twice.
    """
    named, found = list(train.categories), {}
    for category in sorted(set(named)):
        places = [index for index, own in enumerate(named) if own == category]
        rng = np.random.default_rng([seed, *category.encode()])
        drawn = rng.choice(places, count if replacement else min(count, len(places)), replace=replacement)
        found[category] = Chosen(train, [int(place) for place in drawn])
    return found
