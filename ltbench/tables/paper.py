"""Published tables with measured values: the paper's rows and columns, its numbers beside ours, and our other runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from ltbench.tables.cells import Cell, Column, Marks, Placement, Table
from ltbench.tables.comparison import ranking_caption
from ltbench.tables.layouts import Layout, LayoutColumn, LayoutRow
from ltbench.tables.measurements import NOT_RUN, Measurement, Reasons, base_name, cell_of
from ltbench.tables.published import Published, PublishedNumbers
from ltbench.tables.ranking import pairs_of, ranked, ranked_by_test
from ltbench.tables.variants import assigned, overrides, whole

NOT_HERE = "not in ltbench"
OWN_DRAW = "images drawn by ltbench, not the authors' lists"


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


@dataclass(frozen=True)
class PaperTable:
    """A published table with the runs in it; `table_of` makes it printable."""

    layout: Layout
    columns: tuple[PaperColumn, ...]
    lines: tuple[PaperLine, ...]
    published: Mapping[tuple[int, int], Published]
    """(line, column) -> the printed cell."""


def fill(
    layout: Layout,
    measurements: Sequence[Measurement],
    numbers: PublishedNumbers,
    *,
    dataset: str | None = None,
    splits: Sequence[str] = (),
    reasons: Reasons | None = None,
) -> PaperTable:
    """Put runs and published numbers into a published layout.

    Args:
        layout: rows and columns.
        measurements: the runs, of any split.
        numbers: the papers' numbers.
        dataset: put the runs of this dataset in place of the paper's; it has no published numbers.
        splits: put these splits in place of the paper's.
        reasons: why runs are missing, beyond that they were not run.
    """
    columns = tuple(_columns(layout, dataset, splits))
    lines: list[PaperLine] = []
    published: dict[tuple[int, int], Published] = {}
    for row in layout.rows:
        printed = [_printed(layout, row, column, numbers) for column in columns]
        for line in _lines(row, columns, measurements, any(printed)):
            if line.is_faithful:
                published |= {(len(lines), place): cell for place, cell in enumerate(printed) if cell is not None}
            line.cells = [_cell(line, column, reasons or {}) for column in columns]
            lines.append(line)
    return PaperTable(layout, columns, tuple(lines), published)


def wanted_cells(layout: Layout, dataset: str | None = None, splits: Sequence[str] = ()) -> set[tuple[str, str]]:
    """Return which methods a layout wants on which splits: (method, split without seed)."""
    bases = {base for column in _columns(layout, dataset, splits) for base in column.accepted}
    return {(row.method, base) for row in layout.rows if row.method is not None for base in bases}


def table_of(filled: PaperTable, *, placement: Placement = "beside", significance: bool = False, name: str) -> Table:
    """Return a filled layout as a table: ranked, with the published numbers, marks and footnotes.

    Args:
        filled: the layout with its runs.
        placement: where published values stand.
        significance: whether the best of a column are all that a paired test cannot tell apart.
        name: the layout's name.
    """
    marks = Marks()
    titles = [_titled(line, filled.layout, marks) for line in filled.lines]
    by_column = [
        _finished(filled, place, column, marks, placement, significance) for place, column in enumerate(filled.columns)
    ]
    rows = tuple((title, tuple(cells)) for title, cells in zip(titles, zip(*by_column, strict=True), strict=True))
    several = any(cell.std is not None for cells in by_column for cell in cells)
    moved = not filled.published
    what = f"Runs in the layout of: {filled.layout.caption}" if moved else filled.layout.caption
    caption = f"{what} Percent, protocol {filled.layout.protocol}"
    caption += "; mean ± sample standard deviation over seeds" if several else ""
    caption += f". {ranking_caption(significance)}."
    if placement != "off" and not moved:
        caption += " In parentheses: the published value, and measured minus published."
    columns = tuple(column.column for column in filled.columns)
    return Table(columns, rows, tuple(marks.notes), caption, placement, filled.layout.methods_across, name)


def _columns(layout: Layout, dataset: str | None, splits: Sequence[str]) -> Iterator[PaperColumn]:
    variants = layout.columns
    if splits:
        shape = variants[0]
        titles = list(dict.fromkeys(base_name(split) for split in splits))
        variants = [LayoutColumn(title=title, split=title, parameters=shape.parameters) for title in titles]
    for of in variants:
        split, official = _moved(of.split, dataset), _moved(of.official, dataset)
        for metric, metric_title in layout.metrics.items():
            for group, group_title in layout.groups.items():
                headings = tuple(filter(None, (of.title, metric_title, group_title)))
                accepted = tuple(filter(None, (official, split)))
                yield PaperColumn(Column(split or of.split, metric, group, headings), accepted, of)


def _moved(split: str | None, dataset: str | None) -> str | None:
    """Return a split's name with another dataset in front; the layouts' own datasets hold no underscore."""
    return split if split is None or dataset is None else f"{dataset}_{split.partition('_')[2]}"


def _printed(layout: Layout, row: LayoutRow, column: PaperColumn, numbers: PublishedNumbers) -> Published | None:
    own = column.column
    title = row.published + column.of.suffix
    return numbers.find(layout.paper, layout.table, own.split, title, own.metric, own.group)


def _lines(
    row: LayoutRow, columns: Sequence[PaperColumn], measurements: Sequence[Measurement], is_printed: bool
) -> list[PaperLine]:
    """Return the lines of a row: the paper's setting if it is printed or was run, then other variants that were run."""
    across = {name for column in columns for name in column.of.parameters}
    accepted = {base for column in columns for base in column.accepted}
    faithful = PaperLine(row, row.published, is_faithful=True)
    others: dict[tuple[Any, ...], PaperLine] = {}
    for found in measurements:
        if found.method.name != row.method or found.base not in accepted or not _has(found, row.parameters):
            continue
        own = overrides(found.method.name, found.preset, found.parameters)
        free = None if own is None else {k: v for k, v in own.items() if k not in across and k not in row.parameters}
        if free == {} and any(fnmatchcase(found.preset, pattern) for pattern in row.presets):
            faithful.runs.append(found)
            continue
        kept = {name: value for name, value in found.parameters.items() if name not in across}
        key = (found.preset, repr(sorted(kept.items())), found.protocol)
        shown = {name: value for name, value in kept.items() if name not in row.parameters}
        title = f"{row.published} ({', '.join([found.preset, *assigned(shown if free is None else free)])})"
        others.setdefault(key, PaperLine(row, title, is_faithful=False)).runs.append(found)
    is_shown = is_printed or faithful.runs or (row.method and not others)
    return [faithful] * bool(is_shown) + [others[key] for key in sorted(others, key=str)]


def _has(found: Measurement, parameters: Mapping[str, Any]) -> bool:
    own = whole(found.method.name, found.parameters)
    return all(own.get(name) == value for name, value in parameters.items())


def _cell(line: PaperLine, column: PaperColumn, reasons: Reasons) -> Cell:
    reason = NOT_HERE if line.row.method is None else NOT_RUN
    for base in column.accepted:
        reason = reasons.get((line.row.method or "", base), reason)
    return cell_of(column.runs(line.runs), column.column.metric, column.column.group, reason)


def _titled(line: PaperLine, layout: Layout, marks: Marks) -> str:
    protocols = sorted({found.protocol_name for found in line.runs})
    odd = [f"protocol {name}" for name in protocols if name != layout.protocol]
    privileges = line.runs[0].privileges if line.runs else ()
    return line.title + "".join(marks.mark(note) for note in (*privileges, *odd))


def _finished(
    filled: PaperTable, place: int, column: PaperColumn, marks: Marks, placement: Placement, significance: bool
) -> list[Cell]:
    """Return the cells of a column with rank, marks and published values."""
    cells = [line.cells[place] for line in filled.lines]
    runs = [column.runs(line.runs) for line in filled.lines]
    if significance:
        samples = [pairs_of(own, column.column.metric, column.column.group) for own in runs]
        cells = ranked_by_test(cells, samples, column.column.metric)
    else:
        cells = ranked(cells, column.column.metric)
    finished = []
    for number, (cell, own) in enumerate(zip(cells, runs, strict=True)):
        drawn = filled.published and column.is_own_draw(own)
        cell = replace(cell, mark=marks.letter(OWN_DRAW if drawn else ""))
        printed = filled.published.get((number, place)) if placement != "off" else None
        finished.append(cell if printed is None else _with_published(cell, printed, marks))
    return finished


def _with_published(cell: Cell, printed: Published, marks: Marks) -> Cell:
    text = "N/A" if printed.value is None else f"{printed.value:.2f}"
    note = f"published, {printed.flag.replace('_', ' ')}: {printed.note}" if printed.flag else ""
    return replace(cell, published=printed.value, published_text=text, published_mark=marks.letter(note))
