"""Annotated images of another dataset: what a method with the privilege `uses_annotated_data` trains on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltbench.core import Dataset, Protocol, sha256_of
from ltbench.datasets.arrays import ArrayImages
from ltbench.datasets.digests import digests_of
from ltbench.datasets.images import DiskImages
from ltbench.datasets.masks import read_mask
from ltbench.errors import DataError, SpecError


class AnnotatedDiskImages(DiskImages):
    """All test images of a dataset with their labels and masks: an `AnnotatedImageSet`.

    Args:
        dataset: with a root.
        paths: its test images, in the order wanted.
        protocol: how images and masks are resized and cropped.

    Raises:
        DataError: no images, or a defective one without a mask.
    """

    def __init__(self, dataset: Dataset, paths: Sequence[str], protocol: Protocol) -> None:
        super().__init__(dataset, paths, protocol)
        self._dataset, self._samples = dataset, [dataset.by_path[path] for path in paths]
        check_annotated(dataset)

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return self._dataset.name

    @property
    def labels(self) -> Sequence[bool]:
        """Whether each image shows a defect."""
        return tuple(sample.is_anomalous for sample in self._samples)

    def mask(self, index: int, /) -> NDArray[np.bool_]:
        """Return the defect's pixels of one image, (H, W); none of a good one."""
        return read_mask(self._dataset, self._samples[index], self._protocol)

    @cached_property
    def annotation_keys(self) -> Sequence[str]:
        """The hash of each image's label, its mask's file, and the geometry."""
        files = [None if sample.mask is None else self._dataset.file(sample.mask) for sample in self._samples]
        found = digests_of([file for file in files if file is not None])
        geometry = self._protocol.payload()
        return tuple(
            sha256_of([label, "" if file is None else found[file], geometry])
            for label, file in zip(self.labels, files, strict=True)
        )


class AnnotatedArrayImages(ArrayImages):
    """An `AnnotatedImageSet` over arrays, for notebooks, tests and the contract checks.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, the defects' pixels; an image with none is good.
        dataset: the name of what they are taken from.

    Raises:
        SpecError: arrays of other types or shapes.
    """

    def __init__(self, images: NDArray[np.uint8], masks: NDArray[np.bool_], dataset: str) -> None:
        super().__init__(images)
        if masks.shape != images.shape[:3] or masks.dtype != np.bool_:
            raise SpecError(f"Expected {images.shape[:3]} bool masks, got {masks.shape} {masks.dtype}. Convert them.")
        self.masks, self._name = masks, dataset

    @property
    def dataset(self) -> str:
        """The name of what they are taken from."""
        return self._name

    @property
    def labels(self) -> Sequence[bool]:
        """Whether each image shows a defect."""
        return tuple(bool(mask.any()) for mask in self.masks)

    def mask(self, index: int, /) -> NDArray[np.bool_]:
        """Return the defect's pixels of one image, (H, W)."""
        mask: NDArray[np.bool_] = self.masks[index].copy()
        return mask

    @property
    def annotation_keys(self) -> Sequence[str]:
        """The hash of each mask's pixels."""
        return tuple(sha256_of(np.packbits(mask).tolist()) for mask in self.masks)


def check_annotated(dataset: Dataset) -> None:
    """Raise `DataError` if a dataset has no test images, or a defective one without a mask."""
    bare = next((sample.path for sample in dataset.test if sample.is_anomalous and sample.mask is None), None)
    if bare is not None or not dataset.test:
        what = f"{bare} without one" if bare else "no test images"
        raise DataError(f"Expected masks of all defects in {dataset.name}, got {what}. Choose another -p auxiliary=.")
