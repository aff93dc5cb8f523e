"""Pixel metrics of anomaly maps: AUROC, AP, F1-max and AUPRO, exact, from one sort of the normal pixels' values.

AUPRO is the area under the per-region overlap against the false-positive rate (Bergmann et al., "The MVTec Anomaly
Detection Dataset", IJCV 2021, section 5.2): at a threshold, a region's overlap is the share of its pixels that score at
least as much; PRO is the mean over the connected regions of all masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ltbench.errors import ContractError, DataError, SpecError
from ltbench.metrics.ranking import (
    CHUNK,
    Flags,
    Values,
    checked_classes,
    numpy_is_slow,
    ranking_of_sorted,
    ranks,
    sorted_classes,
)

MANY = 1 << 20
"""Pixels from which on it matters how they are sorted."""


class PixelMetrics(NamedTuple):
    """The four pixel metrics, each in [0, 1]."""

    auroc: float
    ap: float
    f1_max: float
    aupro: float


class RegionPixels(NamedTuple):
    """The defect pixels of one image.

    Args:
        image: position of the image.
        region: (K,) region of each defect pixel, in the order in which `maps[image][masks[image]]` gives them.
        area: (R,) pixels of each region.
    """

    image: int
    region: NDArray[np.intp]
    area: NDArray[np.intp]


def pixel_metrics(maps: Values, masks: Flags, *, limit: float = 0.3, connectivity: int = 8) -> PixelMetrics:
    """Return the four pixel metrics of the maps of one category.

    It takes one copy of the maps, whatever the share of defect pixels, and does not depend on the images' order.

    Args:
        maps: (N, H, W) finite floats, higher = more anomalous.
        masks: (N, H, W) booleans, True = defect.
        limit: false-positive rate up to which AUPRO integrates, in (0, 1].
        connectivity: 4 or 8, the neighbours that join two pixels to one region.

    Raises:
        UndefinedMetricError: no defect pixel, or no normal one.
        ContractError: maps that are not finite (N, H, W) floats.
        DataError: masks that are not booleans of the maps' shape.
        SpecError: another limit or connectivity.
    """
    check_region_options(limit, connectivity)
    positives, negatives = split_pixels(maps, masks)
    ranking = ranking_of_sorted(positives, negatives)
    del positives
    return PixelMetrics(*ranking, aupro_of_sorted(maps, masks, negatives, limit, connectivity))


def aupro(maps: Values, masks: Flags, limit: float = 0.3, connectivity: int = 8) -> float:
    """Return the area under the per-region overlap up to a false-positive rate, divided by that rate.

    Between two thresholds the curve is a straight line, at `limit` too, so that ties count exactly.

    Args:
        maps: (N, H, W) finite floats, higher = more anomalous.
        masks: (N, H, W) booleans, True = defect.
        limit: false-positive rate up to which to integrate, in (0, 1].
        connectivity: 4 or 8, the neighbours that join two pixels to one region.

    Raises:
        UndefinedMetricError: no defect pixel, or no normal one.
        ContractError: maps that are not finite (N, H, W) floats.
        DataError: masks that are not booleans of the maps' shape.
        SpecError: another limit or connectivity.
    """
    check_region_options(limit, connectivity)
    _, negatives = split_pixels(maps, masks)
    return aupro_of_sorted(maps, masks, negatives, limit, connectivity)


def split_pixels(maps: Values, masks: Flags) -> tuple[Values, Values]:
    """Return the values of the defect pixels and of the normal pixels, each in ascending order.

    Raises:
        UndefinedMetricError: no defect pixel, or no normal one.
        ContractError: maps that are not finite (N, H, W) floats.
        DataError: masks that are not booleans of the maps' shape.
    """
    check_pixels(maps, masks)
    if maps.dtype == np.float32 and maps.size >= MANY and numpy_is_slow():
        from ltbench.metrics.radix import ascending  # compiled: it is loaded where it is needed

        floats = np.asarray(maps, np.float32)
        return checked_classes(*(ascending(floats, masks, wanted=wanted) for wanted in (True, False)), of="pixels")
    return sorted_classes(maps[masks], maps[~masks], of="pixels")


def check_pixels(maps: Values, masks: Flags) -> None:
    """Raise `ContractError` unless maps are (N, H, W) floats, `DataError` unless masks are their booleans."""
    check_maps(maps)
    check_masks(masks, maps.shape)


def check_maps(maps: Values) -> None:
    """Raise `ContractError` unless maps are (N, H, W) floats."""
    if maps.ndim != 3 or maps.dtype.kind != "f":
        raise ContractError(f"Expected (N, H, W) float maps, got {maps.shape} {maps.dtype}. Return one map an image.")


def check_masks(masks: Flags, shape: tuple[int, ...]) -> None:
    """Raise `DataError` unless masks are booleans of the maps' shape."""
    if masks.shape != shape or masks.dtype != np.bool_:
        raise DataError(
            f"Expected bool masks of shape {shape}, got {masks.shape} {masks.dtype}. Resize and binarise them."
        )


def check_region_options(limit: float, connectivity: int) -> None:
    """Raise `SpecError` unless the limit is a rate and the connectivity 4 or 8."""
    if not 0 < limit <= 1:
        raise SpecError(f"Expected a false-positive rate in (0, 1], got {limit!r}. Set aupro_limit.")
    if connectivity not in (4, 8):
        raise SpecError(f"Expected a connectivity of 4 or 8, got {connectivity!r}. Set aupro_connectivity.")


def region_pixels(masks: Flags, connectivity: int = 8) -> Iterator[RegionPixels]:
    """Yield the connected regions of each mask that has any.

    Args:
        masks: (N, H, W) booleans, True = defect.
        connectivity: 4 or 8, the neighbours that join two pixels to one region.
    """
    structure = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    for image, mask in enumerate(masks):
        if mask.any():
            labels: NDArray[Any] = np.empty(mask.shape, np.int32)
            ndimage.label(mask, structure, output=labels)
            region = labels[mask].astype(np.intp) - 1
            yield RegionPixels(image, region, np.bincount(region))


def aupro_of_sorted(maps: Values, masks: Flags, negatives: Values, limit: float, connectivity: int) -> float:
    """Return `aupro` where the values of the normal pixels are at hand, in ascending order."""
    overlaps: list[float] = []
    for values, region in _grouped_regions(maps, masks, connectivity):
        order = np.argsort(values)
        share = _share_below_limit(negatives, values[order], limit)
        overlaps += (np.bincount(region[order], share) / np.bincount(region)).tolist()
    # an exact sum, so that the order of the images changes nothing
    return math.fsum(overlaps) / len(overlaps)


def _share_below_limit(negatives: Values, values: Values, limit: float) -> NDArray[np.float64]:
    """Return for each pixel the share of [0, limit] over which it counts as found.

    A pixel is found from its own false-positive rate on. If it ties with normal pixels, that rate is an interval over
    which the curve rises in a straight line: half of it counts, or the triangle up to the limit.
    """
    below, not_above = ranks(negatives, values)
    cap = limit * len(negatives)
    start, end = len(negatives) - not_above, len(negatives) - below
    share = (cap - (start + end) / 2) / cap
    cut = end > cap
    rise = np.maximum(cap - start[cut], 0.0)
    # a value is cut only where end > cap; start == end then means that it is found beyond the limit: rise is 0
    share[cut] = rise / cap * (rise / np.maximum(2 * (end[cut] - start[cut]), 1))
    return share


def _grouped_regions(maps: Values, masks: Flags, connectivity: int) -> Iterator[tuple[Values, NDArray[np.intp]]]:
    """Yield values and regions of the defect pixels of several images at once, about `CHUNK` pixels at a time."""
    values: list[Values] = []
    regions: list[NDArray[np.intp]] = []
    pixels = count = 0
    for image, region, area in region_pixels(masks, connectivity):
        values.append(maps[image][masks[image]])
        regions.append(region + count)
        pixels, count = pixels + len(region), count + len(area)
        if pixels >= CHUNK:
            yield np.concatenate(values), np.concatenate(regions)
            values, regions, pixels, count = [], [], 0, 0
    if values:
        yield np.concatenate(values), np.concatenate(regions)
