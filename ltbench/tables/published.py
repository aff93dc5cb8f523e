"""The papers' numbers as data: `results/published/<paper>.csv`, one row a printed cell, read and checked.

Values are percentages as they are printed. A cell that contradicts another is kept and flagged, never mended.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, cast, get_args

from ltbench.errors import DataError, UnknownNameError
from ltbench.places import PUBLISHED

Flag = Literal["", "inconsistent", "not_applicable", "unverified"]
CLAIMS = "claims.csv"
"""The file of sentences that are numbers, which `ltbench.tables.claims` reads."""

FLAGS: tuple[Flag, ...] = get_args(Flag)


@dataclass(frozen=True, slots=True)
class Published:
    """One printed cell.

    Args:
        paper: "ltad", "tailedcore", ...; the file's name.
        table: the table's number there, or what else prints it ("logs", "readme").
        dataset: the dataset's name in ltbench.
        split: the split's name in ltbench, without a seed.
        method: the row as printed.
        metric: metric id.
        group: "avg", "high", "low" or a category.
        value: percent, or None where the paper has none.
        flag: "inconsistent" with another printed number, "not_applicable" (no value, and why), "unverified", or "".
        note: what there is to say of the cell.
        source: where it stands.
    """

    paper: str
    table: str
    dataset: str
    split: str
    method: str
    metric: str
    group: str
    value: float | None
    flag: Flag
    note: str
    source: str

    @property
    def key(self) -> tuple[str, str, str, str, str, str]:
        """What makes the cell the only one of its kind."""
        return (self.paper, self.table, self.split, self.method, self.metric, self.group)


COLUMNS = tuple(field.name for field in fields(Published))


@dataclass(frozen=True)
class PublishedNumbers:
    """All printed cells, found by what they say."""

    cells: tuple[Published, ...]

    @cached_property
    def _by_key(self) -> Mapping[tuple[str, str, str, str, str, str], Published]:
        return {cell.key: cell for cell in self.cells}

    def find(self, paper: str, table: str, split: str, method: str, metric: str, group: str) -> Published | None:
        """Return the cell of a paper's table, or None if the paper does not print it."""
        return self._by_key.get((paper, table, split, method, metric, group))

    def of(self, paper: str, table: str | None = None) -> list[Published]:
        """Return the cells of a paper, or of one of its tables, in the file's order.

        Raises:
            UnknownNameError: there is no such paper or table.
        """
        of_paper = [cell for cell in self.cells if cell.paper == paper]
        if not of_paper:
            raise UnknownNameError("paper with published numbers", paper, {cell.paper for cell in self.cells})
        found = [cell for cell in of_paper if table in (None, cell.table)]
        if not found:
            raise UnknownNameError(f"table of {paper}", str(table), {cell.table for cell in of_paper})
        return found


@cache
def published_numbers(folder: Path = PUBLISHED) -> PublishedNumbers:
    """Return every published number below a folder.

    Raises:
        DataError: there is no file, or a row that is no published number or is there twice; the message names it.
    """
    files = sorted(file for file in folder.glob("*.csv") if file.name != CLAIMS)
    if not files:
        raise DataError(f"Expected published numbers in {folder}, got no csv. Install ltbench anew.")
    cells = [cell for file in files for cell in _read(file)]
    seen: set[tuple[str, ...]] = set()
    for cell in cells:
        if cell.key in seen:
            raise DataError(f"Expected each published number once, got {cell.key} twice. Remove one.")
        seen.add(cell.key)
    return PublishedNumbers(tuple(cells))


def _read(file: Path) -> list[Published]:
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(f"Expected the columns {', '.join(COLUMNS)} in {file}, got {reader.fieldnames}. Mend it.")
        return [_cell(row, f"{file}, line {reader.line_num}", file.stem) for row in reader]


def _cell(row: Mapping[str, str], where: str, paper: str) -> Published:
    flag = row["flag"]
    try:
        value = float(row["value"]) if row["value"] else None
    except ValueError as error:
        raise DataError(f"Expected a percentage in {where}, got {row['value']!r}. Mend it.") from error
    problems: Sequence[tuple[bool, str]] = (
        (row["paper"] != paper, f"paper {paper!r}, got {row['paper']!r}"),
        (flag not in FLAGS, f"a flag of {', '.join(FLAGS[1:])} or none, got {flag!r}"),
        (value is not None and not 0 <= value <= 100, f"a percentage, got {value}"),
        ((value is None) != (flag == "not_applicable"), "a value, or the flag not_applicable"),
        (flag != "" and not row["note"], "a note beside a flag, got none"),
        (not row["source"], "a source, got none"),
    )
    for is_wrong, text in problems:
        if is_wrong:
            raise DataError(f"Expected {text} in {where}. Mend it.")
    return Published(**{**row, "value": value, "flag": cast(Flag, flag)})  # type: ignore[arg-type]
