"""What all printing shares: one JSON object for programs, rich tables for people."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 120
"""Columns of a table where the width of the terminal is unknown."""


def print_json(value: object) -> None:
    """Print one JSON object."""
    print(json.dumps(value, indent=1, allow_nan=False))


def open_console() -> Console:
    """Return a console on standard output, `WIDTH` columns wide where that is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(WIDTH, console.width), soft_wrap=False)


def new_table(*headings: str, **options: Any) -> Table:
    """Return a table without a frame; its first column is not broken, the others are."""
    table = Table(box=None, pad_edge=False, **options)
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    return table


def percent(value: float | None) -> str:
    """Return a share as text in percent."""
    return "–" if value is None else f"{100 * value:.1f} %"
