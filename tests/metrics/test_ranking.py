from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ltbench.errors import ContractError, DataError, LtbenchError
from ltbench.metrics import UndefinedMetricError, ap, auroc, f1_max, ranking
from ltbench.metrics.ranking import ranking_metrics

Metric = Callable[[Any, Any], float]
ALL: list[Metric] = [auroc, ap, f1_max]

# few distinct values, so that most examples have ties
_labels = st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda labels: 0 < sum(labels) < len(labels))
_tied = _labels.flatmap(
    lambda labels: st.tuples(
        st.lists(st.integers(-6, 6), min_size=len(labels), max_size=len(labels)).map(np.array),
        st.just(np.array(labels)),
    )
)
_floats = _labels.flatmap(
    lambda labels: st.tuples(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=len(labels), max_size=len(labels)).map(
            lambda values: np.array(values, np.float32)
        ),
        st.just(np.array(labels)),
    )
)
Case = tuple[NDArray[Any], NDArray[np.bool_]]


def _sklearn_f1_max(scores: NDArray[Any], labels: NDArray[np.bool_]) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    together = precision + recall
    return float(np.max(2 * precision[together > 0] * recall[together > 0] / together[together > 0]))


def test_the_textbook_example() -> None:
    # descending 0.8+, 0.4-, 0.35+, 0.1-: three of four pairs are in order; precision 1 and 2/3; best F1 2*2/(2+3)
    scores, labels = [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]
    assert auroc(scores, labels) == 0.75
    assert ap(scores, labels) == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)
    assert f1_max(scores, labels) == pytest.approx(4 / 5, abs=1e-15)


def test_a_tie_of_a_positive_with_a_negative() -> None:
    # 3+, then 2+ and 2- together, then 1-: wins 2 + 1.5 of 4; precision 1, then 2/3
    scores, labels = [3, 2, 2, 1], [1, 1, 0, 0]
    assert auroc(scores, labels) == 3.5 / 4
    assert ap(scores, labels) == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)
    assert f1_max(scores, labels) == pytest.approx(2 * 2 / (2 + 3), abs=1e-15)


def test_equal_scores_tell_nothing() -> None:
    labels = [1, 1, 1, 0]
    assert auroc([5.0] * 4, labels) == 0.5
    assert ap([5.0] * 4, labels) == 0.75
    assert f1_max([5.0] * 4, labels) == pytest.approx(2 * 3 / (3 + 4), abs=1e-15)


def test_negative_and_positive_zero_are_one_score() -> None:
    assert auroc(np.array([0.0, -0.0], np.float32), [0, 1]) == 0.5


@given(_tied | _floats)
def test_equal_to_scikit_learn(case: Case) -> None:
    scores, labels = case
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert ap(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert f1_max(scores, labels) == pytest.approx(_sklearn_f1_max(scores, labels), abs=1e-12)


@given(_tied | _floats)
def test_in_the_unit_interval_and_mirrored(case: Case) -> None:
    scores, labels = case
    assert all(0 <= metric(scores, labels) <= 1 for metric in ALL)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-15)
    assert auroc(scores, ~labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-15)


@given(_tied | _floats, st.data())
def test_a_strictly_increasing_map_changes_nothing(case: Case, data: st.DataObject) -> None:
    scores, labels = case
    distinct, rank = np.unique(scores, return_inverse=True)
    # any other strictly increasing values: the map is exact by construction, no rounding can merge two scores
    images = data.draw(
        st.lists(
            st.floats(-(2.0**127), 2.0**127, width=32), min_size=len(distinct), max_size=len(distinct), unique=True
        )
    )
    mapped = np.sort(np.array(images, np.float32) + np.float32(0))[rank]
    assert ranking_metrics(mapped, labels) == ranking_metrics(scores, labels)


@given(_tied | _floats, st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_nothing(case: Case, random: Any) -> None:
    scores, labels = case
    order = random.sample(range(len(scores)), len(scores))
    assert ranking_metrics(scores[order], labels[order]) == ranking_metrics(scores, labels)


@given(_labels)
def test_a_perfect_ranking_is_one_exactly(labels: list[bool]) -> None:
    scores = np.array(labels) + np.linspace(0, 0.5, len(labels))
    assert ranking_metrics(scores, labels) == (1.0, 1.0, 1.0)
    assert auroc(-scores, labels) == 0.0


@given(_tied | _floats)
def test_chunks_do_not_show(case: Case) -> None:
    scores, labels = case
    whole = ranking_metrics(scores, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "CHUNK", 3)
        assert ranking_metrics(scores, labels) == pytest.approx(whole, abs=1e-12)


def test_float64_is_not_rounded() -> None:
    scores = np.array([1.0, 1.0 + 1e-12])
    assert np.float32(scores[0]) == np.float32(scores[1])
    assert auroc(scores, [0, 1]) == 1.0


def test_inputs_are_left_alone() -> None:
    scores, labels = np.array([3.0, 1.0, 2.0]), np.array([0, 1, 1])
    ranking_metrics(scores, labels)
    assert scores.tolist() == [3.0, 1.0, 2.0]
    assert labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(("labels", "reason"), [([1, 1], "no normal images"), ([0, 0], "no anomalous images")])
def test_one_class_has_no_value(metric: Metric, labels: list[int], reason: str) -> None:
    with pytest.raises(UndefinedMetricError, match=reason):
        metric([0.1, 0.2], labels)
    assert issubclass(UndefinedMetricError, LtbenchError)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("scores", [[0.1, np.nan], [np.inf, 0.1], [-np.inf, 0.1], [[0.1, 0.2]], ["a", "b"], [1j, 2j]])
def test_bad_scores(metric: Metric, scores: list[Any]) -> None:
    with pytest.raises(ContractError, match="scores"):
        metric(scores, [0, 1])


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("labels", [[0, 2], [0.5, 1], [0, 1, 1], [[0, 1]], [np.nan, 1], []])
def test_bad_labels(metric: Metric, labels: list[Any]) -> None:
    with pytest.raises(DataError, match="labels"):
        metric([0.1, 0.2], labels)
