"""The variants of the metrics that papers publish, by name, so that one score file can be shown under each.

They are for comparison only: no protocol uses them. Apart from `mvtec`, the exact definition, they differ in the pixel
metrics; image metrics are scikit-learn's in all the public code, with an epsilon in Dinomaly's F1.

| name | AUROC, AP | F1-max | AUPRO up to 0.3 |
|---|---|---|---|
| `mvtec` | exact | exact | exact curve, interpolated at 0.3 |
| `sklearn` | scikit-learn | scikit-learn's precision-recall curve | none |
| `ader` | 50 linear bins, trapezoids | 21 thresholds on min-max normalised maps | 50 linear bins |
| `dinomaly` | scikit-learn | scikit-learn's curve, epsilon 1e-7 | 200 thresholds, divided by the reached rate |

Sources: ADer (github.com/zhangzjn/ADer, `util/metric.py` with `use_adeval`) and ADEval 1.1.0 (PyPI, `mem_effic.py`);
Dinomaly (github.com/guojiajeremy/Dinomaly at 180a1c0, `utils.py`: `compute_pro`, `f1_score_max`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ltbench.errors import UnknownNameError
from ltbench.metrics.groups import CategoryMetrics
from ltbench.metrics.ranking import (
    Flags,
    RankingMetrics,
    UndefinedMetricError,
    Values,
    checked_labels,
    checked_scores,
    ranking_metrics,
    ranking_of_sorted,
)
from ltbench.metrics.region import aupro, region_pixels, split_pixels

_LIMIT = 0.3
_ADER_BINS = 50
_ADER_F1_STEP = 0.05
_ADER_EPSILON = 1e-8
_DINOMALY_THRESHOLDS = 200
_DINOMALY_EPSILON = 1e-7


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute the metrics.

    Args:
        image: scores and labels -> AUROC, AP, F1-max.
        pixel: maps and masks -> AUROC, AP, F1-max.
        aupro: maps and masks -> AUPRO up to 0.3; raises `UndefinedMetricError` where the variant has none.
    """

    image: Callable[[Values, Flags], RankingMetrics]
    pixel: Callable[[Values, Flags], RankingMetrics]
    aupro: Callable[[Values, Flags], float]


def evaluate_as(variant: str, scores: ArrayLike, labels: ArrayLike, maps: Values, masks: Flags) -> CategoryMetrics:
    """Return the metrics of one category as a published variant computes them.

    Args:
        variant: a name in `VARIANTS`.
        scores: (N,) image scores.
        labels: (N,) True for an anomalous image.
        maps: (N, H, W) anomaly maps.
        masks: (N, H, W) booleans, True = defect.

    Raises:
        UnknownNameError: no such variant.
        ContractError: scores or maps of another shape or type, or not finite.
        DataError: labels or masks that do not fit.
    """
    if variant not in VARIANTS:
        raise UnknownNameError("metric variant", variant, VARIANTS)
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    chosen = VARIANTS[variant]
    parts: tuple[tuple[tuple[str, ...], Callable[[], tuple[float, ...]]], ...] = (
        (
            ("image_auroc", "image_ap", "image_f1_max"),
            lambda: chosen.image(checked_scores(scores), checked_labels(labels)),
        ),
        (("pixel_auroc", "pixel_ap", "pixel_f1_max"), lambda: chosen.pixel(maps, masks)),
        ((f"pixel_aupro_{100 * _LIMIT:g}",), lambda: (chosen.aupro(maps, masks),)),
    )
    for ids, compute in parts:
        try:
            values |= zip(ids, compute(), strict=True)
        except UndefinedMetricError as undefined:
            reasons |= dict.fromkeys(ids, str(undefined))
    return CategoryMetrics(values, reasons)


def sklearn_ranking(scores: Values, labels: Flags, *, epsilon: float = 0.0) -> RankingMetrics:
    """Return scikit-learn's AUROC, its AP, and the largest F1 on its precision-recall curve.

    Args:
        scores: (N,) scores.
        labels: (N,) True where positive.
        epsilon: added to precision + recall in the F1 (Dinomaly: 1e-7).
    """
    ranking_metrics(scores, labels)  # scikit-learn warns and returns NaN or 0 where this raises
    precision, recall, _ = precision_recall_curve(labels, scores)
    # the curve's last point, precision 1 at recall 0, belongs to no threshold
    precision, recall = precision[:-1], recall[:-1]
    together = precision + recall + epsilon
    f1 = np.divide(2 * precision * recall, together, out=np.zeros_like(together), where=together > 0)
    return RankingMetrics(
        float(roc_auc_score(labels, scores)), float(average_precision_score(labels, scores)), float(f1.max())
    )


def ader_ranking(maps: Values, masks: Flags) -> RankingMetrics:
    """Return ADer's pixel AUROC, AP and F1-max.

    AUROC and AP are trapezoids through the points at the 51 edges of 50 equal bins between the lowest and the highest
    value; F1 is the best of the thresholds 0, 0.05, ..., 1 on min-max normalised maps.
    """
    positives, negatives = split_pixels(maps, masks)
    edges = _linear_edges(positives, negatives)
    true, false = _at_least(positives, edges), _at_least(negatives, edges)
    found = true + false
    precision = np.divide(true, found, out=np.ones(len(edges)), where=found > 0)
    recall = true / len(positives)
    return RankingMetrics(
        float(np.trapezoid(recall, false / len(negatives))),
        float(np.trapezoid(precision, recall)),
        _ader_f1(positives, negatives),
    )


def ader_aupro(maps: Values, masks: Flags) -> float:
    """Return ADer's AUPRO: the curve through the 51 edges of 50 equal bins, interpolated at 0.3.

    It starts at the rate of the highest value and not at 0.
    """
    positives, negatives = split_pixels(maps, masks)
    edges = _linear_edges(positives, negatives)
    fpr = _at_least(negatives, edges) / len(negatives)
    if fpr[0] > _LIMIT:
        raise UndefinedMetricError(f"more than {_LIMIT:.0%} of the normal pixels have the highest value")
    pro = _overlaps(maps, masks, edges, "left")
    inside = fpr <= _LIMIT
    fpr, pro = np.append(fpr[inside], _LIMIT), np.append(pro[inside], np.interp(_LIMIT, fpr, pro))
    return float(np.trapezoid(pro, fpr)) / _LIMIT


def dinomaly_aupro(maps: Values, masks: Flags) -> float:
    """Return Dinomaly's AUPRO: 200 thresholds, equally spaced from the lowest to below the highest value.

    Points at a rate of 0.3 and above are left out, and the area is divided by the highest rate that remains.
    """
    positives, negatives = split_pixels(maps, masks)
    low, high = _range(positives, negatives)
    thresholds = np.arange(low, high, (high - low) / _DINOMALY_THRESHOLDS)[::-1]
    fpr = (len(negatives) - np.searchsorted(negatives, thresholds, "right")) / len(negatives)
    inside = fpr < _LIMIT
    reached = fpr[inside].max(initial=0.0)
    if not reached:
        raise UndefinedMetricError(f"no threshold of {_DINOMALY_THRESHOLDS} has a false-positive rate in (0, {_LIMIT})")
    pro = _overlaps(maps, masks, thresholds, "right")
    return float(np.trapezoid(pro[inside], fpr[inside] / reached))


def _range(positives: Values, negatives: Values) -> tuple[Any, Any]:
    """Return the lowest and the highest value, in the maps' precision."""
    low, high = min(positives[0], negatives[0]), max(positives[-1], negatives[-1])
    if low == high:
        raise UndefinedMetricError("every pixel has the same value")
    return low, high


def _linear_edges(positives: Values, negatives: Values) -> Values:
    """Return the 51 edges of ADEval's bins, descending. Its CPU code: the CUDA code counts the highest value twice."""
    low, high = _range(positives, negatives)
    edges: Values = np.linspace(0, 1, _ADER_BINS + 1, dtype=np.float32) * (high - low) + low
    return edges[::-1]


def _at_least(ascending: Values, thresholds: Values) -> NDArray[np.int64]:
    return len(ascending) - np.searchsorted(ascending, thresholds, "left").astype(np.int64)


def _overlaps(maps: Values, masks: Flags, thresholds: Values, side: Literal["left", "right"]) -> NDArray[np.float64]:
    """Return the mean overlap of the regions at each threshold; "left" finds scores >= it, "right" scores > it."""
    overlaps = [
        (len(values) - np.searchsorted(values, thresholds, side)) / len(values)
        for image, region, area in region_pixels(masks)
        for values in _by_region(maps[image][masks[image]], region, area)
    ]
    return np.asarray(np.mean(overlaps, axis=0), np.float64)


def _by_region(values: Values, region: NDArray[np.intp], area: NDArray[np.intp]) -> list[Values]:
    """Return the ascending values of each region."""
    return np.split(values[np.lexsort((values, region))], np.cumsum(area)[:-1])


def _ader_f1(positives: Values, negatives: Values) -> float:
    low, high = _range(positives, negatives)
    thresholds = np.arange(0.0, 1.0 + 1e-3, _ADER_F1_STEP)
    true, false = (
        len(values) - np.searchsorted((values - low) / (high - low), thresholds, "right")
        for values in (positives, negatives)
    )
    precision = true / (true + false + _ADER_EPSILON)
    recall = true / (len(positives) + _ADER_EPSILON)
    return float((2 * precision * recall / (precision + recall + _ADER_EPSILON)).max())


def _mvtec_ranking(maps: Values, masks: Flags) -> RankingMetrics:
    return ranking_of_sorted(*split_pixels(maps, masks))


def _sklearn_pixels(maps: Values, masks: Flags) -> RankingMetrics:
    split_pixels(maps, masks)  # says "pixels" where a class is missing
    return sklearn_ranking(maps.ravel(), masks.ravel())


def _dinomaly_ranking(scores: Values, labels: Flags) -> RankingMetrics:
    return sklearn_ranking(scores, labels, epsilon=_DINOMALY_EPSILON)


def _dinomaly_pixels(maps: Values, masks: Flags) -> RankingMetrics:
    split_pixels(maps, masks)
    return sklearn_ranking(maps.ravel(), masks.ravel(), epsilon=_DINOMALY_EPSILON)


def _no_aupro(_maps: Values, _masks: Flags) -> float:
    raise UndefinedMetricError("scikit-learn has no AUPRO")


VARIANTS: Mapping[str, Variant] = {
    "mvtec": Variant(ranking_metrics, _mvtec_ranking, aupro),
    "sklearn": Variant(sklearn_ranking, _sklearn_pixels, _no_aupro),
    "ader": Variant(sklearn_ranking, ader_ranking, ader_aupro),
    "dinomaly": Variant(_dinomaly_ranking, _dinomaly_pixels, dinomaly_aupro),
}
"""Every variant by name."""
