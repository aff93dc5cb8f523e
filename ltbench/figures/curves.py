"""ROC and precision-recall curves of image scores, averaged over categories so that their areas are the metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ltbench.core import GOOD
from ltbench.figures.series import Series, TooFewRunsError, names_of, series_of, shared_title
from ltbench.figures.style import drawing, legend_below, looks, panels
from ltbench.records.record import RunRecord

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def draw_curves(records: Sequence[RunRecord], group: str = "avg") -> Figure:
    """Draw the mean ROC and precision-recall curve of the categories of a group, a line a method and split.

    Scores of different categories are not comparable, so curves are averaged and scores never pooled.

    Args:
        records: what to draw; a curve is the mean over lists of the mean over seeds and categories.
        group: "avg", "high" or "low".

    Raises:
        SpecError: no category of the group has both good and anomalous test images.
    """
    series = series_of(records)
    names = names_of(series)
    look = looks(names)
    with drawing():
        figure, (left, right) = panels(2, width=3.3, height=3.9)
        for own, name in zip(series, names, strict=True):
            scored, weights = _weighted(own, group)
            if not scored:
                raise TooFewRunsError(
                    f"Expected good and anomalous test images in group {group!r} of {own.base}, got none. Choose "
                    "another --group."
                )
            x, y = mean_roc(scored, weights)
            recall, precision = mean_precision_recall(scored, weights)
            auroc, ap = np.trapezoid(y, x), np.sum(np.diff(recall) * precision[1:])
            style = look[name].options() | {
                "marker": "",
                "label": f"{name}: AUROC {100 * auroc:.2f}, AP {100 * ap:.2f}",
            }
            left.plot(x, y, **style)
            right.step(recall, precision, where="pre", **style)
        left.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
        left.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(0, 1), ylim=(0, 1.01))
        right.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        figure.suptitle(shared_title(series), fontsize=9)
        legend_below(figure, left, columns=2)
    return figure


def scores_of(record: RunRecord, group: str) -> list[Curve]:
    """Return the scores of good and of anomalous images of each category of a group that has both."""
    categories = {"high": record.high, "low": record.low}.get(group, record.high + record.low)
    pairs = []
    for category in categories:
        entries = record.scores.get(category, [])
        good = np.array([entry["score"] for entry in entries if entry["defect_type"] == GOOD])
        anomalous = np.array([entry["score"] for entry in entries if entry["defect_type"] != GOOD])
        if len(good) and len(anomalous):
            pairs.append((good, anomalous))
    return pairs


def _weighted(series: Series, group: str) -> tuple[list[Curve], list[float]]:
    """Return the scores of every run and category, and what each weighs."""
    scored: list[Curve] = []
    weights: list[float] = []
    for record, weight in zip(series.records, series.weights, strict=True):
        own = scores_of(record, group)
        scored += own
        weights += [weight / max(1, len(own))] * len(own)
    return scored, weights


def mean_roc(scored: Sequence[Curve], weights: Sequence[float] | None = None) -> Curve:
    """Return the mean of ROC curves, weighted if asked, at every false-positive rate where one of them bends.

    A curve that rises at one rate has two points there, so the area below the mean is the mean of the areas.
    """
    curves = [_roc(good, anomalous) for good, anomalous in scored]
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    low = np.average([_lower(x, y, grid) for x, y in curves], axis=0, weights=weights)
    high = np.average([_upper(x, y, grid) for x, y in curves], axis=0, weights=weights)
    return np.repeat(grid, 2), np.stack([low, high], axis=1).ravel()


def mean_precision_recall(scored: Sequence[Curve], weights: Sequence[float] | None = None) -> Curve:
    """Return the mean of precision-recall curves, weighted if asked, steps whose area is the mean average precision.

    Between two recalls the precision is that of the right one, as in `metrics.ranking.average_precision`.
    """
    curves = [_precision_recall(good, anomalous) for good, anomalous in scored]
    grid = np.unique(np.concatenate([[0.0], *[recall for recall, _ in curves]]))
    means = np.average([own[np.searchsorted(recall, grid)] for recall, own in curves], axis=0, weights=weights)
    return grid, means


def _roc(good: NDArray[np.float64], anomalous: NDArray[np.float64]) -> Curve:
    thresholds = np.unique(np.concatenate([good, anomalous]))[::-1]
    false = np.searchsorted(np.sort(-good), -thresholds, side="right") / len(good)
    true = np.searchsorted(np.sort(-anomalous), -thresholds, side="right") / len(anomalous)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def _lower(x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a curve's lowest value at each rate: where it rises, the foot; elsewhere between its neighbours."""
    return np.where(
        np.isin(grid, x), y[np.minimum(np.searchsorted(x, grid, side="left"), len(x) - 1)], _between(x, y, grid)
    )


def _upper(x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isin(grid, x), y[np.searchsorted(x, grid, side="right") - 1], _between(x, y, grid))


def _between(x: NDArray[np.float64], y: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    right = np.minimum(np.searchsorted(x, grid, side="left"), len(x) - 1)
    left = np.maximum(right - 1, 0)
    width = np.where(x[right] > x[left], x[right] - x[left], 1.0)
    return np.asarray(y[left] + (y[right] - y[left]) * (grid - x[left]) / width, dtype=np.float64)


def _precision_recall(good: NDArray[np.float64], anomalous: NDArray[np.float64]) -> Curve:
    thresholds = np.unique(anomalous)[::-1]
    true = np.searchsorted(np.sort(-anomalous), -thresholds, side="right")
    false = np.searchsorted(np.sort(-good), -thresholds, side="right")
    precision = true / (true + false)
    recall = true / len(anomalous)
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])
