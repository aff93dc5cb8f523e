"""Sentences of papers that are numbers ("best in most settings", a mean gain), beside what tables and runs give."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from ltbench.errors import DataError
from ltbench.metrics.registry import is_lower_better
from ltbench.places import PUBLISHED
from ltbench.tables.paper import PaperTable
from ltbench.tables.published import CLAIMS, FLAGS, Flag, PublishedNumbers

Kind = Literal["best", "gain"]

Column = tuple[str, str, str]
"""(split, metric, group) of a published table."""

Numbers = Mapping[Column, Mapping[str, float]]
"""Column -> row as printed -> percent."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a paper says of one of its tables.

    Args:
        paper: whose claim.
        table: which of its tables the claim is about.
        kind: "best": `method` is at least as good as the others in `stated` percent of the columns or more; "gain": it
            is better than the best of the others by `stated` points in the mean over columns.
        method: the row that it is about.
        against: the other rows; all but `method` where it is empty.
        metric: the metric that it is about; all where it is empty.
        stated: percent of the columns or percentage points as the paper has it, or None where only its direction is
            known here.
        recomputed: the same from the printed table: two decimals.
        flag: as for published numbers; "inconsistent" where `stated` does not follow from the table.
        note: what there is to say.
        source: where it stands.
    """

    paper: str
    table: str
    kind: Kind
    method: str
    against: tuple[str, ...]
    metric: str
    stated: float | None
    recomputed: float
    flag: Flag
    note: str
    source: str

    @property
    def layout(self) -> str:
        """The layout of the claim's table."""
        return f"{self.paper}-{self.table}"

    @property
    def text(self) -> str:
        """The claim in words."""
        others = ", ".join(self.against) or "all other rows"
        of = self.metric or "all metrics"
        if self.kind == "best":
            return f"{self.method} is at least as good as {others}, {of}: share of the columns"
        return f"{self.method} over {others}, {of}: mean gain in points"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim beside what was measured.

    Args:
        claim: the claim.
        measured: percent of the columns or points, from runs; None where no column of the claim was measured.
        columns: how many of the claim's columns were measured, `method` and one of the others at least.
        total: how many it has.
    """

    claim: Claim
    measured: float | None
    columns: int
    total: int

    def holds(self, tolerance: float) -> bool | None:
        """Return whether runs bear it out within a tolerance in points; None where they cannot tell."""
        if self.measured is None or self.claim.stated is None or self.columns < self.total:
            return None
        return self.measured >= self.claim.stated - (tolerance if self.claim.kind == "gain" else 0)


@cache
def published_claims(folder: Path = PUBLISHED) -> tuple[Claim, ...]:
    """Return the papers' claims, in the file's order.

    Raises:
        DataError: the file is missing, or a row is no claim; the message names it.
    """
    file = folder / CLAIMS
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return tuple(_claim(row, f"{file}, line {number}") for number, row in enumerate(csv.DictReader(lines), 2))
    except OSError as error:
        raise DataError(f"Expected claims in {file}, got {error.strerror}. Install ltbench anew.") from error


def printed(claim: Claim, numbers: PublishedNumbers) -> Numbers:
    """Return the numbers of a claim's table as the paper prints them."""
    found: dict[Column, dict[str, float]] = {}
    for cell in numbers.of(claim.paper, claim.table):
        if cell.value is not None:
            found.setdefault((cell.split, cell.metric, cell.group), {})[cell.method] = cell.value
    return found


def measured(filled: PaperTable) -> Numbers:
    """Return the measured numbers of a filled layout, in the paper's own settings."""
    found: dict[Column, dict[str, float]] = {}
    for line in filled.lines:
        for column, cell in zip(filled.columns, line.cells, strict=True):
            if line.is_faithful and cell.mean is not None:
                key = (column.of.split, column.column.metric, column.column.group)
                found.setdefault(key, {})[line.row.published] = cell.mean
    return found


def worth(claim: Claim, numbers: Numbers) -> tuple[float | None, int]:
    """Return what numbers make of a claim, in percent or points, and how many columns had what it takes."""
    gains = [gain for column, rows in numbers.items() if (gain := _gain(claim, column, rows)) is not None]
    if not gains:
        return None, 0
    if claim.kind == "best":
        return 100 * sum(gain >= 0 for gain in gains) / len(gains), len(gains)
    return sum(gains) / len(gains), len(gains)


def verdicts(claims: Iterable[Claim], filled: Mapping[str, PaperTable], numbers: PublishedNumbers) -> list[Verdict]:
    """Return the claims of the filled layouts beside what was measured."""
    found = []
    for claim in claims:
        if claim.layout in filled:
            own, columns = worth(claim, measured(filled[claim.layout]))
            found.append(Verdict(claim, own, columns, worth(claim, printed(claim, numbers))[1]))
    return found


def _gain(claim: Claim, column: Column, rows: Mapping[str, float]) -> float | None:
    """Return by how much the claim's method is better than the best other one of a column."""
    _, metric, _ = column
    others = [v for row, v in rows.items() if row != claim.method and (not claim.against or row in claim.against)]
    if claim.method not in rows or not others or claim.metric not in ("", metric):
        return None
    own = rows[claim.method]
    gain = min(others) - own if is_lower_better(metric) else own - max(others)
    return round(gain, 9)


def _claim(row: Mapping[str, str], where: str) -> Claim:
    try:
        stated = float(row["stated"]) if row["stated"] else None
        against = tuple(filter(None, row["against"].split(" | ")))
        claim = Claim(**{**row, "against": against, "stated": stated, "recomputed": float(row["recomputed"])})  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"Expected a claim in {where}, got {dict(row)} ({error}). Mend it.") from error
    if claim.kind not in get_args(Kind) or claim.flag not in FLAGS or not claim.source:
        raise DataError(f"Expected a kind, a known flag and a source in {where}, got {dict(row)}. Mend it.")
    return claim
