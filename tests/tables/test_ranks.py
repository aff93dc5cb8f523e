"""Ranks over splits: tests against known tables and an independent computation, cliques, and what cannot be ranked."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from ltbench.errors import SpecError
from ltbench.tables.ranks import Ranking, critical_difference, rank

NEMENYI = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""q at level 0.05; source: Demsar (2006), Table 5a."""


def _values(*rows: list[float]) -> dict[str, dict[str, float]]:
    return {chr(97 + n): {f"s{k}": value for k, value in enumerate(row)} for n, row in enumerate(rows)}


@pytest.mark.parametrize(("methods", "q"), NEMENYI.items())
def test_the_critical_difference_is_that_of_the_table(methods: int, q: float) -> None:
    expected = q * math.sqrt(methods * (methods + 1) / (6 * 14))
    assert critical_difference(methods, 14) == pytest.approx(expected, abs=0.002)


def test_ranks_are_means_over_splits_and_ties_share() -> None:
    found = rank(_values([0.9, 0.8, 0.7], [0.8, 0.8, 0.9], [0.1, 0.2, 0.3]))
    assert found.ranks == {"a": (1 + 1.5 + 2) / 3, "b": (2 + 1.5 + 1) / 3, "c": 3.0}
    assert list(rank(_values([1, 1], [2, 2], [3, 3]), lower_is_better=True).ranks) == ["a", "b", "c"]
    assert list(rank(_values([1, 1], [2, 2], [3, 3])).ranks) == ["c", "b", "a"]


def test_friedmans_p_is_near_that_of_all_permutations() -> None:
    """The share of all ways to permute 3 methods on 4 splits that spread mean ranks at least as far."""
    values = _values([4, 4, 4, 3], [3, 3, 2, 4], [1, 1, 1, 1])
    ranks = np.array(list(rank(values).ranks.values()))

    def spread(mean_ranks: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        return float(((mean_ranks - 2) ** 2).sum())

    orders = [np.array(order) for order in permutations((1, 2, 3))]
    sums = [a + b + c + d for a in orders for b in orders for c in orders for d in orders]
    exact = np.mean([spread(own / 4) >= spread(ranks) - 1e-12 for own in sums])
    assert rank(values).p == pytest.approx(exact, abs=0.02)  # chi-square approximates it


def test_methods_that_are_not_told_apart_are_joined() -> None:
    splits = [[0.9 - 0.1 * place + 0.01 * split for split in range(12)] for place in range(5)]
    found = rank(_values(*splits))
    assert found.is_told_apart and found.critical_difference == pytest.approx(1.761, abs=0.001)
    assert found.cliques == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
    alike = rank(_values([1, 2, 3], [2, 3, 1], [3, 1, 2]))
    assert alike.p == pytest.approx(1.0) and alike.cliques == [("a", "b", "c")]
    assert rank(_values([1, 1], [1, 1], [1, 1])).p == 1.0
    far = Ranking({"a": 1.0, "b": 3.0, "c": 3.2}, ("s", "t"), {}, 0.01, 1.0)
    assert far.cliques == [("b", "c")]


def test_splits_that_a_method_lacks_are_left_out_and_told() -> None:
    values = _values([3, 3, 3], [2, 2, 2], [1, 1, 1])
    del values["c"]["s1"]
    found = rank(values)
    assert found.splits == ("s0", "s2") and found.left_out == {"s1": ("c",)}
    del values["a"]["s0"]
    with pytest.raises(SpecError, match="s0 lacks a; s1 lacks c"):
        rank(values)
    with pytest.raises(SpecError, match="3 methods"):
        rank(_values([1, 2], [3, 4]))
