"""What a table is: rows x columns of cells, each measured, published, or missing with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from ltbench.metrics.registry import metric_titles

Placement = Literal["off", "beside", "below"]
"""Where a published value stands: nowhere, behind the measured one, or on a line of its own."""

METRIC_TITLES = metric_titles()
GROUP_TITLES = {"high": "High", "low": "Low", "avg": "Avg"}
GROUP_MEANINGS = {
    "avg": "mean over all categories",
    "high": "mean over the majority categories",
    "low": "mean over the minority categories",
}


@dataclass(frozen=True, slots=True)
class TrainingList:
    """A split with its seed, its sha256, and how many method seeds were run on it."""

    name: str
    sha256: str
    seeds: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table, or why there is none.

    Numbers are in percent, those of resources in seconds or MiB.

    Args:
        mean: mean over lists of the means over method seeds, or None.
        std: sample standard deviation over lists, over method seeds where there is one list, or None where
            nothing was drawn more than once: a single run, or a method that gives the same numbers under every seed.
        count: number of runs.
        reason: why `mean` is None.
        rank: 1 for the best of its column, 2 for the second, 0 else; ties share a rank.
        mark: footnotes of the measured value, separated by commas.
        published: what the paper prints, in percent, or None.
        published_text: the published value as text, "N/A" where the paper has none, "" where it has no such cell.
        published_mark: footnote of the published value.
        runs: hashes of the runs that the mean is over.
        lists: the training lists that they were trained on.
        pooled: in which versions, devices or data they differ, as a footnote, or "".
        digits: decimals of what is printed.
    """

    mean: float | None
    std: float | None = None
    count: int = 0
    reason: str = ""
    rank: int = 0
    mark: str = ""
    published: float | None = None
    published_text: str = ""
    published_mark: str = ""
    runs: tuple[str, ...] = ()
    lists: tuple[TrainingList, ...] = ()
    pooled: str = ""
    digits: int = 2

    @property
    def marks(self) -> tuple[str, ...]:
        """The footnotes of the measured value, one by one."""
        return tuple(filter(None, self.mark.split(",")))

    def marked(self, *marks: str) -> Cell:
        """Return the cell with further footnotes of the measured value; empty ones are none."""
        return replace(self, mark=",".join([*self.marks, *filter(None, marks)]))

    @property
    def design(self) -> str:
        """How many lists and how many method seeds on each: "5 lists x 3 seeds"."""
        if not self.lists:
            return ""
        least, most = min(own.seeds for own in self.lists), max(own.seeds for own in self.lists)
        seeds = f"{most} seed{'s' * (most > 1)}" if self.is_balanced else f"{least} to {most} seeds"
        return f"{len(self.lists)} list{'s' * (len(self.lists) > 1)} x {seeds}"

    @property
    def short_design(self) -> str:
        """The same without the words: "5 x 3"."""
        return re.sub(r" (lists?|seeds?)", "", self.design).replace(" to ", "–")

    @property
    def is_balanced(self) -> bool:
        """Whether every list has as many method seeds."""
        return len({own.seeds for own in self.lists}) <= 1

    @property
    def unit(self) -> str:
        """What ± is over: "lists", or "seeds" where there is one list."""
        return "lists" if len(self.lists) > 1 else "seeds"

    @property
    def draws(self) -> int:
        """The n of ±: how many lists, or how many seeds where there is one list."""
        return len(self.lists) if len(self.lists) > 1 else self.count

    @property
    def difference(self) -> float | None:
        """Measured minus published, in percentage points, or None where one is missing."""
        return None if self.mean is None or self.published is None else self.mean - self.published


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds: a metric of a group on a split, and its headings from the widest to the narrowest."""

    split: str
    metric: str
    group: str
    titles: tuple[str, ...]

    @property
    def title(self) -> str:
        """The headings in one line."""
        return " ".join(self.titles)


@dataclass(frozen=True, slots=True)
class Precision:
    """How exactly a table prints its numbers.

    Args:
        digits: decimals of percentages.
        has_std: whether ± stands behind means.
    """

    digits: int = 2
    has_std: bool = True


USUAL = Precision()


Row = tuple[str, tuple[Cell, ...]]
"""A row's title and its cells, in column order."""


@dataclass(frozen=True)
class Table:
    """Rows x columns of cells, ready to be rendered.

    Args:
        columns: what each column holds.
        rows: title of each row and its cells, in column order.
        notes: footnotes, each with the mark that rows, cells or the caption carry.
        caption: what the numbers are.
        placement: where published values stand.
        methods_across: whether methods are printed as columns and splits as rows.
        name: what LaTeX refers to it by.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[tuple[str, str], ...] = ()
    caption: str = ""
    placement: Placement = "off"
    methods_across: bool = False
    name: str = "ltbench"


@dataclass(frozen=True)
class Grid:
    """A table as it is printed: headings by column, and lines; the splits are the lines if methods run across."""

    corner: str
    heads: tuple[tuple[str, ...], ...]
    lines: tuple[Row, ...]

    @classmethod
    def of(cls, table: Table) -> Grid:
        """Return how a table is printed."""
        if not table.methods_across:
            return cls("Method", tuple(column.titles for column in table.columns), table.rows)
        places = [
            (title, [place for place, _ in group])
            for title, group in groupby(enumerate(table.columns), key=lambda item: item[1].titles[0])
        ]
        narrow = [table.columns[place].titles[1:] for place in places[0][1]]
        heads = tuple((title, *titles) for title, _ in table.rows for titles in narrow)
        lines = tuple((split, tuple(cells[place] for _, cells in table.rows for place in own)) for split, own in places)
        return cls("Training set", heads, lines)

    def levels(self) -> list[list[tuple[str, ...]]]:
        """Return the headings by level, the widest first, each with those above it, which tell equal ones apart."""
        depth = len(self.heads[0]) if self.heads else 0
        return [[head[: level + 1] for head in self.heads] for level in range(depth)]


class Marks:
    """Footnote marks, the same one for the same note: asterisks for rows, letters for cells."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []

    def mark(self, note: str) -> str:
        """Return the mark of a row's note; an empty note has none."""
        return self._mark(note, lambda number: "*" * number if number <= 3 else f"({number})")

    def letter(self, note: str) -> str:
        """Return the mark of a cell's note; an empty note has none."""
        return self._mark(note, lambda number: chr(96 + number) if number <= 26 else f"z{chr(96 + number - 26)}")

    def _mark(self, note: str, spelled: Callable[[int], str]) -> str:
        if not note:
            return ""
        for mark, known in self.notes:
            if known == note:
                return mark
        is_letter = spelled(1).isalpha()
        mark = spelled(1 + sum(other.isalpha() == is_letter for other, _ in self.notes))
        self.notes.append((mark, note))
        return mark


def spans(level: Sequence[tuple[str, ...]]) -> list[tuple[str, int]]:
    """Return the headings of a level in which equal neighbours are joined: text and width in columns."""
    return [(head[-1], len(list(group))) for head, group in groupby(level)]
