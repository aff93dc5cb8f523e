"""Images and masks as a protocol wants them: decoded, resized, cropped.

The geometry is that of torchvision's Resize and CenterCrop on Pillow images, to the pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from ltbench.core import Dataset, Protocol, Sample, sha256_of
from ltbench.datasets.decode import decode, size_of, to_rgb
from ltbench.errors import ContractError, DataError


class DiskImages:
    """Images of a dataset in a fixed order, without labels: the `ImageSet` that a method sees.

    Each image is decoded when it is asked for; nothing is kept in memory.

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
        self._files = [dataset.file(path) for path in paths]
        self._protocol = protocol
        self._categories = [dataset.by_path[path].category for path in paths] if categories_visible else None

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
        return (self[index] for index in range(len(self)))

    def uncropped(self, index: int, /) -> NDArray[np.uint8]:
        """Return one image resized but not cropped, (H', W', 3) RGB, for methods that rotate before they crop."""
        return np.array(self._resized(index))

    def _resized(self, index: int) -> Image.Image:
        file = self._files[index]
        return resize(to_rgb(decode(file), file), self._protocol, Image.Resampling.BILINEAR)

    @cached_property
    def fingerprints(self) -> Sequence[str]:
        """One opaque key an image: the hash of the file's bytes, the geometry and the Pillow version."""
        protocol = self._protocol
        geometry = sha256_of(
            [protocol.resize, protocol.resize_mode, protocol.crop, protocol.interpolation, PIL.__version__]
        )
        return tuple(self._fingerprint(index, geometry) for index in range(len(self)))

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


def read_mask(dataset: Dataset, sample: Sample, protocol: Protocol) -> NDArray[np.bool_]:
    """Return the defect pixels of a sample, (H, W).

    A mask may hold label ids: any value above 0 is a defect. The 0/255 mask is resized by the protocol's
    `mask_interpolation` and cropped like the image; `mask_rule` then takes the values above 0 ("positive") or only the
    full ones ("full": TailedCore's public code casts values in [0, 1] to integers, which erodes the edge).

    Args:
        dataset: the dataset of the sample, with a root.
        sample: a good sample (no pixel is defective then), or a defective one with a mask.
        protocol: geometry and rule.

    Raises:
        DataError: a defective sample without a mask, a mask that cannot be read or is not as large as its image.
    """
    if not sample.is_anomalous:
        return np.zeros(protocol.size, dtype=np.bool_)
    if sample.mask is None:
        raise DataError(f"Expected a mask of {dataset.file(sample.path)}, got none. Ask for image metrics only.")
    check_mask_size(dataset, sample)
    mask = decode(dataset.file(sample.mask))
    bilinear = protocol.mask_interpolation == "bilinear"
    resampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.NEAREST
    values = np.asarray(center_crop(resize(_binarised(mask), protocol, resampling), protocol))
    return values > 0 if protocol.mask_rule == "positive" else values == 255


def check_mask_size(dataset: Dataset, sample: Sample) -> None:
    """Raise `DataError` unless the mask of a sample is as large as its image; only file headers are read."""
    file, image_file = dataset.file(str(sample.mask)), dataset.file(sample.path)
    mask_size, image_size = size_of(file), size_of(image_file)
    if mask_size != image_size:
        raise DataError(
            f"Expected the mask {file} as large as its image {image_file} ({_times(image_size)}), "
            f"got {_times(mask_size)}. Replace one of them."
        )


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _binarised(mask: Image.Image) -> Image.Image:
    """Return 255 where any channel but alpha is above 0, else 0; a palette counts by index (they are label ids)."""
    values = np.asarray(mask)
    if values.ndim == 3:
        channels = values.shape[2] - (mask.mode in ("LA", "PA", "RGBA", "La", "RGBa"))
        values = values[:, :, :channels].max(axis=2)
    return Image.fromarray(np.where(values > 0, 255, 0).astype(np.uint8))
