"""What is best: printed ranks, and the paired test against its own reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.metrics import METRICS, Metric, registry
from ltbench.tables.cells import Cell
from ltbench.tables.ranking import Pairs, compare, ranked, ranked_by_test


def _pairs(values: list[float]) -> Pairs:
    return {(f"c{place}", "s", 0): value for place, value in enumerate(values)}


def _exact(differences: list[float]) -> float:
    """Two-sided p of the signed-rank statistic from all 2^n signs; no ties and no zeros."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    statistic = ranks[np.array(differences) > 0].sum()
    every = [ranks[np.array(signs)].sum() for signs in itertools.product([False, True], repeat=len(ranks))]
    low = np.mean([value <= statistic for value in every])
    high = np.mean([value >= statistic for value in every])
    return float(min(1.0, 2 * min(low, high)))


@settings(deadline=None)  # the first call imports scipy.stats
@given(st.lists(st.integers(-400, 400).filter(bool), min_size=3, max_size=9, unique_by=abs))
def test_the_test_is_the_exact_signed_rank_test(differences: list[int]) -> None:
    steps = [value / 1000 for value in differences]
    best, other = _pairs([0.5 + step for step in steps]), _pairs([0.5] * len(steps))
    (verdict,) = compare(best, [other])
    assert verdict.p == pytest.approx(_exact(steps))
    assert verdict.pairs == len(steps)


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    best = _pairs([0.9] * 9)
    rng = np.random.RandomState(0)
    others: list[Pairs] = [_pairs(list(0.9 - rng.rand(9) * scale)) for scale in (0.1, 0.2)]
    others.append(_pairs([0.9 + (-1) ** place * 0.01 * place for place in range(9)]))
    alone = [compare(best, [other])[0].p for other in others]
    together = [verdict.p for verdict in compare(best, others)]
    order = np.argsort(alone)
    expected = np.maximum.accumulate([min(1, (3 - step) * alone[place]) for step, place in enumerate(order)])
    assert [together[place] for place in order] == pytest.approx(list(expected))
    assert min(together) == pytest.approx(3 * 2 / 2**9)


def test_equal_rows_and_strangers_cannot_be_told_apart() -> None:
    assert compare(_pairs([0.5, 0.6]), [_pairs([0.5, 0.6])])[0].p == 1
    assert compare(_pairs([0.5]), [{("other", "s", 0): 0.1}])[0] == compare({}, [{}])[0]


def test_bold_is_what_the_test_cannot_tell_from_the_best() -> None:
    best, near, far = [0.9 + 0.001 * k for k in range(8)], [0.9 - 0.001 * (-1) ** k * k for k in range(8)], [0.5] * 8
    cells = [Cell(100 * float(np.mean(values))) for values in (far, best, near)] + [Cell(None), Cell(40.0)]
    samples = [_pairs(far), _pairs(best), _pairs(near), {}, _pairs([0.4] * 8)]
    assert [cell.rank for cell in ranked(cells, "image_auroc")] == [0, 1, 2, 0, 0]
    assert [cell.rank for cell in ranked_by_test(cells, samples, "image_auroc")] == [2, 1, 1, 0, 0]
    assert ranked_by_test([Cell(None)], [{}], "image_auroc") == [Cell(None)]


def test_few_pairs_leave_all_bold() -> None:
    cells = [Cell(90.0), Cell(10.0)]
    samples = [_pairs([0.9, 0.91, 0.92, 0.93, 0.94]), _pairs([0.1] * 5)]
    assert [cell.rank for cell in ranked_by_test(cells, samples, "image_auroc")] == [1, 1]
    more = [_pairs([0.9 + 0.01 * k for k in range(6)]), _pairs([0.1] * 6)]
    assert [cell.rank for cell in ranked_by_test(cells, more, "image_auroc")] == [1, 2]


def test_the_lowest_is_best_where_lower_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    added = Metric("image_loss", "Image loss", "image", lambda of: 1 - of.ranking.auroc, lower_is_better=True)
    monkeypatch.setattr(registry, "METRICS", (*METRICS, added))
    cells = [Cell(90.0), Cell(None), Cell(10.0), Cell(50.0)]
    assert [cell.rank for cell in ranked(cells, "image_loss")] == [0, 0, 1, 2]
    assert [cell.rank for cell in ranked(cells, "image_auroc")] == [1, 0, 0, 2]
    samples: list[Pairs] = [
        {(f"c{place}", "split", 0): mean + place for place in range(8)} for mean in (90.0, 0.0, 10.0, 50.0)
    ]
    assert [cell.rank for cell in ranked_by_test(cells, samples, "image_loss")] == [0, 0, 1, 2]
    assert [cell.rank for cell in ranked_by_test(cells, samples, "image_auroc")] == [1, 0, 0, 2]
