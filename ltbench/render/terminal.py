"""Tables as text for a terminal: headings above the columns that they are of, in parts where it is too narrow."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from rich.cells import cell_len
from rich.text import Text

from ltbench.foreign import visible
from ltbench.render.fitting import Measured, Ruler, broken, fitting, measured
from ltbench.render.text import number, published, reasons
from ltbench.tables.arrangement import Per
from ltbench.tables.cells import Cell, Grid, Placement, Row, Table, spans

COLUMNS = 120
"""Columns of a text whose reader's width is unknown."""
GAP = 2
RULE = "─"
_RAISED = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
"""Letters as marks; Unicode has no raised q."""
_STYLES = {1: "bold", 2: "underline"}


def text(table: Table, per: Per | None, columns: int = COLUMNS) -> str:
    """Return a table as plain text, at most so many columns wide if a column of the table is not wider."""
    return "".join(f"{line.plain.rstrip()}\n" for line in styled_lines(table, per, columns))


def styled_lines(table: Table, per: Per | None, columns: int) -> Iterator[Text]:
    """Yield the lines of a table, the best bold, the second underlined; caption, notes and missing values at the end.

    Args:
        table: the table.
        per: whether each metric or split has a table of its own.
        columns: of the terminal.
    """
    table = _shown(table)
    ruler = Ruler(cell_len, partial(_cell_width, table.placement), GAP, columns)
    for subject, part in fitting(table, per, ruler):
        if len(part.columns[0].titles) < len(table.columns[0].titles):  # which no heading says
            yield Text(subject, style="bold")
        yield from _table_lines(part, ruler)
        yield Text()
    told = [table.caption, *(f"{raised(mark)} {note}" for mark, note in table.notes), *map(visible, reasons(table))]
    for sentence in filter(None, told):
        for line in textwrap.wrap(sentence, columns, subsequent_indent="  "):
            yield Text(line, style="dim")


def raised(mark: str) -> str:
    """Return a mark in raised letters."""
    return mark.translate(_RAISED)


def _shown(table: Table) -> Table:
    """Return a table without anything that would steer the terminal."""
    return replace(
        table,
        caption=visible(table.caption),
        columns=tuple(replace(own, titles=tuple(map(visible, own.titles))) for own in table.columns),
        rows=tuple((visible(title), cells) for title, cells in table.rows),
        notes=tuple((mark, visible(note)) for mark, note in table.notes),
    )


def _table_lines(table: Table, ruler: Ruler) -> Iterator[Text]:
    grid = Grid.of(table)
    sizes = measured(grid, ruler)
    levels = grid.levels()
    for number_of_level, level in enumerate(levels):
        is_last = number_of_level == len(levels) - 1
        yield from _heading_lines(level, sizes, grid.corner if is_last else "")
    yield Text(RULE * int(sizes.total), style="dim")
    for row in grid.lines:
        yield from _row_lines(row, table.placement, sizes)


def _heading_lines(level: Sequence[tuple[str, ...]], sizes: Measured, corner: str) -> Iterator[Text]:
    """Yield a level of headings, broken into lines: centred above several columns with a rule, else at the right."""
    heads = spans(level)
    has_rules = any(count > 1 for _, count in heads)
    stacks, first = [], 0
    for head, count in heads:
        width = int(sizes.span(first, count))
        lines = [_set(line, width, "center" if count > 1 else "right") for line in broken(head, width, cell_len)]
        stacks.append(lines + [(RULE if count > 1 else " ") * width] * has_rules)
        first += count
    height = max(map(len, stacks))
    for line in range(height):
        shown = [_at(stack, line - height + len(stack)) for stack in stacks]
        title = _set(corner if line == height - 1 else "", int(sizes.title), "left")
        yield Text((" " * GAP).join([title, *shown]), style="bold")


def _set(text: str, width: int, where: Literal["left", "center", "right"]) -> str:
    found = Text(text)
    found.align(where, width)
    return found.plain


def _at(stack: Sequence[str], line: int) -> str:
    return stack[line] if line >= 0 else " " * len(stack[0])


def _row_lines(row: Row, placement: Placement, sizes: Measured) -> Iterator[Text]:
    """Yield the lines of a row: its title may take several, published values below take one more."""
    title, cells = row
    titles = broken(title, sizes.title, cell_len)
    printed = [published(cell, raised, str) if placement != "off" else "" for cell in cells]
    has_second = placement == "below" and any(printed)
    first = [_measured(cell, "" if has_second else own) for cell, own in zip(cells, printed, strict=True)]
    rows = [first] + [[Text(own, style="dim") for own in printed]] * has_second
    for line in range(max(len(titles), len(rows))):
        found = Text(_set(titles[line] if line < len(titles) else "", int(sizes.title), "left"))
        for own, width in zip(rows[line] if line < len(rows) else (), sizes.columns, strict=False):
            found.append(" " * (GAP + int(width) - own.cell_len))
            found.append_text(own)
        yield found


def _measured(cell: Cell, printed: str) -> Text:
    found = Text(number(cell), style=_STYLES.get(cell.rank, ""))
    return Text.assemble(found, raised(cell.mark), *[(f" {printed}", "dim")] * bool(printed))


def _cell_width(placement: Placement, cell: Cell) -> float:
    own = cell_len(number(cell) + raised(cell.mark))
    printed = cell_len(published(cell, raised, str)) if placement != "off" else 0
    return max(own, printed) if placement == "below" else own + (1 + printed) * (printed > 0)
