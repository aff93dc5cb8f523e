"""Tables as HTML: one page without scripts, or the table alone for the report."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ltbench.foreign import visible
from ltbench.render.text import number, published, reasons
from ltbench.tables.arrangement import Per, numbered, parts_by
from ltbench.tables.cells import Cell, Grid, Table, spans


def html(table: Table, per: Per | None = None) -> str:
    """Return a table, or one a metric or split, as an HTML page."""
    body = "\n".join(map(fragment, numbered(parts_by(table, per))))
    return _environment().get_template("page.html").render(table=table, body=body)


def fragment(table: Table) -> str:
    """Return a table as an HTML element with its notes; all text is escaped."""
    grid = Grid.of(table)
    heads = [spans(level) for level in grid.levels()]
    return _environment().get_template("table.html").render(table=table, grid=grid, heads=heads, reasons=reasons(table))


def shown(value: object) -> object:
    """Return a value of a template: foreign text is made visible, markup and numbers are left as they are."""
    return visible(value) if type(value) is str else value


def _published(cell: Cell) -> Markup:
    return Markup(published(cell, lambda mark: Markup("<sup>{}</sup>").format(mark) if mark else "", escape))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ltbench.render"),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "published": _published}
    return environment
