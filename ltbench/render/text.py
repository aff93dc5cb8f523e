"""What the formats share: numbers as text, and where values are missing and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from ltbench.tables.cells import Cell, Table

DASH = "–"
"""What stands in a cell without a value."""


def number(cell: Cell) -> str:
    """Return a measured value with its deviation, or a dash."""
    if cell.mean is None:
        return DASH
    return f"{cell.mean:.{cell.digits}f}" + (f" ± {cell.std:.{cell.digits}f}" if cell.std is not None else "")


def published(cell: Cell, raised: Callable[[str], str], escape: Callable[[str], str]) -> str:
    """Return the published value with measured minus published, in parentheses, or "" where the paper has no cell.

    Args:
        cell: the cell.
        raised: makes a footnote mark a superscript of the format.
        escape: makes text literal in the format.
    """
    if not cell.published_text:
        return ""
    difference = "" if cell.difference is None else f", {signed(cell.difference, cell.digits)}"
    return escape(f"({cell.published_text}") + raised(cell.published_mark) + escape(f"{difference})")


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign and a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def reasons(table: Table) -> list[str]:
    """Return a sentence for each reason why values are missing: which rows, and where, unless in every column."""
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for title, cells in table.rows:
        lacking: dict[str, set[int]] = defaultdict(set)
        for place, cell in enumerate(cells):
            if cell.mean is None:
                lacking[cell.reason].add(place)
        for reason, places in lacking.items():
            rows[reason, _headings(table, places)].append(title)
    sentences: dict[str, list[str]] = defaultdict(list)
    for (reason, headings), titles in rows.items():
        sentences[reason].append(", ".join(titles) + (f" in {', '.join(headings)}" if headings else ""))
    return [f"No value ({reason}): {'; '.join(where)}." for reason, where in sentences.items()]


def _headings(table: Table, places: set[int]) -> tuple[str, ...]:
    """Return the headings of columns, the widest one for all columns below it, and none for all of the table."""
    if len(places) == len(table.columns):
        return ()
    below: dict[str, set[int]] = defaultdict(set)
    for place, column in enumerate(table.columns):
        below[column.titles[0]].add(place)
    named = []
    for title, own in below.items():
        named += [title] if own <= places else [table.columns[place].title for place in sorted(own & places)]
    return tuple(named)
