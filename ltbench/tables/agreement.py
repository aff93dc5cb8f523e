"""Measured against published numbers, cell by cell, with a tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ltbench.tables.paper import OWN_DRAW, PaperTable

Status = Literal["agrees", "differs", "doubtful"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One number that is both measured and published, in percent.

    Args:
        layout: the published table.
        method: the row.
        split: the split without its seed.
        metric: metric id.
        group: "avg", "high" or "low".
        measured: mean over lists and seeds.
        over: how many lists and seeds: "5 lists x 3 seeds".
        published: what the paper prints.
        status: "doubtful" where the published number is flagged, the images are not those of the authors' lists, or all
            runs of the row are set apart from what the paper ran: it decides nothing.
        note: what there is to say of the published number, of the images, or of the row.
        source: where it stands.
    """

    layout: str
    method: str
    split: str
    metric: str
    group: str
    measured: float
    over: str
    published: float
    status: Status
    note: str
    source: str

    @property
    def difference(self) -> float:
        """Measured minus published, in percentage points."""
        return self.measured - self.published


def agreements(name: str, filled: PaperTable, tolerance: float) -> list[Agreement]:
    """Return every number of a published table that was measured too, in the paper's setting.

    Args:
        name: the layout's name.
        filled: the layout with its runs.
        tolerance: largest difference that agrees, in percentage points.
    """
    found = []
    for (line, place), printed in sorted(filled.published.items()):
        cell, column = filled.lines[line].cells[place], filled.columns[place]
        if cell.mean is None or printed.value is None:
            continue
        status: Status = "agrees" if abs(cell.mean - printed.value) <= tolerance + 1e-9 else "differs"
        own_draw = column.is_own_draw(filled.lines[line].runs)
        apart = filled.lines[line].row.note
        if printed.flag or own_draw or apart:
            status = "doubtful"
        unbalanced = "" if cell.is_balanced else "unbalanced"
        note = "; ".join(filter(None, (printed.note, OWN_DRAW if own_draw else "", apart, unbalanced)))
        found.append(
            Agreement(
                name, printed.method, column.column.split, printed.metric, printed.group, cell.mean, cell.design,
                printed.value, status, note, printed.source,
            )
        )  # fmt: skip
    return found


def left_out(name: str, filled: PaperTable) -> list[str]:
    """Return a sentence for each number of a published table that has runs and no value, and so is not compared."""
    return [
        f"{filled.lines[line].title} in {filled.columns[place].column.title} of {name}: {cell.reason}"
        for line, place in sorted(filled.published)
        if (cell := filled.lines[line].cells[place]).mean is None and cell.runs
    ]


def all_agree(found: Sequence[Agreement]) -> bool:
    """Return whether no number differs; doubtful ones decide nothing."""
    return all(agreement.status != "differs" for agreement in found)
