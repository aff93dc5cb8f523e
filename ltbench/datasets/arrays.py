"""Images held in memory as an `ImageSet`, for notebooks, tests and the contract checks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import ContractError, SpecError


class ArrayImages:
    """An `ImageSet` over an array.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        categories: the category of each image, or None if the method is not to be told.

    Raises:
        SpecError: an array of another type or shape, or another number of categories.
    """

    def __init__(self, images: NDArray[np.uint8], categories: Sequence[str] | None = None) -> None:
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
            raise SpecError(f"Expected (N, H, W, 3) uint8 images, got {images.shape} {images.dtype}. Convert them.")
        if categories is not None and len(categories) != len(images):
            raise SpecError(f"Expected {len(images)} categories, got {len(categories)}. Give one an image.")
        self.images = images
        self._categories = categories

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.images.shape[1], self.images.shape[2])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self.images[index].copy()
        return image

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[index] for index in range(len(self)))

    def uncropped(self, index: int, /) -> NDArray[np.uint8]:
        """Return one image: nothing was cropped."""
        return self[index]

    @cached_property
    def fingerprints(self) -> Sequence[str]:
        """The sha256 of each image's pixels and shape."""
        shape = repr(self.images.shape[1:]).encode()
        return [hashlib.sha256(shape + image.tobytes()).hexdigest() for image in self.images]

    @property
    def categories(self) -> Sequence[str]:
        """The category of each image; raises `ContractError` if the method is not to be told."""
        if self._categories is None:
            raise ContractError("Expected no use of categories, got one. Declare uses_categories=True in MethodInfo.")
        return self._categories
