"""What all printing shares: JSON for programs, rich tables for people, and nothing that steers a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from rich import markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ltbench.foreign import visible

WIDTH = 120
"""Columns of a table where the width of the terminal is unknown."""

LONGEST = 4000
"""Letters of a line on standard error."""

_kept: list[TextIO] = []
"""The standard output of commands that are going on, while `sys.stdout` is the standard error."""


@contextmanager
def keeping_stdout() -> Iterator[None]:
    """Leave standard output to the functions below: what methods and libraries print goes to standard error."""
    _kept.append(_stdout())
    try:
        with redirect_stdout(sys.stderr):
            yield
        _kept[-1].flush()  # a full disk or a closed pipe is told now, not at the interpreter's end
    finally:
        _kept.pop()


def say(text: object) -> None:
    """Print one line on standard output."""
    write(visible(str(text)) + "\n")


def tell(text: object) -> None:
    """Print one line on standard error, with the name of the command in front."""
    line = visible(str(text))
    print("ltbench:", line if len(line) <= LONGEST else f"{line[:LONGEST]} ...", file=sys.stderr)


def write(text: str) -> None:
    """Print text of which every part was made visible."""
    _stdout().write(text)


def print_json(value: object) -> None:
    """Print one JSON object."""
    write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def escape(text: str) -> str:
    """Return foreign text for a rich console: no markup, and nothing that steers the terminal."""
    return markup.escape(visible(text))


def open_console(*, stderr: bool = False, **options: Any) -> Console:
    """Return a console on standard output or error, `WIDTH` columns wide where that is no terminal."""
    stream = sys.stderr if stderr else _stdout()
    console = _VisibleConsole(file=stream, emoji=False, **options)
    if console.is_terminal or stderr:
        return console
    return _VisibleConsole(file=stream, emoji=False, width=max(WIDTH, console.width), **options)


def new_table(*headings: str, **options: Any) -> Table:
    """Return a table without a frame; its first column is not broken, the others are."""
    table = Table(box=None, pad_edge=False, **options)
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    return table


def percent(value: float | None) -> str:
    """Return a share as text in percent."""
    return "–" if value is None else f"{100 * value:.1f} %"


class _VisibleConsole(Console):
    """A console that makes all text visible, whoever forgot to."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str("\n".join(map(visible, text.split("\n"))), **options)


def _stdout() -> TextIO:
    return _kept[-1] if _kept else sys.stdout
