"""The page itself: data and pictures into the template, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ltbench import __version__
from ltbench.atomic import write_output
from ltbench.errors import SpecError
from ltbench.records.record import RunRecord
from ltbench.render.html import fragment, shown
from ltbench.report.leaderboard import leaderboard
from ltbench.report.pictures import Gallery, figures, galleries
from ltbench.tables.cells import METRIC_TITLES
from ltbench.tables.layouts import layouts
from ltbench.tables.measurements import Reasons, measure
from ltbench.tables.paper import fill, table_of
from ltbench.tables.published import published_numbers

PAGE = "index.html"


def make_page(
    records: Sequence[RunRecord],
    results: Path,
    *,
    data_root: Path | None = None,
    title: str = "ltbench",
    heatmaps: bool = True,
    reasons: Reasons | None = None,
) -> str:
    """Return the report as one HTML page; the same records give the same page.

    Args:
        records: the runs.
        results: the results folder, where maps lie.
        data_root: folder of the datasets, for the images below maps.
        title: the page's heading.
        heatmaps: whether galleries are made where maps exist; they show test images of the datasets.
        reasons: why cells are empty, beyond that they were not run.

    Raises:
        SpecError: there is no run.
    """
    if not records:
        raise SpecError("Expected finished runs, got none. Make one with `ltbench run`, or pass --results.")
    shown: list[Gallery] = []
    problems: list[str] = []
    if heatmaps:
        shown, problems = galleries(records, results, data_root)
    undrawn: list[str] = []
    drawn = list(figures(records, undrawn))
    return template_environment().get_template("report.html").render(
        title=title,
        version=__version__,
        created=max(record.created for record in records),
        count=len(records),
        methods=len({record.spec.method for record in records}),
        splits=len({record.spec.split for record in records}),
        data=as_script(leaderboard({"": records}, published_numbers())),
        papers=papers_of(records, reasons or {}),
        figures=[(heading, list(group)) for heading, group in groupby(drawn, key=lambda own: own.heading)],
        undrawn=undrawn,
        galleries=shown,
        problems=problems,
        style=asset("report.css"),
        script=asset("report.js"),
    )  # fmt: skip


def write_page(page: str, folder: Path) -> Path:
    """Write the page into a folder, whole or not at all, and return its path.

    Raises:
        DataError: it cannot be written.
    """
    target = folder / PAGE
    write_output(target, page.encode("utf-8"))
    return target


def papers_of(records: Sequence[RunRecord], reasons: Reasons) -> list[tuple[str, Markup]]:
    """Return the published tables that have runs in them: name and table."""
    numbers, made, runs = published_numbers(), [], measure(records, list(METRIC_TITLES))
    for name, layout in layouts().items():
        filled = fill(layout, runs, numbers, reasons=reasons)
        if any(line.runs for line in filled.lines):
            made.append((name, Markup(fragment(table_of(filled, placement="below", name=name)))))
    return made


def as_script(value: Any) -> Markup:
    """Return JSON that can stand inside a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(_visible(value), allow_nan=False, separators=(",", ":"))  # ASCII, so no U+2028
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _visible(value: Any) -> Any:
    """Return plain values with every text made visible."""
    if isinstance(value, Mapping):
        return {shown(key): _visible(own) for key, own in value.items()}
    return [_visible(own) for own in value] if isinstance(value, list | tuple) else shown(value)


def asset(name: str) -> Markup:
    """Return a style sheet or script of this package, to stand in a page."""
    return Markup((files("ltbench.report") / "templates" / name).read_text(encoding="utf-8"))


@cache
def template_environment() -> Environment:
    """Return where pages come from: all text is escaped and made visible."""
    return Environment(
        loader=PackageLoader("ltbench.report"),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
