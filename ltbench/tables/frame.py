"""Tables as pandas frames: a row a cell."""

from __future__ import annotations

import pandas

from ltbench.tables.cells import Table
from ltbench.tables.groups import group_name


def frame_of(table: Table) -> pandas.DataFrame:
    """Return a table as a frame with a row a cell, unrounded; what is missing is NaN or an empty text."""
    notes = dict(table.notes)
    rows = [
        {
            "method": title,
            "split": column.split,
            "metric": column.metric,
            "group": group_name(column.group),
            "column": column.title,
            "mean": cell.mean,
            "std": cell.std,
            "lists": len(cell.lists),
            "seeds": cell.count,
            "rank": cell.rank,
            "reason": cell.reason,
            "published": cell.published,
            "difference": cell.difference,
            "note": "; ".join(notes[mark] for mark in (*cell.marks, cell.published_mark) if mark),
            "runs": " ".join(cell.runs),
        }
        for title, cells in table.rows
        for column, cell in zip(table.columns, cells, strict=True)
    ]
    frame = pandas.DataFrame(rows)
    numbers = ["mean", "std", "rank", "published", "difference"]
    return frame.astype(dict.fromkeys(numbers, "float64"))
