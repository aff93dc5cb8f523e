"""Which runs stand in which line and column of a published table: the paper's own settings, and other variants."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ltbench.contract.description import describe
from ltbench.errors import LtbenchError
from ltbench.tables.cells import Cell, Column
from ltbench.tables.layouts import LayoutColumn, LayoutRow
from ltbench.tables.measurements import Measurement
from ltbench.tables.variants import assigned, overrides, whole


@dataclass(frozen=True)
class PaperColumn:
    """A column of a published table, and the runs that belong in it.

    Args:
        column: what it holds.
        accepted: the splits without seed whose runs it takes, the most wanted first.
        of: the layout's column.
    """

    column: Column
    accepted: tuple[str, ...]
    of: LayoutColumn

    def runs(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """Return the runs of a row that belong in the column."""
        fitting = [found for found in measurements if _has(found, self.of.parameters)]
        for base in self.accepted:
            if own := [found for found in fitting if found.base == base]:
                return own
        return []

    def is_own_draw(self, measurements: Sequence[Measurement]) -> bool:
        """Return whether the runs of a row have images drawn by ltbench where the paper has lists of its own."""
        own = self.runs(measurements)
        return bool(own) and self.of.official is not None and own[0].base != self.accepted[0]


@dataclass
class PaperLine:
    """A printed line: the paper's own setting of a row, or another variant that was run.

    Args:
        row: the layout's row.
        title: as printed.
        is_faithful: whether it is the paper's setting, so that published numbers belong beside it.
        runs: the runs in it.
        cells: its cells in column order.
    """

    row: LayoutRow
    title: str
    is_faithful: bool
    runs: list[Measurement] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)


def lines_of_row(
    row: LayoutRow, protocol: str, columns: Sequence[PaperColumn], measurements: Sequence[Measurement], is_printed: bool
) -> list[PaperLine]:
    """Return the lines of a row: the paper's setting if it is printed or was run, then other variants that were run.

    Args:
        row: the layout's row.
        protocol: the name of the paper's protocol.
        columns: the table's columns.
        measurements: the runs, of any method.
        is_printed: whether the paper prints the row.
    """
    across = {name for column in columns for name in column.of.parameters}
    accepted = {base for column in columns for base in column.accepted}
    faithful = PaperLine(row, row.published, is_faithful=True)
    others: dict[tuple[Any, ...], PaperLine] = {}
    for found in measurements:
        if found.method.name != row.method or found.base not in accepted or not _has(found, row.required):
            continue
        own = overrides(found.method.name, found.preset, found.parameters)
        settled = {*across, *row.required, *(name for name in row.paths if _is_path(found.parameters.get(name)))}
        free = None if own is None else {name: value for name, value in own.items() if name not in settled}
        if free == {} and any(fnmatchcase(found.preset, pattern) for pattern in row.presets):
            faithful.runs.append(found)
            continue
        kept = {name: value for name, value in found.parameters.items() if name not in across}
        key = (found.preset, repr(sorted(kept.items())), found.protocol)
        shown = {name: value for name, value in kept.items() if name not in row.required}
        title = f"{row.published} ({', '.join([found.preset, *assigned(shown if free is None else free)])})"
        others.setdefault(key, PaperLine(row, title, is_faithful=False)).runs.append(found)
    faithful.runs, left = _one_setting(faithful.runs, protocol, across)
    for found in left:
        key = (found.preset, "", found.protocol)
        title = f"{row.published} ({found.preset})"
        others.setdefault(key, PaperLine(row, title, is_faithful=False)).runs.append(found)
    is_shown = is_printed or faithful.runs or (row.method and not others)
    return [faithful] * bool(is_shown) + [others[key] for key in sorted(others, key=str)]


def _one_setting(
    runs: Sequence[Measurement], protocol: str, across: Collection[str]
) -> tuple[list[Measurement], list[Measurement]]:
    """Return the runs of one setting a split, and those of others: presets of one row differ by split.

    The paper's protocol comes first, then the preset that the authors would use on the split.
    """
    by_base: dict[str, dict[tuple[str, str], list[Measurement]]] = {}
    for found in runs:
        kept = repr(sorted((name, repr(value)) for name, value in found.parameters.items() if name not in across))
        by_base.setdefault(found.base, {}).setdefault((found.protocol, kept), []).append(found)
    chosen: list[Measurement] = []
    left: list[Measurement] = []
    for settings in by_base.values():
        first, *others = sorted(settings.values(), key=lambda own: _preference(own[0], protocol))
        chosen += first
        left += [found for own in others for found in own]
    return chosen, left


def _preference(found: Measurement, protocol: str) -> tuple[bool, bool, str]:
    return (found.protocol_name != protocol, not _is_default(found), found.run)


def _is_default(found: Measurement) -> bool:
    try:
        return describe(found.method.name).choose_preset(None, found.base).name == found.preset
    except LtbenchError:  # a record of a method that is not installed
        return False


def _is_path(value: object) -> bool:
    return isinstance(value, str) and any(mark in value for mark in "/\\")


def _has(found: Measurement, parameters: Mapping[str, Any]) -> bool:
    own = whole(found.method.name, found.parameters)
    return all(own.get(name) == value for name, value in parameters.items())
