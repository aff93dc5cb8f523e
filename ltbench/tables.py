"""Records to tables: rows of methods, columns of splits (`ltbench.render` makes text of them)."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ltbench.errors import SpecError, UnknownNameError
from ltbench.records import RunRecord

Group = Literal["avg", "high", "low", "all"]

METRIC_TITLES = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1_max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "pixel_f1_max": "Pixel F1-max",
    "pixel_aupro_30": "Pixel AUPRO-30",
}
GROUP_TITLES = {"high": "High", "low": "Low", "avg": "Avg"}
GROUP_MEANINGS = {
    "avg": "mean over all categories",
    "high": "mean over the majority categories",
    "low": "mean over the minority categories",
}
PRIVILEGES = {
    "uses_categories": "told the category of every image",
    "is_transductive": "scores test images jointly",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table, or why there is none.

    Args:
        mean: mean over seeds, in percent, or None.
        std: sample standard deviation over seeds in percent, or None with fewer than two.
        count: number of seeds.
        reason: why `mean` is None.
        rank: 1 for the best of its column, 2 for the second, 0 else; ties share a rank.
    """

    mean: float | None
    std: float | None = None
    count: int = 0
    reason: str = ""
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds: a metric of a group on a split."""

    split: str
    metric: str
    group: str

    def title(self, table: Table) -> str:
        """The heading in one line, without the metric and the group that all columns of the table share."""
        parts = [self.split]
        parts += [METRIC_TITLES[self.metric]] * (len(table.metrics) > 1)
        parts += [GROUP_TITLES[self.group]] * (len(table.groups) > 1)
        return " ".join(parts)


@dataclass(frozen=True)
class Table:
    """Rows x columns of cells, ready to be rendered.

    Args:
        columns: what each column holds.
        rows: title of each row and its cells, in column order.
        notes: footnotes, each with the mark that rows or the caption carry.
        caption: one line on what the numbers are.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    notes: tuple[tuple[str, str], ...] = ()
    caption: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of the columns, each once."""
        return tuple(dict.fromkeys(column.metric for column in self.columns))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of the columns, each once."""
        return tuple(dict.fromkeys(column.group for column in self.columns))


@dataclass
class _Row:
    title: str
    variant: Mapping[str, Any]
    protocol: str
    privileges: tuple[str, ...]
    records: dict[str, list[RunRecord]] = field(default_factory=lambda: defaultdict(list))


def make_table(
    records: Iterable[RunRecord],
    *,
    dataset: str | None = None,
    splits: Sequence[str] = (),
    metrics: Sequence[str] = ("image_auroc", "pixel_auroc"),
    group: Group = "avg",
) -> Table:
    """Lay out records as methods by splits, with the mean and the standard deviation over seeds.

    Runs that differ only in the seed (of the method or of the split) share a cell. Methods that were run with several
    hyper-parameters have a row for each, which names what differs.

    Args:
        records: the runs.
        dataset: take only splits of this dataset.
        splits: take only these splits, with or without their seed suffix, in this order; all when empty.
        metrics: metric ids.
        group: "avg", "high", "low", or "all" for the three.

    Raises:
        SpecError: no record is left.
        UnknownNameError: a metric or a split that no record has.
    """
    for metric in metrics:
        if metric not in METRIC_TITLES:
            raise UnknownNameError("metric", metric, METRIC_TITLES)
    kept = [record for record in records if dataset in (None, record.dataset)]
    if not kept:
        raise SpecError("Expected finished runs, got none. Run `ltbench run` first, or pass --results and --dataset.")
    bases = _bases(kept, splits)
    columns = tuple(
        Column(base, metric, part)
        for base in bases
        for metric in metrics
        for part in (("high", "low", "avg") if group == "all" else (group,))
    )
    rows, notes = _rows([record for record in kept if base_name(record) in bases])
    cells = [[_cell(row.records.get(column.split, []), column) for column in columns] for _, row in rows]
    ranked = list(zip(*(_ranked(column) for column in zip(*cells, strict=True)), strict=True))
    protocol = rows[0][1].protocol
    what = METRIC_TITLES[metrics[0]] + ", percent" if len(metrics) == 1 else "Percent"
    what += "" if group == "all" else f", {GROUP_MEANINGS[group]}"
    several = any(cell.std is not None for line in cells for cell in line)
    spread = "; mean ± sample standard deviation over seeds" if several else ""
    caption = f"{what}, protocol {protocol}{spread}. Best bold, second underlined."
    titled = tuple((title, tuple(line)) for (title, _), line in zip(rows, ranked, strict=True))
    return Table(columns, titled, tuple(notes), caption)


def base_name(record: RunRecord) -> str:
    """Return the name of a record's split without its seed."""
    return re.sub(r"_seed\d+$", "", record.spec.split)


def _bases(records: Sequence[RunRecord], splits: Sequence[str]) -> list[str]:
    present = sorted({base_name(record) for record in records}, key=_natural)
    if not splits:
        return present
    wanted = list(dict.fromkeys(re.sub(r"_seed\d+$", "", split) for split in splits))
    for base in wanted:
        if base not in present:
            raise UnknownNameError("split with finished runs", base, present)
    return wanted


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _rows(records: Sequence[RunRecord]) -> tuple[list[tuple[str, _Row]], list[tuple[str, str]]]:
    rows: dict[tuple[str, str, str], _Row] = {}
    for record in records:
        key = (record.spec.method, repr(sorted(record.spec.parameters.items())), repr(record.spec.protocol))
        privileges = tuple(text for name, text in PRIVILEGES.items() if getattr(record.method, name))
        row = rows.setdefault(
            key, _Row(record.method.title, record.spec.parameters, record.spec.protocol.name, privileges)
        )
        row.records[base_name(record)].append(record)
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (rows[key].title, key))]
    protocols = [row.protocol for row in ordered]
    usual = max(sorted(set(protocols)), key=protocols.count)
    ordered.sort(key=lambda row: row.protocol != usual)  # rows of the caption's protocol first
    marks = _Marks()
    titles = []
    for row in ordered:
        notes = list(row.privileges) + ([f"protocol {row.protocol}"] if row.protocol != usual else [])
        titles.append(_variant_title(row, ordered) + "".join(marks.mark(note) for note in notes))
    return list(zip(titles, ordered, strict=True)), marks.notes


class _Marks:
    """Footnote marks, the same one for the same note."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []

    def mark(self, note: str) -> str:
        for mark, known in self.notes:
            if known == note:
                return mark
        mark = "*" * (len(self.notes) + 1) if len(self.notes) < 3 else f"({len(self.notes) + 1})"
        self.notes.append((mark, note))
        return mark


def _variant_title(row: _Row, rows: Sequence[_Row]) -> str:
    siblings = [other for other in rows if other.title == row.title and other is not row]
    differing = sorted(
        {name for other in siblings for name in row.variant if other.variant.get(name) != row.variant[name]}
    )
    if not differing:
        return row.title
    return f"{row.title} ({', '.join(f'{name}={row.variant[name]}' for name in differing)})"


def _cell(records: Sequence[RunRecord], column: Column) -> Cell:
    if not records:
        return Cell(None, reason="not run")
    _check_seeds(records)
    values = [record.metrics.get(column.metric, {}).get(column.group) for record in records]
    numbers = [100 * value for value in values if value is not None]
    if len(numbers) < len(values):
        reason = next(
            record.missing.get(column.metric, {}).get(column.group, "not computed")
            for record, value in zip(records, values, strict=True)
            if value is None
        )
        return Cell(None, count=len(records), reason=reason)
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Cell(statistics.fmean(numbers), std, len(numbers))


def _check_seeds(records: Sequence[RunRecord]) -> None:
    seen: dict[tuple[int, str], RunRecord] = {}
    for record in records:
        other = seen.setdefault((record.spec.seed, record.spec.split), record)
        if other is not record:
            raise SpecError(
                f"Expected one run of {record.spec.method} on {record.spec.split} with seed {record.spec.seed}, got "
                f"{other.spec.hash} and {record.spec.hash}, whose splits differ. Remove the folder of one."
            )


def _ranked(cells: Sequence[Cell]) -> list[Cell]:
    shown = sorted({round(cell.mean, 2) for cell in cells if cell.mean is not None}, reverse=True)
    ranks = {value: rank for rank, value in enumerate(shown[:2], start=1)}
    return [
        cell
        if cell.mean is None
        else Cell(cell.mean, cell.std, cell.count, cell.reason, ranks.get(round(cell.mean, 2), 0))
        for cell in cells
    ]
