"""Flipped and rotated views of images, as TailedCore (arXiv 2504.02775) makes them of its tail images.

"rotflip" turns the image as the network sees it by quarters of a circle. "rot15flip" and "rot30flip" turn it by
multiples of 15 or 30 degrees: the resized image before it is cropped, its border pixels repeated outwards so far that
the crop shows no corner, whatever the angle. Each kind has every angle with and without a horizontal flip, which comes
before the rotation. Source: the configurations of the authors' code (`tail_data_augment_type`) and what it makes of
them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltbench.cores import usable_cores
from ltbench.errors import SpecError
from ltbench.method import ImageSet

Augmentation = Literal["none", "rotflip", "rot30flip", "rot15flip"]
Pixels = NDArray[np.uint8]

_STEPS: dict[Augmentation, int] = {"none": 360, "rotflip": 90, "rot30flip": 30, "rot15flip": 15}  # degrees


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at an image: flipped or not, then rotated counter-clockwise by `angle` degrees."""

    angle: int
    flipped: bool

    @property
    def is_identity(self) -> bool:
        """Whether it is the image itself."""
        return not self.angle and not self.flipped


def views_of(augmentation: Augmentation) -> tuple[View, ...]:
    """Return the views of an augmentation, the image itself first: 1, 8, 24 or 48 of them."""
    flips = (False,) if augmentation == "none" else (False, True)
    return tuple(View(angle, flipped) for angle in range(0, 360, _STEPS[augmentation]) for flipped in flips)


def turned(image: Pixels, view: View) -> Pixels:
    """Return a square image flipped and rotated by quarters of a circle.

    Args:
        image: (H, H, 3).
        view: its angle is a multiple of 90.

    Raises:
        SpecError: the image is not square.
    """
    if image.shape[0] != image.shape[1]:
        raise SpecError(
            f"Expected square images for quarter turns, got {image.shape[:2]} pixels. "
            "Choose a protocol that crops, or another augmentation."
        )
    flipped = image[:, ::-1] if view.flipped else image
    return np.ascontiguousarray(np.rot90(flipped, view.angle // 90))


def turned_and_cropped(image: Pixels, view: View, size: tuple[int, int]) -> Pixels:
    """Return the centre of an image that was flipped, padded and rotated by any angle.

    The padding repeats the outermost pixels, as many of them as `border` says. The rotation takes the nearest pixel and
    keeps the size. At angle 0 the image is only flipped and cropped.

    Args:
        image: (H', W', 3), not cropped.
        view: flip and angle.
        size: (height, width) of the crop, at most that of the image.
    """
    flipped = image[:, ::-1] if view.flipped else image
    if view.angle == 0:
        return _centre(flipped, size)
    width = border(size)
    padded = np.pad(flipped, ((width, width), (width, width), (0, 0)), mode="edge")
    rotated = Image.fromarray(padded).rotate(view.angle, Image.Resampling.NEAREST)
    return _centre(np.asarray(rotated), size)


def border(size: tuple[int, int]) -> int:
    """Return by how many pixels to pad an image on each side so that no rotation turns a corner into its crop.

    The authors' ceil((diagonal - side) / 2), 47 of 224 pixels; of a crop that is not square, the shorter side.

    Args:
        size: (height, width) of the crop.
    """
    return math.ceil((math.hypot(*size) - min(size)) / 2)


class AugmentedImages:
    """The chosen images and all their views as an `ImageSet`, view by view within image by image.

    Few images at a time are in memory; each is decoded once for all its views when they are asked for about in order.

    Args:
        images: where the images are.
        chosen: indices of those to look at.
        augmentation: which views to take of each.
    """

    def __init__(self, images: ImageSet, chosen: Sequence[int], augmentation: Augmentation) -> None:
        self.views = views_of(augmentation)
        self._images = images
        self._chosen = list(chosen)
        self._by_quarters = augmentation == "rotflip"
        self._decoded: dict[int, Pixels] = {}
        self._guard = threading.Lock()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of every view."""
        return self._images.size

    def __len__(self) -> int:
        return len(self._chosen) * len(self.views)

    def __getitem__(self, index: int, /) -> Pixels:
        image, view = self._place(index)
        if view.is_identity:
            return self._images[image]
        pixels = self._pixels(image)
        return turned(pixels, view) if self._by_quarters else turned_and_cropped(pixels, view, self.size)

    def __iter__(self) -> Iterator[Pixels]:
        return (self[index] for index in range(len(self)))

    def uncropped(self, index: int, /) -> Pixels:
        """Return one view: there is nothing left to crop."""
        return self[index]

    @cached_property
    def fingerprints(self) -> Sequence[str]:
        """The image's fingerprint and what was done to it; of the image itself its own, so that caches know it."""
        kind = "crop" if self._by_quarters else "pad"
        originals = self._images.fingerprints
        places = (self._place(index) for index in range(len(self)))
        return [
            originals[image] if view.is_identity else f"{originals[image]}-{kind}{view.angle}{'f' * view.flipped}"
            for image, view in places
        ]

    @property
    def categories(self) -> Sequence[str]:
        """The category of each view's image, if the method may know it."""
        categories = self._images.categories
        return [categories[self._place(index)[0]] for index in range(len(self))]

    def _pixels(self, image: int) -> Pixels:
        """Return an image that is to be turned; the last ones are kept, one more than threads ask at once."""
        with self._guard:
            if image not in self._decoded:
                if len(self._decoded) > usable_cores():
                    del self._decoded[next(iter(self._decoded))]
                self._decoded[image] = self._images[image] if self._by_quarters else self._images.uncropped(image)
            return self._decoded[image]

    def _place(self, index: int) -> tuple[int, View]:
        """Return the image behind a view, and the view."""
        image, view = divmod(index, len(self.views))
        return self._chosen[image], self.views[view]


def _centre(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Return the centre of an image, where torchvision's CenterCrop puts it."""
    top, left = (round((whole - part) / 2.0) for whole, part in zip(image.shape[:2], size, strict=True))
    return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])
