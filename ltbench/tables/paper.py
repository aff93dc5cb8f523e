"""Published tables with measured values: the paper's rows and columns, its numbers beside ours, and our other runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ltbench.tables.captions import lower_caption, ranking_caption, subject_of
from ltbench.tables.cells import USUAL, Cell, Column, Marks, Placement, Precision, Table
from ltbench.tables.comparison import cropped_of, marked_title
from ltbench.tables.groups import group_title, parse_groups
from ltbench.tables.layouts import Layout, LayoutColumn, LayoutRow
from ltbench.tables.lists import spread_caption, with_notes
from ltbench.tables.measurements import NOT_RUN, Measurement, Reasons, base_name, cell_of
from ltbench.tables.paper_lines import PaperColumn, PaperLine, lines_of_row
from ltbench.tables.published import Published, PublishedNumbers
from ltbench.tables.quantities import QUANTITIES, RUN, check_quantities, printed_with
from ltbench.tables.ranking import ranked_column
from ltbench.tables.settings import recipe_of

NOT_HERE = "not in ltbench"
OWN_DRAW = "images drawn by ltbench, not the authors' lists"


@dataclass(frozen=True)
class PaperTable:
    """A published table with the runs in it; `table_of` makes it printable."""

    layout: Layout
    columns: tuple[PaperColumn, ...]
    lines: tuple[PaperLine, ...]
    published: Mapping[tuple[int, int], Published]
    """(line, column) -> the printed cell."""
    is_changed: bool = False
    """Whether splits, metrics or groups are others than the paper's, so that its caption does not hold."""


def fill(
    layout: Layout,
    measurements: Sequence[Measurement],
    numbers: PublishedNumbers,
    *,
    dataset: str | None = None,
    splits: Sequence[str] = (),
    metrics: Sequence[str] = (),
    group: str | None = None,
    reasons: Reasons | None = None,
) -> PaperTable:
    """Put runs and published numbers into a published layout.

    Args:
        layout: rows and columns.
        measurements: the runs, of any split.
        numbers: the papers' numbers.
        dataset: put the runs of this dataset in place of the paper's; it has no published numbers.
        splits: put these splits in place of the paper's.
        metrics: print these metrics in place of the paper's.
        group: print these groups of categories in place of the paper's, separated by commas; "all" is all three.
        reasons: why runs are missing, beyond that they were not run.

    Raises:
        UnknownNameError: an unknown metric.
        SpecError: no such group.
    """
    own = layout
    layout = _with_numbers(layout, metrics, group)
    columns = tuple(_columns(layout, dataset, splits))
    printed = {row.published: [_printed(layout, row, column, numbers) for column in columns] for row in layout.rows}
    lines = _lines(layout, columns, measurements, {title for title, cells in printed.items() if any(cells)})
    published: dict[tuple[int, int], Published] = {}
    for number, line in enumerate(lines):
        line.cells = [_cell(line, column, reasons or {}) for column in columns]
        beside = printed[line.row.published] if line.is_faithful else []
        published |= {(number, place): cell for place, cell in enumerate(beside) if cell is not None}
    is_changed = layout != own or not {of.column.split for of in columns} <= {of.split for of in own.columns}
    return PaperTable(layout, columns, tuple(lines), published, is_changed)


def _lines(
    layout: Layout, columns: Sequence[PaperColumn], measurements: Sequence[Measurement], printed: Collection[str]
) -> list[PaperLine]:
    """Return the lines of all rows; a row's own setting is no variant of another row."""
    rows = [
        line
        for row in layout.rows
        for line in lines_of_row(row, layout.protocol, columns, measurements, row.published in printed)
    ]
    own = {found.run for line in rows if line.is_faithful for found in line.runs}
    return [line for line in rows if line.is_faithful or not own.issuperset(found.run for found in line.runs)]


def _with_numbers(layout: Layout, metrics: Sequence[str], group: str | None) -> Layout:
    """Return a layout with other metrics or groups, under the paper's headings where it has them."""
    if not metrics and group is None:
        return layout
    check_quantities(metrics or list(layout.metrics))
    heads = {
        metric: layout.metrics.get(metric, "") or QUANTITIES[metric].title * (len(metrics) > 1) for metric in metrics
    }
    groups = () if group is None else parse_groups(group)
    titled = {own: layout.groups.get(own, "") or group_title(own) for own in groups}
    changed = {"metrics": heads if set(heads) != set(layout.metrics) else {}}
    changed["groups"] = titled if set(titled) != set(layout.groups) else {}
    return layout.model_copy(update={name: value for name, value in changed.items() if value})


def wanted_cells(layout: Layout, dataset: str | None = None, splits: Sequence[str] = ()) -> set[tuple[str, str]]:
    """Return which methods a layout wants on which splits: (method, split without seed)."""
    bases = {base for column in _columns(layout, dataset, splits) for base in column.accepted}
    return {(row.method, base) for row in layout.rows if row.method is not None for base in bases}


def table_of(
    filled: PaperTable,
    *,
    placement: Placement = "beside",
    significance: bool = False,
    name: str,
    precision: Precision = USUAL,
) -> Table:
    """Return a filled layout as a table: ranked, with the published numbers, marks and footnotes.

    Args:
        filled: the layout with its runs.
        placement: where published values stand.
        significance: whether the best of a column are all that a paired test cannot tell apart.
        name: the layout's name.
        precision: how exactly numbers are printed; what prints alike shares a rank.
    """
    marks = Marks()
    runs = [found for column in filled.columns for line in filled.lines for found in column.runs(line.runs)]
    protocol = _protocol(filled, runs)
    titles = [_titled(line, protocol, marks) for line in filled.lines]
    by_column = [
        _finished(filled, place, column, marks, placement, significance, precision)
        for place, column in enumerate(filled.columns)
    ]
    by_column = with_notes(by_column, marks)
    rows = tuple((title, tuple(cells)) for title, cells in zip(titles, zip(*by_column, strict=True), strict=True))
    caption = f"{_subject(filled, runs)} Percent, protocol {protocol}"
    caption += spread_caption([cell for cells in by_column for cell in cells], precision.has_std)
    caption += f". {ranking_caption(significance, filled.layout.metrics)}{lower_caption(filled.layout.metrics)}."
    if placement != "off" and filled.published:
        caption += " In parentheses: the published value, and measured minus published."
    columns = tuple(column.column for column in filled.columns)
    return Table(columns, rows, tuple(marks.notes), caption, placement, filled.layout.methods_across, name)


def _subject(filled: PaperTable, runs: Sequence[Measurement]) -> str:
    """Return what the table shows: the layout's caption where it holds, else what is in the cells."""
    layout = filled.layout
    if not filled.is_changed:
        return layout.caption
    bases = list(dict.fromkeys(column.column.split for column in filled.columns))
    return f"In the layout of {layout.title}: {subject_of(layout.metrics, layout.groups, runs, bases)}"


def _protocol(filled: PaperTable, runs: Sequence[Measurement]) -> str:
    """Return the protocol that a caption names: the paper's, or that of most runs where the splits are others."""
    names = [found.protocol_name for found in runs]
    if not filled.is_changed or not names or filled.layout.protocol in names:
        return filled.layout.protocol
    return max(sorted(set(names)), key=names.count)


def _columns(layout: Layout, dataset: str | None, splits: Sequence[str]) -> Iterator[PaperColumn]:
    variants = layout.columns
    if splits:
        shape = variants[0]
        titles = list(dict.fromkeys(base_name(split) for split in splits))
        variants = [LayoutColumn(title=title, split=title, parameters=shape.parameters) for title in titles]
    seen: list[tuple[str | None, str, dict[str, Any]]] = []
    for of in variants:
        split, official = _moved(of.split, dataset), _moved(of.official, dataset)
        if (key := (split, of.suffix, of.parameters)) in seen:  # of two datasets that one was put in place of
            continue
        seen.append(key)
        accepted = tuple(filter(None, (official, split)))
        for metric, group, heads in _headings(layout):
            yield PaperColumn(Column(split or of.split, metric, group, (of.title, *heads)), accepted, of)


def _headings(layout: Layout) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the metric and group of each column of a split with its headings, as many for each column."""
    found = [
        (metric, group, (head, "" if group == RUN else layout.groups[group]))
        for metric, head in layout.metrics.items()
        for group in ((RUN,) if QUANTITIES[metric].is_resource else layout.groups)
    ]
    levels = [level for level in (0, 1) if any(titles[level] for _, _, titles in found)]
    for metric, group, titles in found:
        yield metric, group, tuple(titles[level] for level in levels)


def _moved(split: str | None, dataset: str | None) -> str | None:
    """Return the name of a layout's split with another dataset in front."""
    recipe = None if split is None or dataset is None else recipe_of(split)
    return split if split is None or recipe is None else f"{dataset}{split.removeprefix(recipe.dataset)}"


def _printed(layout: Layout, row: LayoutRow, column: PaperColumn, numbers: PublishedNumbers) -> Published | None:
    own = column.column
    title = row.published + column.of.suffix
    return numbers.find(layout.paper, layout.table, own.split, title, own.metric, own.group)


def _cell(line: PaperLine, column: PaperColumn, reasons: Reasons) -> Cell:
    reason = NOT_HERE if line.row.method is None else NOT_RUN
    for base in column.accepted:
        reason = reasons.get((line.row.method or "", base), reason)
    return cell_of(column.runs(line.runs), column.column.metric, column.column.group, reason)


def _titled(line: PaperLine, usual: str, marks: Marks) -> str:
    protocols = sorted({found.protocol_name for found in line.runs})
    odd = [f"protocol {name}" for name in protocols if name != usual]
    privileges = line.runs[0].privileges if line.runs else ()
    own = line.row.note if line.runs else ""
    return marked_title(line.title, (own, *privileges, *odd, *cropped_of(line.runs)), marks)


def _finished(
    filled: PaperTable,
    place: int,
    column: PaperColumn,
    marks: Marks,
    placement: Placement,
    significance: bool,
    precision: Precision,
) -> list[Cell]:
    """Return the cells of a column with rank, marks and published values."""
    runs = [column.runs(line.runs) for line in filled.lines]
    cells = printed_with(precision, [line.cells[place] for line in filled.lines], column.column.metric)
    cells = ranked_column(cells, runs, column.column, significance)
    finished = []
    for number, (cell, own) in enumerate(zip(cells, runs, strict=True)):
        drawn = filled.published and column.is_own_draw(own)
        cell = cell.marked(marks.letter(OWN_DRAW if drawn else ""))
        printed = filled.published.get((number, place)) if placement != "off" else None
        finished.append(cell if printed is None else _with_published(cell, printed, marks))
    return finished


def _with_published(cell: Cell, printed: Published, marks: Marks) -> Cell:
    text = "N/A" if printed.value is None else f"{printed.value:.2f}"
    note = f"published, {printed.flag.replace('_', ' ')}: {printed.note}" if printed.flag else ""
    return replace(cell, published=printed.value, published_text=text, published_mark=marks.letter(note))
