"""Tables as text: Markdown, LaTeX (booktabs), CSV and HTML. No arithmetic takes place here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ltbench.render.html import html
from ltbench.render.latex import latex
from ltbench.render.listing import listing
from ltbench.render.markdown import markdown
from ltbench.tables.cells import Table

Format = Literal["markdown", "latex", "csv", "html"]


def render(table: Table, form: Format) -> str:
    """Return the table as text in one of the formats."""
    renderers: dict[Format, Callable[[Table], str]] = {
        "markdown": markdown,
        "latex": latex,
        "csv": listing,
        "html": html,
    }
    return renderers[form](table)
