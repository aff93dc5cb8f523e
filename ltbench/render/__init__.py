"""Tables as text: Markdown, LaTeX (booktabs), CSV, HTML, and letters for a terminal. No arithmetic takes place here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ltbench.errors import SpecError
from ltbench.render.html import html
from ltbench.render.latex import PAGE, latex
from ltbench.render.listing import listing
from ltbench.render.markdown import markdown
from ltbench.render.terminal import COLUMNS, text
from ltbench.tables.arrangement import Per
from ltbench.tables.cells import Table

Format = Literal["text", "markdown", "latex", "csv", "html"]

SUFFIXES: dict[str, Format] = {".txt": "text", ".md": "markdown", ".tex": "latex", ".csv": "csv", ".html": "html"}
"""What a file's name says of its format."""


def render(table: Table, form: Format, *, per: Per | None = None, width: float | None = None) -> str:
    """Return the table as text in one of the formats.

    Args:
        table: the table.
        form: the format.
        per: whether each metric or split has a table of its own; a CSV cannot.
        width: columns of a text, points of the text of a LaTeX document; the others have none.

    Raises:
        SpecError: an option that the format would pass over.
    """
    check_options(form, per, width)
    if form == "csv":
        return listing(table)
    if form == "latex":
        return latex(table, per, PAGE if width is None else width)
    if form == "text":
        return text(table, per, COLUMNS if width is None else int(width))
    return markdown(table, per) if form == "markdown" else html(table, per)


def check_options(form: Format, per: Per | None, width: float | None) -> None:
    """Raise `SpecError` for an option that a format would pass over."""
    if width is not None and form not in ("text", "latex"):
        raise SpecError(f"Expected --width with text or latex, got {form}, which has none. Leave it out.")
    if per is not None and form == "csv":
        raise SpecError("Expected --per with tables, got csv, which has a line a cell. Leave it out.")


def format_of(form: Format | None, out: Path | None, is_terminal: bool) -> Format:
    """Return the format to print in: the one asked for, else the file's, else text on a terminal, else Markdown.

    Raises:
        SpecError: the file's name says no format.
    """
    if form is not None:
        return form
    if out is None:
        return "text" if is_terminal else "markdown"
    if out.suffix not in SUFFIXES:
        raise SpecError(f"Expected a file named {', '.join(SUFFIXES)}, got {out.name!r}. Mend --out, or add --format.")
    return SUFFIXES[out.suffix]
