"""The leaderboard's data: a row a method and split, each number with the runs and the published value behind it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ltbench.metrics.registry import is_lower_better
from ltbench.records.record import RunRecord
from ltbench.tables.cells import GROUP_MEANINGS, GROUP_TITLES, METRIC_TITLES, Cell, TrainingList
from ltbench.tables.comparison import lines_of
from ltbench.tables.layouts import layouts
from ltbench.tables.lists import by_list, list_notes, lists_of, usual_design
from ltbench.tables.measurements import Measurement, cell_of, measure, pooled_of
from ltbench.tables.paper import fill
from ltbench.tables.published import PublishedNumbers
from ltbench.tables.ranking import ranked
from ltbench.tables.settings import dataset_title

Plain = dict[str, Any]
"""JSON values, which the page's script reads."""

PrintedCells = Mapping[tuple[frozenset[str], str, str], Plain]
"""(hashes of runs, metric, group) -> the published number beside it."""


def leaderboard(by_origin: Mapping[str, Sequence[RunRecord]], numbers: PublishedNumbers) -> Plain:
    """Return what the page's script shows: metrics, groups, rows and the runs that they are made of.

    Args:
        by_origin: the records of each who measured, "" where there is only one and nobody needs to be told who. Their
            runs are never pooled: one that two measured has two rows.
        numbers: the papers' numbers.
    """
    measured = {origin: measure(records, list(METRIC_TITLES)) for origin, records in by_origin.items()}
    every = [found for own in measured.values() for found in own]
    titles = {line.first.variant: line.title for line in lines_of(every)}
    rows = [
        row
        for origin, records in by_origin.items()
        for row in _rows_of(origin, records, measured[origin], numbers, titles)
    ]
    by_board: dict[str, list[Measurement]] = {}
    for found in every:
        by_board.setdefault(_board(found.base, found.protocol_name), []).append(found)
    _rank(rows)
    _tell_lists(rows)
    used = [metric for metric in METRIC_TITLES if any(metric in row["cells"] for row in rows)]
    return {
        "metrics": [[metric, METRIC_TITLES[metric]] for metric in used],
        "lower_is_better": [metric for metric in used if is_lower_better(metric)],
        "groups": [[group, title, GROUP_MEANINGS[group]] for group, title in GROUP_TITLES.items()],
        "origins": sorted(filter(None, by_origin)),
        "boards": {board: _told_of(own) for board, own in sorted(by_board.items())},
        "rows": sorted(rows, key=lambda row: (row["dataset"], row["board"], row["method"], row["origin"])),
        "runs": {
            _key(origin, record): _run(record)
            for origin, records in sorted(by_origin.items())
            for record in sorted(records, key=lambda own: own.spec.hash)
        },
    }


def _rows_of(
    origin: str,
    records: Sequence[RunRecord],
    measured: Sequence[Measurement],
    numbers: PublishedNumbers,
    titles: Mapping[tuple[str, str, str], str],
) -> list[Plain]:
    """Return the rows of one who measured, under the titles that the lines of all have."""
    printed = _printed(measured, numbers)
    by_run = {record.spec.hash: record for record in records}
    rows = []
    for line in lines_of(measured):
        for base, found in line.by_base.items():
            own = [by_run[one.run] for one in found]
            row = _row(base, found, own, printed)
            row |= {"method": titles[line.first.variant], "origin": origin}
            rows.append(row | {"runs": sorted(_key(origin, record) for record in own)})
    return rows


def _board(base: str, protocol: str) -> str:
    """Return the heading of a leaderboard: values of two protocols are not comparable."""
    return f"{base}, protocol {protocol}"


def _key(origin: str, record: RunRecord) -> str:
    """Return the name of a run among those of all who measured."""
    return f"{record.spec.hash} {origin}".strip()


def _told_of(runs: Sequence[Measurement]) -> str:
    """Return what the training lists of a split are: data set, categories, realised imbalance, contaminants."""
    first = runs[0]
    imbalance = statistics.fmean(own[0].imbalance for own in by_list(runs).values())
    categories = len(first.members["avg"])
    return (
        f"{dataset_title(first.dataset)}, {categories} categor{'y' if categories == 1 else 'ies'}, "
        f"imbalance {imbalance:.3g}, {first.contaminants}"
    )


def _row(base: str, found: Sequence[Measurement], records: Sequence[RunRecord], printed: PrintedCells) -> Plain:
    lists = by_list(found)
    counts = {own.run: record.counts for own, record in zip(found, records, strict=True)}
    drawn = [counts[own[0].run] for own in lists.values()]
    sizes = {category: statistics.fmean(sum(counts[category].values()) for counts in drawn) for category in drawn[0]}
    groups = [*GROUP_TITLES, *sizes]
    cells: dict[str, dict[str, Plain]] = {}
    for metric in METRIC_TITLES:
        own = {group: cell_of(found, metric, group) for group in groups}
        if any(cell.mean is not None or cell.reason != "not computed" for cell in own.values()):
            cells[metric] = {group: _cell(cell, metric, group, printed) for group, cell in own.items()}
    majority = [category for category in sizes if all(category in record.high for record in records)]
    minority = [category for category in sizes if all(category in record.low for record in records)]
    return {
        "dataset": records[0].dataset,
        "split": base,
        "board": _board(base, found[0].protocol_name),
        "preset": found[0].preset,
        "protocol": found[0].protocol_name,
        "privileges": list(found[0].privileges),
        "seeds": len(found),
        "lists": [[own.name, own.sha256, own.seeds] for own in lists_of(lists)],
        "made_with": _made_with(found),
        "sizes": sizes,
        "high": majority,
        "low": minority,
        "cells": cells,
    }


def _made_with(runs: Sequence[Measurement]) -> str:
    """Return on which device and with which versions a row was measured, and in what its runs differ."""
    first = runs[0].made_with
    named = [f"{name} {first[name]}" for name in ("ltbench", "torch") if name in first]
    return ", ".join(filter(None, [first.get("device", ""), *named, pooled_of(runs)]))


def _cell(cell: Cell, metric: str, group: str, printed: PrintedCells) -> Plain:
    if cell.mean is None:
        return {"reason": cell.reason}
    values: Plain = {"mean": round(cell.mean, 4)}
    if cell.std is not None:
        values["std"] = round(cell.std, 4)
    if (found := printed.get((frozenset(cell.runs), metric, group))) is not None:
        values["published"] = found
    return values


def _rank(rows: Sequence[Plain]) -> None:
    """Mark the best two of each split and protocol, metric and group."""
    groups: dict[tuple[str, str, str], list[Plain]] = {}
    for row in rows:
        for metric, cells in row["cells"].items():
            for group in GROUP_TITLES:
                groups.setdefault((row["board"], metric, group), []).append(cells[group])
    for (_, metric, _), own in groups.items():
        cells = ranked([Cell(values.get("mean")) for values in own], metric)
        for values, cell in zip(own, cells, strict=True):
            if cell.rank:
                values["rank"] = cell.rank


def _tell_lists(rows: Sequence[Plain]) -> None:
    """Note in each row over how many lists and seeds it is, and if these are not those of its split's other rows."""
    columns: dict[str, list[Plain]] = {}
    for row in rows:
        columns.setdefault(row["board"], []).append(row)
    for own in columns.values():
        cells = [
            Cell(0.0, _spread(row), row["seeds"], lists=tuple(TrainingList(*known) for known in row["lists"]))
            for row in own
        ]
        for row, cell, notes in zip(own, cells, list_notes(cells, usual_design(cells)), strict=True):
            spread = f", ± over {cell.unit} (n = {cell.draws})" if cell.std is not None else ""
            row |= {"over": cell.design + spread, "design": cell.short_design, "notes": notes}


def _spread(row: Plain) -> float | None:
    """Return a deviation of a row, or None where it has none in any metric."""
    deviations = (values.get("std") for cells in row["cells"].values() for values in cells.values())
    return next((own for own in deviations if own is not None), None)


def _run(record: RunRecord) -> Plain:
    spec = record.spec
    return {
        "hash": spec.hash,
        "spec": spec.payload(),
        "preset": record.preset,
        "paper": record.method.paper,
        "recipe": dict(record.recipe),
        "split_seed": record.split_seed,
        "seconds": dict(record.seconds),
        "peak_memory_mib": dict(record.peak_memory_mib),
        "environment": dict(record.environment),
        "created": record.created,
    }


def _printed(
    measured: Sequence[Measurement], numbers: PublishedNumbers
) -> dict[tuple[frozenset[str], str, str], Plain]:
    found: dict[tuple[frozenset[str], str, str], Plain] = {}
    for name, layout in layouts().items():
        filled = fill(layout, measured, numbers)
        for (line, place), cell in filled.published.items():
            own = filled.lines[line].cells[place]
            if own.mean is not None and cell.value is not None:
                told = {
                    "value": cell.value, "table": name, "source": cell.source, "flag": cell.flag, "note": cell.note,
                }  # fmt: skip
                found.setdefault((frozenset(own.runs), cell.metric, cell.group), told)
    return found
