"""Which cells of a column are best: by the printed mean, or among the rows that a paired test cannot tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from ltbench.tables.cells import Cell, Column
from ltbench.tables.measurements import Measurement
from ltbench.tables.quantities import QUANTITIES, is_lowest_best

ALPHA = 0.05
"""Level of the test."""

Pairs = Mapping[tuple[str, str, int | None], float]
"""(category, training list, seed of the method, or None for the mean over seeds) -> value: what the test pairs."""

TEST = (
    "Bold: all measured rows that a Wilcoxon signed-rank test over category x list, over category x seed where there "
    "is one list, does not tell from the best "
    f"(two-sided, Holm-corrected, p >= {ALPHA:g}; below 6 pairs it never does)"
)
"""The test as a caption states it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a row compares with the best of its column: Holm-corrected p, and over how many pairs."""

    p: float
    pairs: int


def ranked(cells: Sequence[Cell], metric: str) -> list[Cell]:
    """Return the cells of a column with the best two means marked; what prints alike shares a rank."""
    means = [None if cell.mean is None else round(cell.mean, cell.digits) for cell in cells]
    shown = sorted({mean for mean in means if mean is not None}, reverse=not is_lowest_best(metric))
    ranks = {value: rank for rank, value in enumerate(shown[:2], start=1)}
    return [
        replace(cell, rank=ranks.get(mean, 0)) if mean is not None else cell
        for cell, mean in zip(cells, means, strict=True)
    ]


def ranked_by_test(cells: Sequence[Cell], samples: Sequence[Pairs], metric: str) -> list[Cell]:
    """Return the cells of a column with rank 1 for the best and all that the test does not tell from it.

    The best of the others has rank 2.

    Args:
        cells: the column.
        samples: the values behind each cell.
        metric: its id, which says whether the highest or the lowest mean is best.
    """
    best_of = min if is_lowest_best(metric) else max
    places = [place for place, cell in enumerate(cells) if cell.mean is not None]
    if not places:
        return list(cells)
    best = best_of(places, key=lambda place: cells[place].mean or 0.0)
    others = [place for place in places if place != best]
    verdicts = dict(zip(others, compare(samples[best], [samples[place] for place in others]), strict=True))
    first = {best, *(place for place, verdict in verdicts.items() if verdict.p >= ALPHA)}
    rest = {place: round(cells[place].mean or 0.0, cells[place].digits) for place in places if place not in first}
    ranks = dict.fromkeys(first, 1) | {place: 2 for place, mean in rest.items() if mean == best_of(rest.values())}
    return [replace(cell, rank=ranks.get(place, 0)) for place, cell in enumerate(cells)]


def ranked_column(
    cells: Sequence[Cell], rows: Sequence[Sequence[Measurement]], column: Column, significance: bool
) -> list[Cell]:
    """Return the cells of a column with their ranks.

    Args:
        cells: the column.
        rows: the runs behind each cell.
        column: what it holds.
        significance: whether the best are all that a paired test cannot tell apart; what runs took is not tested, since
            it has no values by category.
    """
    if not significance or QUANTITIES[column.metric].is_resource:
        return ranked(cells, column.metric)
    return ranked_by_test(cells, pairs_of(rows, column.metric, column.group), column.metric)


def compare(best: Pairs, others: Sequence[Pairs]) -> list[Verdict]:
    """Return how each row compares with the best one: two-sided Wilcoxon signed-rank tests, Holm-corrected.

    Pairs are the categories and lists, or seeds, that both rows have; a zero difference counts half to either side.
    Fewer than 6 pairs can never reach the level, and give a p of 1 if there are none. Source: Demsar, Statistical
    Comparisons of Classifiers over Multiple Data Sets, JMLR 7 (2006), sections 3.1.3 and 3.2.2.
    """
    raw = [_wilcoxon(best, other) for other in others]
    order = sorted(range(len(raw)), key=lambda place: raw[place].p)
    corrected, running = dict[int, float](), 0.0
    for step, place in enumerate(order):
        running = max(running, min(1.0, (len(raw) - step) * raw[place].p))
        corrected[place] = running
    return [Verdict(corrected[place], verdict.pairs) for place, verdict in enumerate(raw)]


def pairs_of(rows: Sequence[Sequence[Measurement]], metric: str, group: str) -> list[Pairs]:
    """Return the values of each row of a column that the test pairs, as the column's means and ± are made.

    They are one value a category of the group and training list, the mean over the method's seeds; or one a category
    and seed where the column has one list. Lists of one name with other images are two lists.
    """
    keys = {(found.split, found.split_sha256) for runs in rows for found in runs}
    return [_pairs(runs, metric, group, by_seed=len(keys) == 1) for runs in rows]


def _pairs(runs: Sequence[Measurement], metric: str, group: str, *, by_seed: bool) -> Pairs:
    values: dict[tuple[str, str, int | None], list[float]] = {}
    for found in runs:
        own = found.values.get(metric, {})
        for category in found.members.get(group, (group,)):  # a category stands for itself
            if category in own:
                key = (category, f"{found.split} {found.split_sha256}", found.seed if by_seed else None)
                values.setdefault(key, []).append(own[category])
    return {key: fmean(several) for key, several in values.items()}


def _wilcoxon(best: Pairs, other: Pairs) -> Verdict:
    from scipy.stats import wilcoxon

    common = sorted(set(best) & set(other))
    differences = np.round([best[key] - other[key] for key in common], 12)  # what rounding alone makes is no difference
    if not np.any(differences):
        return Verdict(1.0, len(common))
    return Verdict(float(wilcoxon(differences, zero_method="zsplit").pvalue), len(common))
