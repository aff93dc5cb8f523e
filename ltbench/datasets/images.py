"""Images and masks as a protocol wants them: decoded, resized, cropped.

Whoever asks for one image after the other gets them decoded ahead, in threads: Pillow works without the interpreter
lock. The geometry is that of torchvision's Resize and CenterCrop on Pillow images, to the pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from ltbench.core import Dataset, Protocol, sha256_of
from ltbench.cores import in_order, usable_cores
from ltbench.datasets.decode import decode, to_rgb
from ltbench.errors import ContractError, DataError


class FileImages:
    """Image files in a fixed order: an `ImageSet` for files that belong to no dataset.

    Each image is decoded when it is asked for; nothing is kept in memory. Iteration decodes a few images ahead, on all
    cores; a file that cannot be read is an error when its turn has come.

    Args:
        files: where the images lie.
        protocol: how they are resized and cropped.
        categories: the category of each image, or None if the method is not to be told.
    """

    def __init__(self, files: Sequence[Path], protocol: Protocol, categories: Sequence[str] | None = None) -> None:
        self._files, self._protocol, self._categories = list(files), protocol, categories

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of every image."""
        return self._protocol.size

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]:
        """Return one image, (H, W, 3) RGB.

        Raises:
            DataError: the file is missing, truncated or no image.
        """
        return np.array(center_crop(self._resized(index), self._protocol))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return in_order((partial(self.__getitem__, index) for index in range(len(self))), usable_cores())

    def uncropped(self, index: int, /) -> NDArray[np.uint8]:
        """Return one image resized but not cropped, (H', W', 3) RGB, for methods that rotate before they crop."""
        return np.array(self._resized(index))

    def _resized(self, index: int) -> Image.Image:
        file = self._files[index]
        image = to_rgb(decode(file), file, self._protocol.image_depth)
        return resize(image, self._protocol, Image.Resampling[self._protocol.interpolation.upper()])

    @cached_property
    def fingerprints(self) -> Sequence[str]:
        """One opaque key an image: the hash of the file's bytes, the geometry and the Pillow version."""
        protocol = self._protocol
        geometry = sha256_of(
            [
                *(protocol.resize, protocol.resize_mode, protocol.crop, protocol.interpolation, PIL.__version__),
                *([protocol.image_depth] if protocol.image_depth != 16 else []),
            ]
        )
        tasks = (partial(self._fingerprint, index, geometry) for index in range(len(self)))
        return tuple(in_order(tasks, usable_cores()))

    def _fingerprint(self, index: int, geometry: str) -> str:
        file = self._files[index]
        try:
            digest = hashlib.sha256(file.read_bytes())
        except OSError as error:
            raise DataError(f"Expected the image {file}, got {error.strerror}. Copy it there or mend it.") from error
        digest.update(geometry.encode("ascii"))
        return digest.hexdigest()

    @property
    def categories(self) -> Sequence[str]:
        """The category of each image.

        Raises:
            ContractError: the method does not declare that it uses them.
        """
        if self._categories is None:
            raise ContractError("Expected a method blind to categories, got one that reads them. Set uses_categories.")
        return tuple(self._categories)


class DiskImages(FileImages):
    """Images of a dataset in a fixed order, without labels: the `ImageSet` that a method sees.

    Args:
        dataset: a dataset with a root.
        paths: which of its samples, by path, in which order.
        protocol: how images are resized and cropped.
        categories_visible: whether `categories` may be read (the method declares that it uses them).

    Raises:
        DataError: a path that is no sample of the dataset.
    """

    def __init__(
        self, dataset: Dataset, paths: Sequence[str], protocol: Protocol, *, categories_visible: bool = False
    ) -> None:
        for path in paths:
            if path not in dataset.by_path:
                raise DataError(
                    f"Expected images of {dataset.name}, got {path!r}, which is none. "
                    "Use the split with the dataset that it was made for."
                )
        categories = [dataset.by_path[path].category for path in paths] if categories_visible else None
        super().__init__([dataset.file(path) for path in paths], protocol, categories)


def resize(image: Image.Image, protocol: Protocol, resampling: Image.Resampling) -> Image.Image:
    """Return an image resized as the protocol says; unchanged when it already fits.

    "short_side" sets the short side to `resize` and the long one to int(resize * long / short), as torchvision does.
    """
    side = protocol.resize
    width, height = image.size
    if protocol.resize_mode == "exact":
        target = (side, side)
    elif width <= height:
        target = (side, int(side * height / width))
    else:
        target = (int(side * width / height), side)
    return image if image.size == target else image.resize(target, resampling)


def center_crop(image: Image.Image, protocol: Protocol) -> Image.Image:
    """Return the centre of a resized image; its corner is int(round((height - crop) / 2)), as torchvision has it."""
    side = protocol.crop
    if side is None or image.size == (side, side):
        return image
    left = round((image.width - side) / 2.0)
    top = round((image.height - side) / 2.0)
    return image.crop((left, top, left + side, top + side))
