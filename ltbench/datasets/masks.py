"""Masks as a protocol wants them: which pixels are defects, and what of a defect a protocol keeps.

The mask of an image is a file, or a folder of files that are merged: a pixel is a defect where one of them says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from ltbench.core import Dataset, Protocol, Sample, sha256_of
from ltbench.datasets.decode import decode, members, size_of
from ltbench.datasets.images import center_crop, resize
from ltbench.datasets.remembered import remembered
from ltbench.errors import DataError

LABELS = 8
"""Distinct values above 0 up to which the values of a mask can be label ids; more are a continuum."""

LARGEST_LABEL = 32
"""A mask without a value above this holds label ids, whatever their places."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a protocol keeps of one mask.

    Args:
        is_graded: whether its values are a continuum, so that `mask_threshold` matters.
        defect: the defect's pixels on disk.
        whole: those of the resized mask, before it is cropped.
        inside: those that are left after the crop.
        expected: those that there would be if none were lost: its share of the image, of the resized image's pixels.
    """

    is_graded: bool
    defect: int
    whole: int
    inside: int
    expected: float

    @property
    def is_halved(self) -> bool:
        """Whether something is left of the defect, and more than half of it is not."""
        return 0 < 2 * self.inside < self.expected

    @property
    def gone(self) -> str:
        """Why no pixel of the defect is left, or "" where one is."""
        if self.inside:
            return ""
        if self.whole:
            return "outside the crop"
        return "too small for the protocol" if self.defect else "an empty mask"


def read_mask(dataset: Dataset, sample: Sample, protocol: Protocol) -> NDArray[np.bool_]:
    """Return the defect pixels of a sample, (H, W).

    `defect_pixels` of the mask, as 0/255, are resized by the protocol's `mask_interpolation` and cropped like the
    image; `mask_rule` then takes the values above 0 ("positive"), a tenth ("tenth"), a half ("half") or only the full
    ones ("full": TailedCore's public code casts values in [0, 1] to integers, which erodes the edge).

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
    resized = _resized(_merged(_parts(dataset.file(sample.mask)), protocol), protocol)
    return _defective(center_crop(resized, protocol), protocol)


def kept_of(dataset: Dataset, samples: Iterable[Sample], protocol: Protocol) -> dict[str, Kept]:
    """Return what a protocol keeps of the masks of defective samples, by path of the sample; it is remembered.

    Raises:
        DataError: a mask cannot be read.
    """
    files = {sample.path: dataset.file(str(sample.mask)) for sample in samples}
    settings = (protocol.resize, protocol.resize_mode, protocol.crop, protocol.mask_interpolation, protocol.mask_rule)
    kind = f"masks-{sha256_of([*settings, protocol.mask_threshold, LABELS, LARGEST_LABEL, PIL.__version__])[:16]}"
    found = remembered(kind, files.values(), lambda file: asdict(_kept(file, protocol)))
    for file in files.values():
        if file not in found:
            raise DataError(f"Expected the mask {file}, got no file that can be read. Copy it there or mend it.")
    return {path: Kept(**found[file][1]) for path, file in files.items()}


def _kept(file: Path, protocol: Protocol) -> Kept:
    parts = _parts(file)
    defect = _merged(parts, protocol)
    resized = _resized(defect, protocol)
    whole = int(_defective(resized, protocol).sum())
    inside = int(_defective(center_crop(resized, protocol), protocol).sum())
    expected = float(defect.mean()) * resized.width * resized.height
    return Kept(any(is_graded(part) for part in parts), int(defect.sum()), whole, inside, expected)


def _parts(mask: Path) -> list[Image.Image]:
    """Return the images of a mask: one, or all of a folder.

    Raises:
        DataError: one cannot be read, the folder is empty, or its images differ in size.
    """
    parts = [decode(file) for file in members(mask)]
    if not parts:
        raise DataError(f"Expected masks in {mask}, got an empty folder. Copy them there.")
    if len({part.size for part in parts}) != 1:
        sizes = ", ".join(sorted({_times(part.size) for part in parts}))
        raise DataError(f"Expected masks of one size in {mask}, got {sizes}. Replace them.")
    return parts


def _merged(parts: Iterable[Image.Image], protocol: Protocol) -> NDArray[np.bool_]:
    merged: NDArray[np.bool_] = np.logical_or.reduce([defect_pixels(part, protocol) for part in parts])
    return merged


def blank_masks(masks: Mapping[str, Path]) -> frozenset[str]:
    """Return those of the masks that have no pixel above 0; what is found is remembered.

    Args:
        masks: name -> file or folder.

    Raises:
        DataError: a mask cannot be read.
    """
    found = remembered(f"blank-{PIL.__version__}", masks.values(), lambda file: not _has_defect(_parts(file)))
    return frozenset(name for name, file in masks.items() if found[file][1])


def _has_defect(parts: Iterable[Image.Image]) -> bool:
    return any(bool(_values(part).any()) for part in parts)


def is_graded(mask: Image.Image) -> bool:
    """Return whether the values of a mask are grey levels (JPEG, antialiased, resized) and not label ids.

    Palettes and small values are ids, and so are few values that fill areas. Many values are grey levels, and so are
    few whose in-between ones lie on edges alone: no 3x3 square of them.
    """
    values = _values(mask)
    if mask.mode in ("1", "P", "PA") or values.max(initial=0) <= LARGEST_LABEL:
        return False
    levels = np.unique(values)
    if len(levels) > LABELS + 1:
        return True
    between = (values > 0) & (values < levels[-1])
    if not between.any():
        return False
    from scipy.ndimage import binary_erosion

    return not binary_erosion(between, np.ones((3, 3), np.bool_)).any()


def defect_pixels(mask: Image.Image, protocol: Protocol) -> NDArray[np.bool_]:
    """Return the defect pixels of a mask of any mode, (H, W), before it is resized.

    Label ids, and with `mask_threshold="positive"` all values, count where they are above 0; a continuum, and with
    "half" every mask, is cut at half of its maximum, at or above which a pixel is a defect. Of several channels the
    highest counts, alpha left out; a palette counts by index.
    """
    values = _values(mask)
    is_cut = is_graded(mask) if protocol.mask_threshold == "auto" else protocol.mask_threshold == "half"
    return np.asarray((values > 0) & (values >= values.max() / 2)) if is_cut else np.asarray(values > 0)


def suspects(dataset: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the masks of many grey levels, and those of defective images without a pixel above 0, by path.

    Masks that cannot be read are left to who looks for these.
    """
    graded, empty = [], []
    for sample in dataset.test:
        if sample.mask is None or not sample.is_anomalous:
            continue
        try:
            parts = _parts(dataset.file(sample.mask))
        except DataError:
            continue
        if any(is_graded(part) for part in parts):
            graded.append(sample.mask)
        if not _has_defect(parts):
            empty.append(sample.mask)
    return tuple(sorted(graded)), tuple(sorted(empty))


def _values(mask: Image.Image) -> NDArray[np.integer[Any]]:
    values: NDArray[np.integer[Any]] = np.asarray(mask)
    if values.ndim == 3:
        channels = values.shape[2] - (mask.mode in ("LA", "PA", "RGBA", "La", "RGBa"))
        values = values[:, :, :channels].max(axis=2)
    return values


def _resized(defect: NDArray[np.bool_], protocol: Protocol) -> Image.Image:
    bilinear = protocol.mask_interpolation == "bilinear"
    resampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.NEAREST
    return resize(Image.fromarray(np.where(defect, 255, 0).astype(np.uint8)), protocol, resampling)


def _defective(mask: Image.Image, protocol: Protocol) -> NDArray[np.bool_]:
    values = np.asarray(mask)
    lowest = {"positive": 1, "tenth": 26, "half": 128, "full": 255}[protocol.mask_rule]
    return values >= lowest


def check_mask_size(dataset: Dataset, sample: Sample) -> None:
    """Raise `DataError` unless the mask of a sample is as large as its image; only file headers are read."""
    image_file = dataset.file(sample.path)
    image_size = size_of(image_file)
    for file in members(dataset.file(str(sample.mask))):
        mask_size = size_of(file)
        if mask_size != image_size:
            raise DataError(
                f"Expected the mask {file} as large as its image {image_file} ({_times(image_size)}), "
                f"got {_times(mask_size)}. Replace one of them."
            )


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
