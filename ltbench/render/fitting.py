"""How wide a table is, and its parts where it is too wide: pure layout, the same for points and for letters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ltbench.tables.arrangement import Part, Per, part_of, parts_by
from ltbench.tables.cells import Cell, Grid, Table, spans

TITLE_SHARE = 0.4
"""Of the width, at most for the titles of rows; longer ones are broken."""


@dataclass(frozen=True)
class Ruler:
    """What a format needs to know of widths, in a unit of its own.

    Args:
        text: width of a text.
        cell: width of a cell.
        gap: between two columns.
        limit: what a table may be as wide as.
    """

    text: Callable[[str], float]
    cell: Callable[[Cell], float]
    gap: float
    limit: float


@dataclass(frozen=True)
class Measured:
    """The widths of a printed table: of its titles, and of each column."""

    title: float
    columns: tuple[float, ...]
    gap: float

    @property
    def total(self) -> float:
        """The width of the table."""
        return self.title + sum(self.columns) + self.gap * len(self.columns)

    def span(self, first: int, count: int) -> float:
        """Return the width of neighbouring columns with the gaps between them."""
        return sum(self.columns[first : first + count]) + self.gap * (count - 1)


def measured(grid: Grid, ruler: Ruler) -> Measured:
    """Return the widths of a table whose headings are broken where they are wider than what stands below them."""
    widths = [max(ruler.cell(cells[place]) for _, cells in grid.lines) for place in range(len(grid.heads))]
    for level in reversed(grid.levels()):
        first = 0
        for text, count in spans(level):
            lacking = max(map(ruler.text, pieces(text))) - sum(widths[first : first + count]) - ruler.gap * (count - 1)
            more = max(0, math.ceil(lacking / count))
            widths[first : first + count] = [width + more for width in widths[first : first + count]]
            first += count
    titles = [grid.corner, *(title for title, _ in grid.lines)]
    most = TITLE_SHARE * ruler.limit
    title = max(ruler.text(line) for text in titles for line in broken(text, most, ruler.text))
    return Measured(title, tuple(widths), ruler.gap)


def pieces(text: str) -> list[str]:
    """Return a text in the parts between which it may be broken: behind spaces, commas, and underscores of names."""
    return re.findall(r".+?(?:\s+|,(?=\w)|_(?=\w\w)|$)", text, re.DOTALL) or [text]


def broken(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Return a text in lines that are at most as wide as said, or as wide as a part that cannot be broken."""
    lines = [""]
    for piece in pieces(text):
        if lines[-1] and measure((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def fitting(table: Table, per: Per | None, ruler: Ruler) -> list[Part]:
    """Return a table in parts that fit: a metric or split each if asked for, else as few as are enough.

    It is broken between its widest headings, or by metric if that gives fewer parts.
    """
    parts = _all_packed(parts_by(table, per), ruler)
    if per is None and len(parts) > 1:
        parts = min(parts, _all_packed(parts_by(table, "metric"), ruler), key=len)
    return parts


def _all_packed(parts: Sequence[Part], ruler: Ruler) -> list[Part]:
    found: list[Part] = []
    for subject, own in parts:
        packed = _packed(own, ruler)
        if len(packed) == 1:
            found.append((subject, own))
        else:
            found += [(", ".join(filter(None, (subject, _headings(part)))), part) for part in packed]
    return found


def _headings(table: Table) -> str:
    """Return what stands above all columns of a part, or where there is nothing above all, its widest headings."""
    levels = Grid.of(table).levels()
    shared = [level for level in levels if len(set(level)) == 1]
    return ", ".join(dict.fromkeys(" ".join(filter(None, head)) for head in (shared or levels[:1])[-1]))


def _packed(table: Table, ruler: Ruler) -> list[Table]:
    """Return a table in parts of neighbouring columns, each as wide as fits; below that the columns one by one."""
    if len(Grid.of(table).heads) == 1 or measured(Grid.of(table), ruler).total <= ruler.limit:
        return [table]
    blocks = _blocks(table)
    if len(blocks) == 1:
        return [table]
    parts: list[list[Table]] = []
    taken: list[int] = []
    for number in range(len(blocks)):
        wider = [*taken, number]
        if taken and measured(Grid.of(_joined(table, [blocks[own] for own in wider])), ruler).total > ruler.limit:
            parts.append(_packed(_joined(table, [blocks[own] for own in taken]), ruler))
            wider = [number]
        taken = wider
    parts.append(_packed(_joined(table, [blocks[own] for own in taken]), ruler))
    return [part for own in parts for part in own]


Block = tuple[tuple[int, ...], tuple[int, ...]]
"""Rows and columns of a table that stand below one heading."""


def _blocks(table: Table) -> list[Block]:
    """Return what stands below each of the widest headings that differ."""
    rows = tuple(range(len(table.rows)))
    if table.methods_across and len(rows) > 1:
        return [((row,), tuple(range(len(table.columns)))) for row in rows]
    first = int(table.methods_across)  # of a split that is a row, the heading is no column's
    depth = len(table.columns[0].titles)
    for level in range(first, depth):
        found: dict[tuple[str, ...], list[int]] = {}
        for place, column in enumerate(table.columns):
            found.setdefault(column.titles[first : level + 1], []).append(place)
        if len(found) > 1:
            return [(rows, tuple(places)) for places in found.values()]
    return [(rows, tuple(range(len(table.columns))))]


def _joined(table: Table, blocks: Sequence[Block]) -> Table:
    rows = dict.fromkeys(row for own, _ in blocks for row in own)
    columns = dict.fromkeys(place for _, own in blocks for place in own)
    return part_of(table, sorted(columns), sorted(rows))
