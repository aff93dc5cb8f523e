"""What a method sees of images: those that it trains and is tested on, and annotated ones of another dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ImageSet(Protocol):
    """Images in a fixed order, without labels, masks or file names: all that a method may see.

    It can be iterated again and again, and gives the same images each time. Several threads may ask it for images at
    once.
    """

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of every image and of every anomaly map."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Return one image, (H, W, 3) RGB."""
        ...

    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...

    def uncropped(self, index: int, /) -> NDArray[np.uint8]:
        """Return one image resized but not cropped, (H', W', 3) RGB, for methods that rotate before they crop."""
        ...

    @property
    def fingerprints(self) -> Sequence[str]:
        """One opaque key an image, for caches: equal keys mean equal pixels. It tells nothing of the label."""
        ...

    @property
    def categories(self) -> Sequence[str]:
        """The category of each image; raises `ContractError` unless the method declares that it uses them."""
        ...


class AnnotatedImageSet(ImageSet, Protocol):
    """Images of another dataset, good and defective, lent to a method that declares `uses_annotated_data`."""

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        ...

    @property
    def labels(self) -> Sequence[bool]:
        """Whether each image shows a defect."""
        ...

    def mask(self, index: int, /) -> NDArray[np.bool_]:
        """Return the defect's pixels of one image, (H, W); none of a good one."""
        ...

    @property
    def annotation_keys(self) -> Sequence[str]:
        """One opaque key an image, for caches: equal keys mean equal labels and masks."""
        ...
