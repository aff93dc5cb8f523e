"""Ranks of methods over splits, whether they differ by more than chance, and which a test cannot tell apart.

Source: Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), section 3.2: Friedman's
test of the ranks and, behind it, Nemenyi's of all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from ltbench.errors import SpecError
from ltbench.tables.comparison import natural

ALPHA = 0.05
"""Level of both tests."""


@dataclass(frozen=True)
class Ranking:
    """Mean ranks over splits.

    Args:
        ranks: method -> mean rank, 1 is best; the best first. Equal values share the mean of their ranks.
        splits: the splits that every method has a value on.
        left_out: split -> the methods that lack a value there.
        p: of Friedman's test that all methods rank alike.
        critical_difference: mean ranks that differ by less are not told apart by Nemenyi's test.
    """

    ranks: Mapping[str, float]
    splits: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]
    p: float
    critical_difference: float

    @property
    def is_told_apart(self) -> bool:
        """Whether Friedman's test rejects that all methods rank alike."""
        return self.p < ALPHA

    @property
    def cliques(self) -> list[tuple[str, ...]]:
        """The largest sets of two or more methods that are not told apart, the best first.

        They are all methods where Friedman's test rejects nothing.
        """
        names = list(self.ranks)
        if not self.is_told_apart:
            return [tuple(names)]
        found: list[tuple[str, ...]] = []
        last = 0
        for start, name in enumerate(names):
            bound = self.ranks[name] + self.critical_difference
            end = start + sum(self.ranks[other] < bound for other in names[start:])
            if end > last and end - start > 1:
                found.append(tuple(names[start:end]))
            last = max(last, end)
        return found


def rank(values: Mapping[str, Mapping[str, float]], *, lower_is_better: bool = False) -> Ranking:
    """Return the mean ranks of methods over the splits that all of them have.

    Args:
        values: method -> split -> value.
        lower_is_better: whether the smallest value ranks first.

    Raises:
        SpecError: fewer than three methods, or fewer than two splits that all of them have.
    """
    splits = sorted({split for own in values.values() for split in own}, key=natural)
    lacking = {split: tuple(name for name, own in values.items() if split not in own) for split in splits}
    shared = tuple(split for split, names in lacking.items() if not names)
    if len(values) < 3 or len(shared) < 2:
        gaps = "; ".join(f"{split} lacks {', '.join(names)}" for split, names in lacking.items() if names)
        raise SpecError(
            f"Expected 3 methods or more with runs on 2 shared splits or more, got {len(values)} and {len(shared)}"
            f"{f' ({gaps})' if gaps else ''}. Run what is missing, or choose with --method and --split."
        )
    table = np.array([[own[split] for split in shared] for own in values.values()])  # (methods, splits)
    table = np.round(table, 9)  # what rounding alone makes is no difference
    ranks = rankdata(table if lower_is_better else -table, axis=0).mean(axis=1)
    ordered = sorted(zip(values, ranks.tolist(), strict=True), key=lambda own: (own[1], own[0]))
    told = {split: names for split, names in lacking.items() if names}
    return Ranking(dict(ordered), shared, told, _friedman(table), critical_difference(len(values), len(shared)))


def critical_difference(methods: int, splits: int, alpha: float = ALPHA) -> float:
    """Return Nemenyi's critical difference q sqrt(k (k + 1) / (6 N)) of k methods on N splits.

    q is the quantile of the studentized range of k means with infinite degrees of freedom, divided by sqrt(2).
    """
    q = float(studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * splits))


def _friedman(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Return the p of Friedman's test; 1 where all methods are equal on every split."""
    if (table == table[0]).all():
        return 1.0
    return float(friedmanchisquare(*table).pvalue)
