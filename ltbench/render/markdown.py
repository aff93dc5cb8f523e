"""Tables as Markdown."""

from __future__ import annotations

import re

from tabulate import tabulate

from ltbench.foreign import visible
from ltbench.render.text import number, published, reasons
from ltbench.tables.arrangement import Per, numbered, parts_by
from ltbench.tables.cells import Cell, Grid, Placement, Table


def escape_markdown(text: str) -> str:
    """Return text that Markdown and HTML print as it is, inside a table cell."""
    shown = visible(text.replace("\n", " "))
    escaped = re.sub(r"([\\`*{}\[\]|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", shown)  # a_b is literal without a backslash
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown(table: Table, per: Per | None = None) -> str:
    """Return a table, or one a metric or split, as Markdown: the best bold, the second underlined, notes below."""
    return "\n".join(map(_whole, numbered(parts_by(table, per))))


def _whole(table: Table) -> str:
    grid = Grid.of(table)
    headers = [grid.corner, *(escape_markdown(" ".join(filter(None, head))) for head in grid.heads)]
    lines = [[escape_markdown(title), *(_cell(cell, table.placement) for cell in cells)] for title, cells in grid.lines]
    align = ["left", *["right"] * len(grid.heads)]
    body = tabulate(lines, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
    notes = [f"{_raised(mark)} {escape_markdown(note)}" for mark, note in table.notes]
    lacking = [escape_markdown(sentence) for sentence in reasons(table)]
    return "\n\n".join([body, escape_markdown(table.caption), *notes, *lacking]) + "\n"


def _cell(cell: Cell, placement: Placement) -> str:
    style = {1: "**{}**", 2: "<u>{}</u>"}.get(cell.rank, "{}")
    text = style.format(number(cell)) + _raised(cell.mark)
    printed = published(cell, _raised, escape_markdown)
    if placement == "off" or not printed:
        return text
    return text + ("<br>" if placement == "below" else " ") + printed


def _raised(mark: str) -> str:
    return f"<sup>{escape_markdown(mark)}</sup>" if mark[:1].isalpha() else escape_markdown(mark)
