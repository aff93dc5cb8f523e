"""A method under test, with the small images that the contract checks try it on."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import Preset
from ltbench.core import Prediction
from ltbench.datasets.annotated import AnnotatedArrayImages
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Method, Runtime

SIDE = 64
"""Side of the check images in pixels: small, and divisible by the stride of the usual backbones."""

PRESETS = ("check", "offline")
"""The preset the checks use: the first of these that the method has. It must run on a CPU without a network."""


@dataclass
class Subject:
    """A method under test, with small images to try it on.

    Args:
        method: the method's class.
        known: its presets by name.
    """

    method: type[Method]
    known: Mapping[str, Preset] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters of the checks' preset."""
        chosen = next((self.known[name] for name in PRESETS if name in self.known), Preset("defaults"))
        return resolve(self.method, chosen.parameters)

    def images(self, count: int, seed: int, *, planted: bool = False, trains: bool = False) -> ArrayImages:
        """Return grainy tiles of two categories in turn; with `planted`, each has a bright square."""
        info = self.method.info
        categories = ["grid", "stripes"] * (count // 2)
        return ArrayImages(
            np.stack([_tile(category, seed + i, planted) for i, category in enumerate(categories)]),
            categories if info.uses_categories or (trains and info.uses_training_categories) else None,
        )

    @cached_property
    def train(self) -> ArrayImages:
        """Twelve good training images."""
        return self.images(12, seed=0, trains=True)

    @cached_property
    def good(self) -> ArrayImages:
        """Four good test images."""
        return self.images(4, seed=100)

    @cached_property
    def defective(self) -> ArrayImages:
        """The same four test images, each with a planted square."""
        return self.images(4, seed=100, planted=True)

    @cached_property
    def seen(self) -> ArrayImages:
        """The first four training images, as test images: what a contaminant in the test set is."""
        categories = self.train._categories if self.method.info.uses_categories else None
        return ArrayImages(self.train.images[:4], None if categories is None else categories[:4])

    @cached_property
    def mixed(self) -> ArrayImages:
        """Two good and two defective test images."""
        mixed = np.concatenate([self.good.images[:2], self.defective.images[2:]])
        return ArrayImages(mixed, self.good._categories)

    def fitted(self, **overrides: Any) -> Method:
        """Return a newly fitted method."""
        return self.method(**(self.parameters | overrides)).fit(self.train, self.runtime(**overrides))

    def runtime(self, **overrides: Any) -> Runtime:
        """Return a runtime that lends what the method declares: annotated tiles, drawn anew for another `auxiliary`."""
        if not self.method.info.uses_annotated_data:
            return Runtime()
        name = str((self.parameters | overrides).get("auxiliary", ""))
        seed = 1000 + zlib.crc32(name.encode()) % 1000
        tiles = [self.images(8, seed, planted=planted).images for planted in (False, True)]
        masks = np.zeros((16, SIDE, SIDE), np.bool_)
        masks[8:, 24:40, 24:40] = True
        return Runtime(auxiliary=AnnotatedArrayImages(np.concatenate(tiles), masks, name))

    @cached_property
    def reference(self) -> Method:
        """A fitted method; checks only predict with it."""
        return self.fitted()

    @cached_property
    def expected(self) -> Prediction:
        """What the reference says of the defective images."""
        return self.reference.predict(self.defective)


class Lending(ArrayImages):
    """Images that are lent without a copy, so that a write into one can be seen."""

    def __init__(self, images: ArrayImages) -> None:
        super().__init__(images.images.copy(), images._categories)
        self._before = self.images.copy()

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self.images[index]
        return image

    def modified(self) -> bool:
        """Return whether any image was written into."""
        return not np.array_equal(self.images, self._before)


def _tile(category: str, seed: int, planted: bool) -> NDArray[np.uint8]:
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[:SIDE, :SIDE] + rng.randint(0, 8, (2, 1, 1))
    wave = np.sin(x / 2.5) + (np.sin(y / 2.5) if category == "grid" else 0)
    image = 110 + 22 * wave[..., None] * np.array([1.0, 0.8, 0.6]) + rng.normal(0, 4, (SIDE, SIDE, 3))
    if planted:
        image[24:40, 24:40] = (250, 240, 60)
    clipped: NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return clipped


def select(images: ArrayImages, order: list[int]) -> ArrayImages:
    """Return the images at the given indices, in that order."""
    categories = None if images._categories is None else [images._categories[i] for i in order]
    return ArrayImages(images.images[order], categories)
