"""What a mean and its ± are over: the training lists of a cell, and the method seeds on each of them.

A training list is a split with its seed, known by its name and its sha256. A value is the mean over lists of the means
over the method seeds of a list; ± is the sample standard deviation over lists, or over method seeds where there is one
list. So neither a list that was run more often nor the luck of a method counts as a draw of the training images.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ltbench.tables.cells import Cell, Marks, TrainingList

if TYPE_CHECKING:
    from ltbench.tables.measurements import Measurement

OTHER_LISTS = "on other training lists than the rest of its column"


ListKey = tuple[str, str]
"""A split's name and its sha256."""


def by_list(runs: Iterable[Measurement]) -> dict[ListKey, list[Measurement]]:
    """Return the runs by training list, the lists by name."""
    found: dict[ListKey, list[Measurement]] = {}
    for run in sorted(runs, key=lambda own: (own.split, own.split_sha256, own.seed)):
        found.setdefault((run.split, run.split_sha256), []).append(run)
    return found


def lists_of(lists: Mapping[ListKey, Sequence[Measurement]]) -> tuple[TrainingList, ...]:
    """Return what a cell says of its training lists."""
    return tuple(TrainingList(name, sha256, len(runs)) for (name, sha256), runs in lists.items())


def why_not_pooled(lists: Mapping[ListKey, Sequence[Measurement]]) -> str:
    """Return why the runs of a cell have no mean, or "": two lists of one name, or two runs of one seed on a list."""
    seen: dict[str, tuple[str, str]] = {}
    for (name, sha256), runs in lists.items():
        other, run = seen.setdefault(name, (sha256, runs[0].run))
        if other != sha256:
            return f"runs {run} and {runs[0].run} have lists named {name} whose images differ; remove one"
        for before, after in pairwise(runs):
            if before.seed == after.seed:
                return f"runs {before.run} and {after.run} have seed {after.seed} on {name}; remove one"
    return ""


def mean_of_lists(values: Mapping[ListKey, Sequence[float]]) -> float:
    """Return the mean over lists of the means over the seeds of a list."""
    return statistics.fmean(statistics.fmean(own) for own in values.values())


def spread_of_lists(values: Mapping[ListKey, Sequence[float]]) -> float | None:
    """Return the sample standard deviation over lists, over seeds of the only list, or None of a single value."""
    means = [statistics.fmean(own) for own in values.values()]
    drawn = means if len(means) > 1 else [value for own in values.values() for value in own]
    return statistics.stdev(drawn) if len(drawn) > 1 else None


def usual_design(cells: Iterable[Cell]) -> str:
    """Return how many lists and seeds most cells with a value have, the larger of equally common ones."""
    counts = Counter((cell.design, cell.count) for cell in cells if cell.mean is not None and cell.lists)
    return max(counts, key=lambda own: (counts[own], own[1]))[0] if counts else ""


def spread_caption(cells: Sequence[Cell], has_std: bool = True) -> str:
    """Return what a caption says of lists, seeds and ±, or "" where every cell is of one run.

    Args:
        cells: all cells of a table.
        has_std: whether ± stands behind means.
    """
    several = [cell for cell in cells if cell.mean is not None and cell.count > 1]
    if not several:
        return ""
    usual = usual_design(cells)
    like = [cell for cell in several if cell.design == usual]
    spread = has_std and any(cell.std is not None for cell in several)
    equal = "; no ± where all of them give the same numbers" if spread and any(c.std is None for c in several) else ""
    if not like:
        over = "; ± is the sample standard deviation over lists, over seeds where there is one list" if spread else ""
        return f"; {usual} unless marked{over}{equal}"
    nested = len(like[0].lists) > 1 and like[0].count > len(like[0].lists)
    mean = "mean over the seeds of a list, then over lists" if nested else "mean"
    if not spread:
        return f"; {usual}: {mean}{'' if not has_std else ', without a deviation: all of them give the same numbers'}"
    over = f"± sample standard deviation over {like[0].unit} (n = {like[0].draws})"
    return f"; {usual}: {mean}{',' * nested} {over}{equal}"


def with_notes(columns: Sequence[Sequence[Cell]], marks: Marks) -> list[list[Cell]]:
    """Return the cells with a mark where lists or seeds are not those of most of the table, or of the column."""
    usual = usual_design([cell for column in columns for cell in column])
    return [
        [cell.marked(*map(marks.letter, notes)) for cell, notes in zip(column, list_notes(column, usual), strict=True)]
        for column in columns
    ]


def list_notes(column: Sequence[Cell], usual: str) -> list[list[str]]:
    """Return what there is to say of the lists and seeds of each cell of a column.

    Args:
        column: the cells.
        usual: how many lists and seeds most cells of the table have.
    """
    sets = [frozenset((own.name, own.sha256) for own in cell.lists) for cell in column if cell.mean is not None]
    shared = max(dict.fromkeys(sets), key=lambda own: (sets.count(own), len(own)), default=frozenset[ListKey]())
    return [_notes(cell, usual, shared) if cell.mean is not None and cell.lists else [] for cell in column]


def _notes(cell: Cell, usual: str, shared: frozenset[ListKey]) -> list[str]:
    notes = []
    if not cell.is_balanced or cell.design != usual:
        spread = "" if cell.std is None else f", ± over {cell.unit} (n = {cell.draws})"
        notes.append(f"{'' if cell.is_balanced else 'unbalanced, '}over {cell.design}{spread}")
    if not {(own.name, own.sha256) for own in cell.lists} <= shared:
        notes.append(OTHER_LISTS)
    return [*notes, cell.pooled] if cell.pooled else notes
