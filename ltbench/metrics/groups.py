"""From a method's prediction to the table's numbers: all metrics of one category, then means over categories.

Categories are evaluated one by one, so that the maps of one need not be kept while the next is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ltbench.core import GROUPS, Protocol
from ltbench.errors import ContractError, DataError
from ltbench.metrics.ranking import Flags, UndefinedMetricError, Values, checked_labels, checked_scores
from ltbench.metrics.region import check_maps, check_masks, check_region_options, split_pixels
from ltbench.metrics.registry import Level, Scored, metrics_of
from ltbench.metrics.resolution import at_side

NO_MAPS = "gives no maps"
"""Why a method that scores images alone has no pixel metrics."""


class CategoryMetrics(NamedTuple):
    """The metrics of one category.

    Args:
        values: metric id -> value in [0, 1].
        reasons: metric id -> why it has no value; every metric is in one of the two.
    """

    values: dict[str, float]
    reasons: dict[str, str]


class GroupMetrics(NamedTuple):
    """The metrics of a run.

    Args:
        values: metric id -> group -> value in [0, 1] (a `ltbench.core.Metrics`).
        reasons: metric id -> group -> why there is no value.
    """

    values: dict[str, dict[str, float]]
    reasons: dict[str, dict[str, str]]


def evaluate_category(
    scores: ArrayLike, labels: ArrayLike, maps: Values | None, masks: Flags | None, protocol: Protocol
) -> CategoryMetrics:
    """Return every metric of one category.

    Args:
        scores: (N,) the method's image scores.
        labels: (N,) True for an anomalous image. They come from the dataset and not from the masks: a small defect can
            vanish from a mask that is resized, and its image stays anomalous.
        maps: (N, H, W) anomaly maps, or None of a method that gives none.
        masks: (N, H, W) booleans, True = defect, or None for a category that has no masks.
        protocol: image-score rule, resolution of the pixel metrics, AUPRO limit and connectivity.

    Raises:
        ContractError: scores or maps of another shape or type, or not finite.
        DataError: labels or masks that do not fit the maps, or a defect in an image labelled good.
    """
    flags = checked_labels(labels)
    if maps is not None:
        check_maps(maps)
        if len(flags) != len(maps):
            raise DataError(f"Expected as many labels as maps, got {len(flags)} and {len(maps)}. Give one an image.")
    images = _level("image", lambda: _images(image_scores(scores, maps, protocol), flags), protocol)
    pixels = _level("pixel", lambda: _pixels(maps, flags, masks, protocol), protocol)
    return CategoryMetrics(images.values | pixels.values, images.reasons | pixels.reasons)


def evaluate_images(scores: ArrayLike, labels: ArrayLike, protocol: Protocol) -> CategoryMetrics:
    """Return the image metrics of one category from its image scores alone.

    Args:
        scores: (N,) image scores, after the protocol's rule.
        labels: (N,) True for an anomalous image.
        protocol: names the metrics.

    Raises:
        ContractError: scores that are not finite.
        DataError: labels that do not fit the scores.
    """
    return _level("image", lambda: _images(scores, checked_labels(labels)), protocol)


def _level(level: Level, scored: Callable[[], Scored], protocol: Protocol) -> CategoryMetrics:
    """Return the metrics of a level; where its scores cannot be ranked, the reason is that of each."""
    metrics = {metric.id(protocol.aupro_limit): metric for metric in metrics_of(protocol) if metric.level == level}
    found = CategoryMetrics({}, {})
    try:
        of = scored()
    except UndefinedMetricError as undefined:
        return CategoryMetrics({}, dict.fromkeys(metrics, str(undefined)))
    for name, metric in metrics.items():
        try:
            found.values[name] = metric.compute(of)
        except UndefinedMetricError as undefined:
            found.reasons[name] = str(undefined)
    return found


def _images(scores: ArrayLike, flags: Flags) -> Scored:
    values = checked_scores(scores)
    if len(values) != len(flags):
        raise DataError(f"Expected as many labels as scores, got {len(flags)} and {len(values)}. Give one a score.")
    return Scored.of(values, flags)


def _pixels(maps: Values | None, flags: Flags, masks: Flags | None, protocol: Protocol) -> Scored:
    if maps is None:
        raise UndefinedMetricError(NO_MAPS)
    if masks is None:
        raise UndefinedMetricError("no masks")
    maps, masks = at_side(maps, masks, protocol.pixel_side)
    check_masks(masks, maps.shape)
    for image in np.flatnonzero(~flags):
        if masks[image].any():
            raise DataError(f"Expected an empty mask for a good image, got a defect in image {image}. Mend its label.")
    check_region_options(protocol.aupro_limit, protocol.aupro_connectivity)
    classes = split_pixels(maps, masks)
    return Scored(*classes, maps, masks, flags, protocol.aupro_limit, protocol.aupro_connectivity)


def image_scores(scores: ArrayLike, maps: Values | None, protocol: Protocol) -> NDArray[np.number[Any]]:
    """Return the image scores that the protocol ranks: the method's, or the maximum of each smoothed map.

    Args:
        scores: (N,) the method's image scores.
        maps: (N, H, W) anomaly maps, or None of a method that gives none.
        protocol: image-score rule and the Gaussian's standard deviation in pixels.

    Raises:
        ContractError: the rule needs maps and there are none.
    """
    if protocol.image_score == "method":
        return np.asarray(scores)
    if maps is None:
        raise ContractError(
            f"Expected maps for the image scores of protocol {protocol.name}, got none. Take a protocol whose image "
            "score is the method's."
        )
    sigma = protocol.image_score_sigma
    return np.array([ndimage.gaussian_filter(one, sigma).max() for one in maps], maps.dtype)


def aggregate(
    values: Mapping[str, Mapping[str, float]],
    reasons: Mapping[str, Mapping[str, str]],
    high: Iterable[str],
    low: Iterable[str],
) -> GroupMetrics:
    """Return every metric by category, and its unweighted means over the high, the low and all categories.

    A mean is over the categories that have the metric; a group of which none has it has a reason instead.

    Args:
        values: category -> metric id -> value.
        reasons: category -> metric id -> why it has no value.
        high: the majority categories (the head).
        low: the minority categories (the tail).

    Raises:
        DataError: a category that was not evaluated, that is in neither or in both groups, or is named like a group.
    """
    members = {"high": tuple(high), "low": tuple(low)}
    members["avg"] = members["high"] + members["low"]
    if sorted(members["avg"]) != sorted(values) or set(GROUPS) & set(values):
        raise DataError(
            f"Expected each of {sorted(values)} in high or low once, got {members['high']} and {members['low']}. "
            f"List every category once, and name none {', '.join(GROUPS)}."
        )
    by_group: dict[str, dict[str, float]] = {}
    missing: dict[str, dict[str, str]] = {}
    for metric in dict.fromkeys(metric for part in (values, reasons) for found in part.values() for metric in found):
        has = {category: found[metric] for category, found in values.items() if metric in found}
        lacks = {category: found[metric] for category, found in reasons.items() if metric in found}
        means: dict[str, float] = {}
        for group, categories in members.items():
            present = [has[category] for category in categories if category in has]
            if present:
                # an exact sum, so that the order of the categories changes nothing
                means[group] = math.fsum(present) / len(present)
            else:
                lacks[group] = _why([lacks.get(category, "") for category in categories])
        if has:
            by_group[metric] = has | means
        if lacks:
            missing[metric] = lacks
    return GroupMetrics(by_group, missing)


def _why(reasons: Sequence[str]) -> str:
    """Return why no category of a group has a metric: their one reason, where they have one."""
    if not reasons:
        return "no categories"
    return reasons[0] if len(set(reasons)) == 1 and reasons[0] else "no category has it"
