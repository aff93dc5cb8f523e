"""How far image metrics depend on which test images were taken: DeLong's variance, and bootstrap replicates.

Both treat the training as given: they say nothing of other training lists or seeds, which `±` in tables is over.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from ltbench.metrics.ranking import (
    Flags,
    UndefinedMetricError,
    Values,
    checked_labels,
    checked_scores,
    sorted_classes,
)

LEVEL = 0.95
"""Confidence of an interval."""

REPLICATES = 2000
"""Bootstrap replicates; the ends of a 95 % interval then have about 50 of them beyond each."""


class Interval(NamedTuple):
    """The ends of a confidence interval, in [0, 1]."""

    low: float
    high: float


class Replicates(NamedTuple):
    """Bootstrap replicates of the three ranking metrics, (R,) each, in [0, 1]."""

    auroc: NDArray[np.float64]
    ap: NDArray[np.float64]
    f1_max: NDArray[np.float64]


def delong_variance(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the variance of an AUROC over draws of test images.

    With V10 the share of normal images that each anomalous one scores above, and V01 the same the other way round, it
    is var(V10) / P + var(V01) / N. Sources: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988); by ranks as in Sun
    and Xu, IEEE Signal Processing Letters 21 (2014). Where every anomalous image scores above every normal one it is 0,
    however few they are.

    Args:
        scores: (N,) finite real numbers, higher = more anomalous.
        labels: (N,) booleans or 0 and 1.

    Raises:
        UndefinedMetricError: fewer than two images of a class.
    """
    positives, negatives = _classes(scores, labels)
    if min(len(positives), len(negatives)) < 2:
        raise UndefinedMetricError("fewer than two images of a class")
    together = rankdata(np.concatenate([positives, negatives]))  # a tie counts half
    above = (together[: len(positives)] - rankdata(positives)) / len(negatives)
    below = 1 - (together[len(positives) :] - rankdata(negatives)) / len(positives)
    return float(above.var(ddof=1) / len(positives) + below.var(ddof=1) / len(negatives))


def normal_interval(value: float, variance: float, level: float = LEVEL) -> Interval:
    """Return the interval of a normal estimate, cut to [0, 1]."""
    half = float(norm.ppf((1 + level) / 2)) * variance**0.5
    return Interval(max(0.0, value - half), min(1.0, value + half))


def percentile_interval(replicates: NDArray[np.float64], level: float = LEVEL) -> Interval:
    """Return what lies between the outer quantiles of bootstrap replicates, (R,)."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bootstrap(
    scores: ArrayLike, labels: ArrayLike, rng: np.random.Generator, replicates: int = REPLICATES
) -> Replicates:
    """Return AUROC, AP and F1-max of test images that are drawn anew with replacement, as many of each class.

    Normal and anomalous images are drawn apart, so that the share of anomalous images stays that of the test set.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        scores: (N,) finite real numbers, higher = more anomalous.
        labels: (N,) booleans or 0 and 1.
        rng: what draws.
        replicates: how many.

    Raises:
        UndefinedMetricError: one class only.
    """
    positives, negatives = _classes(scores, labels)
    thresholds = np.unique(np.concatenate([positives, negatives]))[::-1]
    true_new, false_new = (_drawn(own, thresholds, rng, replicates) for own in (positives, negatives))
    true, false = true_new.cumsum(axis=1), false_new.cumsum(axis=1)
    total, others = len(positives), len(negatives)
    wins = (false_new * (true - true_new / 2)).sum(axis=1)
    precision = true / np.maximum(true + false, 1)
    return Replicates(
        auroc=wins / (total * others),
        ap=(true_new * precision).sum(axis=1) / total,
        f1_max=(2 * true / (total + true + false)).max(axis=1),
    )


def _drawn(own: Values, thresholds: Values, rng: np.random.Generator, replicates: int) -> NDArray[np.int64]:
    """Return how often the images of each threshold are drawn, (R, T)."""
    draws = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=replicates)
    places = np.searchsorted(-thresholds, -own[::-1])  # ascending, as the thresholds fall
    columns, starts = np.unique(places, return_index=True)
    counts = np.zeros((replicates, len(thresholds)), dtype=np.int64)
    counts[:, columns] = np.add.reduceat(draws[:, ::-1], starts, axis=1)
    return counts


def _classes(scores: ArrayLike, labels: ArrayLike) -> tuple[Values, Values]:
    """Return the scores of both classes, ascending."""
    values: Values = checked_scores(scores).astype(np.float64)
    flags: Flags = checked_labels(labels)
    return sorted_classes(values[flags], values[~flags], of="images")
