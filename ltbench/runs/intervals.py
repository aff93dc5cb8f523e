"""Confidence intervals of a run's image metrics over its test images, by category and group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltbench.core import GOOD
from ltbench.metrics.intervals import (
    Interval,
    bootstrap,
    delong_variance,
    normal_interval,
    percentile_interval,
)
from ltbench.metrics.ranking import UndefinedMetricError
from ltbench.records.record import RunRecord

METRICS = {"image_auroc": "auroc", "image_ap": "ap", "image_f1_max": "f1_max"}
"""Metrics that follow from a record's scores -> what `bootstrap` calls them."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its intervals.

    Args:
        value: the run's, in [0, 1].
        bootstrap: between the outer percentiles of test images drawn anew.
        delong: by DeLong's variance, for AUROC; None of another metric, or where a class has fewer than two images.
    """

    value: float
    bootstrap: Interval
    delong: Interval | None


def image_intervals(record: RunRecord) -> dict[str, dict[str, Estimate]]:
    """Return metric -> category or group -> the run's value with its 95 % intervals, where it has a value.

    A group's interval is that of its mean over categories, whose test images are drawn independently. Of pixel metrics
    there is none: a record keeps no pixels. The same record gives the same numbers.
    """
    drawn, variances = _drawn(record)
    members = {name: (name,) for name in drawn} | {"high": record.high, "low": record.low}
    members["avg"] = record.high + record.low
    found: dict[str, dict[str, Estimate]] = {}
    for metric, name in METRICS.items():
        for group, value in record.metrics.get(metric, {}).items():
            own = [category for category in members.get(group, ()) if category in drawn]
            if own:
                replicates = np.mean([drawn[category][name] for category in own], axis=0)
                delong = _delong(value, own, variances) if metric == "image_auroc" else None
                found.setdefault(metric, {})[group] = Estimate(value, percentile_interval(replicates), delong)
    return found


def _drawn(record: RunRecord) -> tuple[dict[str, dict[str, NDArray[np.float64]]], dict[str, float]]:
    """Return the replicates of the categories that have image metrics, and DeLong's variances."""
    drawn, variances = {}, {}
    for category, entries in record.scores.items():
        scores = np.array([entry["score"] for entry in entries], dtype=np.float64)
        labels = np.array([entry["defect_type"] != GOOD for entry in entries], dtype=np.bool_)
        rng = np.random.default_rng(list(category.encode()))  # whatever the other categories are
        try:
            drawn[category] = bootstrap(scores, labels, rng)._asdict()
            variances[category] = delong_variance(scores, labels)
        except UndefinedMetricError:
            continue
    return drawn, variances


def _delong(value: float, own: list[str], variances: Mapping[str, float]) -> Interval | None:
    """Return the interval of a mean of independent AUROCs."""
    if any(category not in variances for category in own):
        return None
    return normal_interval(value, math.fsum(variances[category] for category in own) / len(own) ** 2)
