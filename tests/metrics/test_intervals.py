"""Intervals over test images: DeLong's variance and the bootstrap against slow, independent ones."""

from __future__ import annotations

from itertools import product
from statistics import fmean, variance

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from ltbench.metrics.intervals import (
    Interval,
    bootstrap,
    delong_variance,
    normal_interval,
    percentile_interval,
)
from ltbench.metrics.ranking import UndefinedMetricError, f1_max

Sample = tuple[list[float], list[bool]]


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Scores with ties, two images of each class at least."""
    counts = [draw(st.integers(2, 12)) for _ in range(2)]
    scores = draw(st.lists(st.integers(0, 8), min_size=sum(counts), max_size=sum(counts)))
    return [float(score) for score in scores], [True] * counts[0] + [False] * counts[1]


def slow_delong(scores: list[float], labels: list[bool]) -> float:
    """Return the variance by the definition: a comparison of every pair."""
    positives = [score for score, label in zip(scores, labels, strict=True) if label]
    negatives = [score for score, label in zip(scores, labels, strict=True) if not label]
    psi = [[1.0 if p > n else 0.5 if p == n else 0.0 for n in negatives] for p in positives]
    rows, columns = [fmean(row) for row in psi], [fmean(column) for column in zip(*psi, strict=True)]
    return variance(rows) / len(rows) + variance(columns) / len(columns)


@given(samples())
@settings(max_examples=60, deadline=None)
def test_delongs_variance_is_that_of_all_pairs(sample: Sample) -> None:
    assert delong_variance(*sample) == pytest.approx(slow_delong(*sample), abs=1e-12)


@given(samples())
@settings(max_examples=30, deadline=None)
def test_delongs_variance_is_that_of_the_reversed_scores(sample: Sample) -> None:
    scores, labels = sample
    assert delong_variance([-score for score in scores], labels) == pytest.approx(delong_variance(*sample), abs=1e-12)


def slow_bootstrap(scores: list[float], labels: list[bool], rng: np.random.Generator, count: int) -> list[list[float]]:
    """Return replicates by repeating each image as often as it is drawn, with scikit-learn's metrics."""
    values, flags = np.array(scores), np.array(labels)
    classes = [np.sort(values[flags]), np.sort(values[~flags])]
    draws = [rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=count) for own in classes]
    found = []
    for taken in zip(*draws, strict=True):
        drawn = np.concatenate([np.repeat(own, times) for own, times in zip(classes, taken, strict=True)])
        truth = np.repeat([1, 0], [len(own) for own in classes])
        found.append([roc_auc_score(truth, drawn), average_precision_score(truth, drawn), f1_max(drawn, truth)])
    return found


@given(samples(), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_replicates_are_the_metrics_of_images_drawn_anew(sample: Sample, seed: int) -> None:
    fast = np.transpose(bootstrap(*sample, np.random.default_rng(seed), 5))
    assert fast == pytest.approx(np.array(slow_bootstrap(*sample, np.random.default_rng(seed), 5)), abs=1e-12)


def test_both_agree_with_each_other_and_cover_the_truth() -> None:
    """Of 200 draws of 60 images, the intervals hold the AUROC of all images in about 95 %."""
    rng = np.random.default_rng(0)
    held = {"delong": 0, "bootstrap": 0}
    truth = 0.8555778168267576  # of N(1.5, 1) above N(0, 1): Phi(1.5 / sqrt(2))
    for _ in range(200):
        scores, labels = rng.normal(np.repeat([1.5, 0.0], [40, 60])), np.repeat([True, False], [40, 60])
        value = float(roc_auc_score(labels, scores))
        delong = normal_interval(value, delong_variance(scores, labels))
        percentile = percentile_interval(bootstrap(scores, labels, rng, 300).auroc)
        held["delong"] += delong.low <= truth <= delong.high
        held["bootstrap"] += percentile.low <= truth <= percentile.high
        assert delong == pytest.approx(percentile, abs=0.04)
    assert all(0.90 <= count / 200 <= 0.99 for count in held.values()), held


def test_intervals_stay_within_what_metrics_can_be() -> None:
    assert normal_interval(0.99, 0.01) == pytest.approx(Interval(0.794, 1.0), abs=1e-3)
    assert normal_interval(0.01, 0.01).low == 0.0
    perfect = ([2.0, 3.0, 0.0, 1.0], [True, True, False, False])
    assert delong_variance(*perfect) == 0.0
    assert all((own == 1).all() for own in bootstrap(*perfect, np.random.default_rng(0), 20))


def test_one_class_and_single_images_have_no_interval() -> None:
    for scores, labels in product(([1.0, 2.0],), ([True, True], [False, False])):
        with pytest.raises(UndefinedMetricError, match="images"):
            bootstrap(scores, labels, np.random.default_rng(0))
    with pytest.raises(UndefinedMetricError, match="fewer than two"):
        delong_variance([1.0, 2.0, 3.0], [True, False, False])
