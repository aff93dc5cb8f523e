"""Tables as CSV: one line a cell, for programs and spreadsheets."""

from __future__ import annotations

import csv
import io

from ltbench.foreign import inert, visible
from ltbench.tables.cells import Cell, Table
from ltbench.tables.groups import group_name

COLUMNS = (
    "method", "split", "metric", "group", "column", "mean", "std", "lists", "seeds", "rank", "reason",
    "published", "difference", "note", "runs",
)  # fmt: skip


def listing(table: Table) -> str:
    """Return a table as CSV, one line a cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    notes = dict(table.notes)
    for title, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            marked = [notes[mark] for mark in (*cell.marks, cell.published_mark) if mark]
            text = (title, column.split, column.metric, group_name(column.group), column.title)
            writer.writerow(
                [
                    *map(inert, text), _decimal(cell.mean), _decimal(cell.std), len(cell.lists), _seeds(cell),
                    cell.rank or "", inert(cell.reason), visible(cell.published_text), _decimal(cell.difference),
                    inert("; ".join(marked)), " ".join(cell.runs),
                ]
            )  # fmt: skip
    return out.getvalue()


def _seeds(cell: Cell) -> str:
    """Return the method seeds on each list: one number, or one a list where they differ."""
    seeds = [own.seeds for own in cell.lists]
    return " ".join(map(str, seeds[:1] if cell.is_balanced else seeds)) or str(cell.count)


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
