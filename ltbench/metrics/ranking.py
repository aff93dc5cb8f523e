"""How well scores rank positives above negatives: AUROC, AP and F1-max, exact and with ties.

All three follow from where each positive score falls among the sorted negative scores, so nothing is binned, rescaled
or squashed, and a strictly increasing map of the scores changes no value.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ltbench.errors import ContractError, DataError, LtbenchError

Values = NDArray[np.number[Any]]
"""Scores of any real type; float32 from a method."""

Flags = NDArray[np.bool_]
"""True where positive: an anomalous image, a defect pixel."""

CHUNK = 1 << 18
"""Positives handled at once. It bounds the memory and changes nothing else that matters: 2**18 keeps the sorted
look-ups as fast as one pass while the temporaries stay near 20 MiB."""

SLOW = 20e-9
"""Seconds a value above which NumPy's sort is slower than `radix`."""

_SAMPLE = 1 << 16  # values that NumPy's sort is timed on


class UndefinedMetricError(LtbenchError):
    """A metric that has no value for these labels; the message is the reason ("no anomalous images")."""


class RankingMetrics(NamedTuple):
    """The three ranking metrics, each in [0, 1]."""

    auroc: float
    ap: float
    f1_max: float


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the probability that a positive scores above a negative, a tie counting one half.

    This is the Mann-Whitney statistic (Hanley and McNeil 1982), equal to the area under the ROC curve.

    Args:
        scores: (N,) finite real numbers, higher = more anomalous.
        labels: (N,) booleans or 0 and 1.

    Raises:
        UndefinedMetricError: one class only.
        ContractError: scores that are not (N,) finite real numbers.
        DataError: labels other than 0 and 1, or not one a score.
    """
    return ranking_metrics(scores, labels).auroc


def ap(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the average precision: the sum over thresholds of the recall gained times the precision there.

    A step sum, not a trapezoid (the definition of scikit-learn's `average_precision_score`).

    Args:
        scores: (N,) finite real numbers, higher = more anomalous.
        labels: (N,) booleans or 0 and 1.

    Raises:
        UndefinedMetricError: one class only.
        ContractError: scores that are not (N,) finite real numbers.
        DataError: labels other than 0 and 1, or not one a score.
    """
    return ranking_metrics(scores, labels).ap


def f1_max(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the largest F1 over all distinct thresholds.

    Args:
        scores: (N,) finite real numbers, higher = more anomalous.
        labels: (N,) booleans or 0 and 1.

    Raises:
        UndefinedMetricError: one class only.
        ContractError: scores that are not (N,) finite real numbers.
        DataError: labels other than 0 and 1, or not one a score.
    """
    return ranking_metrics(scores, labels).f1_max


def ranking_metrics(scores: ArrayLike, labels: ArrayLike, *, of: str = "images") -> RankingMetrics:
    """Return AUROC, AP and F1-max of the same scores from one sort.

    Args:
        scores: (N,) finite real numbers, higher = more anomalous.
        labels: (N,) booleans or 0 and 1.
        of: what is scored, for the reason when a metric is undefined.

    Raises:
        UndefinedMetricError: one class only.
        ContractError: scores that are not (N,) finite real numbers.
        DataError: labels other than 0 and 1, or not one a score.
    """
    values, flags = checked_scores(scores), checked_labels(labels)
    if len(values) != len(flags):
        raise DataError(f"Expected as many labels as scores, got {len(flags)} and {len(values)}. Give one a score.")
    return ranking_of_sorted(*sorted_classes(values[flags], values[~flags], of=of))


def checked_scores(scores: ArrayLike) -> Values:
    """Return scores as a vector of finite real numbers, or raise `ContractError`."""
    values = np.asarray(scores)
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise ContractError(
            f"Expected (N,) real scores, got {values.shape} {values.dtype}. Return one number an image."
        )
    if not np.isfinite(values).all():
        raise ContractError("Expected finite scores, got NaN or infinity. Look for a division by zero.")
    return values


def checked_labels(labels: ArrayLike) -> Flags:
    """Return labels as a vector of booleans, or raise `DataError`."""
    flags = np.asarray(labels)
    if flags.ndim != 1 or not np.isin(flags, (0, 1)).all():
        raise DataError(f"Expected (N,) labels of 0 and 1, got {flags.shape} {flags.dtype}. Give 1 for anomalous.")
    return flags.astype(np.bool_)


def sorted_classes(positives: Values, negatives: Values, *, of: str) -> tuple[Values, Values]:
    """Sort both classes in place and return them, once it is clear that both are there and finite.

    Args:
        positives: (P,) scores, sorted in place.
        negatives: (N,) scores, sorted in place.
        of: what is scored, for the reason when there is nothing to rank.

    Raises:
        UndefinedMetricError: one class only.
        ContractError: a score that is not finite.
    """
    positives.sort()
    negatives.sort()
    return checked_classes(positives, negatives, of=of)


def checked_classes(positives: Values, negatives: Values, *, of: str) -> tuple[Values, Values]:
    """Return both classes, in ascending order already, once it is clear that both are there and finite.

    Arguments and errors are those of `sorted_classes`.
    """
    for values, kind in ((positives, "anomalous"), (negatives, "normal")):
        if not len(values):
            raise UndefinedMetricError(f"no {kind} {of}")
        # NaN is sorted to an end, so the ends tell of every value
        if not (np.isfinite(values[0]) and np.isfinite(values[-1])):
            raise ContractError(f"Expected finite scores of {of}, got NaN or infinity. Look for a division by zero.")
    return positives, negatives


@cache
def numpy_is_slow() -> bool:
    """Return whether NumPy sorts float32 slowly on this processor: timed once, in a few milliseconds."""
    values = np.random.Generator(np.random.PCG64(0)).random(_SAMPLE, np.float32)

    def seconds() -> float:
        unsorted = values.copy()
        start = time.perf_counter()
        unsorted.sort()
        return time.perf_counter() - start

    return min(seconds() for _ in range(5)) > SLOW * _SAMPLE


def ranking_of_sorted(positives: Values, negatives: Values) -> RankingMetrics:
    """Return AUROC, AP and F1-max of two classes.

    Args:
        positives: (P,) ascending scores, P > 0.
        negatives: (N,) ascending scores, N > 0.
    """
    total, twice_wins, precisions, best_f1 = len(positives), 0, 0.0, 0.0
    for chunk in in_chunks(positives):
        below, not_above = ranks(negatives, chunk)
        true = total - np.searchsorted(positives, chunk, "left")
        false = len(negatives) - below
        # integers of any size: the sum is exact, so that auroc(-s) is 1 - auroc(s)
        twice_wins += int(below.sum()) + int(not_above.sum())
        # each positive gains 1/P of recall at its own threshold
        precisions += float((true / (true + false)).sum())
        # 2 TP / (2 TP + FP + FN), and TP + FN = P
        best_f1 = max(best_f1, float((2 * true / (total + true + false)).max()))
    return RankingMetrics(twice_wins / (2 * total * len(negatives)), precisions / total, best_f1)


def ranks(negatives: Values, values: Values) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Count, for each value, the negatives below it and those not above it.

    Args:
        negatives: (N,) ascending, N > 0.
        values: (K,) ascending: neighbours share cache lines, which makes the search 5 times as fast.
    """
    below = np.searchsorted(negatives, values, "left")
    not_above = below.copy()
    # only a value that some negative equals has another count; in float maps they are few
    tied = negatives[np.minimum(below, len(negatives) - 1)] == values
    not_above[tied] = np.searchsorted(negatives, values[tied], "right")
    return below, not_above


def in_chunks(values: Values) -> Iterator[Values]:
    """Yield consecutive views of at most `CHUNK` values."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
