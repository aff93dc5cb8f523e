"""A table in another order or in parts: rows sorted by a column, methods across, a part a metric or a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ltbench.errors import SpecError
from ltbench.tables.cells import Column, Row, Table
from ltbench.tables.groups import group_name
from ltbench.tables.quantities import QUANTITIES, is_lowest_best

Per = Literal["metric", "split"]
"""What a part of a table is of."""

BY_TITLE = "method"
"""The word that sorts rows by their titles."""


def sorted_by(table: Table, wanted: str) -> Table:
    """Return a table with its rows sorted: by the numbers of a column, the best first, or by their titles.

    Rows without a number come last; rows that are alike keep their order.

    Args:
        table: the table.
        wanted: "method", or words that name a column: its split, metric and group, separated by commas or spaces. Of
            several columns the first counts.

    Raises:
        SpecError: no column has all the words.
    """
    words = wanted.replace(",", " ").split()
    if words == [BY_TITLE]:
        return replace(table, rows=tuple(sorted(table.rows, key=lambda row: row[0].casefold())))
    places = [place for place, column in enumerate(table.columns) if words and set(words) <= _words_of(column)]
    if not places:
        known = dict.fromkeys(
            word for column in table.columns for word in (column.split, column.metric, group_name(column.group))
        )
        raise SpecError(
            f"Expected {BY_TITLE}, or a column by its split, metric and group, got {wanted!r}. Name some of: "
            f"{', '.join(known)}."
        )
    sign = 1 if is_lowest_best(table.columns[places[0]].metric) else -1

    def key(row: Row) -> tuple[bool, float]:
        mean = row[1][places[0]].mean
        return (mean is None, 0.0 if mean is None else sign * mean)

    return replace(table, rows=tuple(sorted(table.rows, key=key)))


def _words_of(column: Column) -> set[str]:
    return {column.split, column.metric, group_name(column.group), *column.titles}


def turned(table: Table) -> Table:
    """Return a table with its methods as columns and its splits as rows, or the other way round if they are so."""
    return replace(table, methods_across=not table.methods_across)


Part = tuple[str, Table]
"""What a part of a table is of, and the part."""


def parts_by(table: Table, per: Per | None) -> list[Part]:
    """Return a part a metric or a split, in the order of the columns; None gives the whole table.

    The headings that all columns of a part share are left out.
    """
    places: dict[str, list[int]] = {}
    for place, column in enumerate(table.columns):
        places.setdefault({"metric": column.metric, "split": column.split, None: ""}[per], []).append(place)
    if len(places) == 1:
        return [("", table)]
    subjects = {
        name: QUANTITIES[name].title if per == "metric" else table.columns[own[0]].titles[0]
        for name, own in places.items()
    }
    return [(subjects[name], without_shared(part_of(table, own))) for name, own in places.items()]


def numbered(parts: Sequence[Part]) -> list[Table]:
    """Return parts whose captions and names say which part of how many they are, and of what; the only one as it is."""
    if len(parts) == 1:
        return [parts[0][1]]
    return [
        replace(own, caption=f"{own.caption} Part {place} of {len(parts)}: {subject}.", name=f"{own.name}-{place}")
        for place, (subject, own) in enumerate(parts, start=1)
    ]


def part_of(table: Table, columns: Sequence[int], rows: Sequence[int] | None = None) -> Table:
    """Return a table with some of its columns and rows, and with the notes that these carry."""
    chosen = [table.rows[place] for place in (range(len(table.rows)) if rows is None else rows)]
    kept = tuple((title, tuple(cells[place] for place in columns)) for title, cells in chosen)
    marks = {mark for _, cells in kept for cell in cells for mark in (*cell.marks, cell.published_mark)}
    marks |= {mark for title, _ in kept for mark in _marks_of(title)}
    notes = tuple(note for note in table.notes if note[0] in marks)
    return replace(table, columns=tuple(table.columns[place] for place in columns), rows=kept, notes=notes)


def _marks_of(title: str) -> list[str]:
    """Return the marks behind a row's title, as `comparison.marked_title` puts them there."""
    found = re.search(r"(?:(?:\*+|\(\d+\))(?:,|$))+$", title)
    return found[0].split(",") if found else []


def without_shared(table: Table) -> Table:
    """Return a table without the headings that all of its columns share, as far as some are left."""
    depth = len(table.columns[0].titles)
    kept = [level for level in range(depth) if not _is_shared(table.columns, level, table.methods_across)]
    kept = kept or [0]
    columns = tuple(replace(column, titles=tuple(column.titles[level] for level in kept)) for column in table.columns)
    return replace(table, columns=columns)


def _is_shared(columns: Sequence[Column], level: int, methods_across: bool) -> bool:
    """Return whether a heading says the same of all columns; splits that are rows keep their names."""
    if methods_across and level == 0:
        return False
    return len({column.titles[level] for column in columns}) == 1
