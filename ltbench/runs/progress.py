"""Progress on the terminal, and the seconds spent in each phase of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ltbench.foreign import visible

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run is: the stage and phase, how many items of how many are done, since when by `time.time`."""

    title: str = ""
    done: int = 0
    total: int | None = None
    since: float = 0.0


PLAIN_SECONDS = 10.0
"""Seconds between two plain lines where there is no terminal."""


class ConsoleProgress:
    """A `method.Progress` that shows a bar on a terminal and a line now and then elsewhere.

    Args:
        console: where to write; standard error by default, so that `--json` stays clean.
        quiet: show nothing, measure only.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self.quiet = quiet
        self.seconds: dict[str, float] = {}
        self.position = Position()
        self._stage = ""
        self._nested = False
        self._told = ""

    def say(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            self.console.print(visible(text), highlight=False, markup=False, emoji=False)

    def warn(self, text: str) -> None:
        """Print one line even where progress is not shown: it is on standard error, and waits for somebody."""
        Console(stderr=True).print(visible(text), highlight=False, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Prefix what is shown inside with a name ("predict bottle 3/15")."""
        before, self._stage = self._stage, name
        self.position = Position(name, since=time.time())
        try:
            yield
        finally:
            self._stage = before

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds spent inside the block to `seconds[phase]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(phase, time.perf_counter() - start)

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Add to `seconds[phase]`."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def tell(self, text: str) -> None:
        """Show a short text beside the loop that is going on."""
        self._told = text

    def track(self, items: Iterable[T], phase: str, total: int | None = None, done: int = 0) -> Iterator[T]:
        """Yield the items, showing the stage, the phase, how many of `total` are done and the time left.

        Args:
            items: those that are left to do.
            phase: what is done.
            total: how many there are in all; by default as many as `items`.
            done: how many of them were done before.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        if self._nested:
            yield from items
            return
        self._nested, self._told = True, ""
        title = f"{self._stage}: {phase}" if self._stage else phase
        items = self._counted(items, title, total, done)
        show = self._bar if self.console.is_terminal else self._lines
        try:
            yield from items if self.quiet else show(items, title, total, done)
        finally:
            self._nested = False

    def _counted(self, items: Iterable[T], title: str, total: int | None, done: int) -> Iterator[T]:
        since = time.time()
        for number, item in enumerate(items, start=done):
            self.position = Position(title, number, total, since)
            yield item

    def _bar(self, items: Iterable[T], title: str, total: int | None, done: int) -> Iterator[T]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(escape(visible(title)), total=total, completed=done, told="")
            for item in items:
                yield item
                bar.update(task, advance=1, told=escape(visible(self._told)))

    def _lines(self, items: Iterable[T], title: str, total: int | None, done: int) -> Iterator[T]:
        start = last = time.monotonic()
        for number, item in enumerate(items):
            now = time.monotonic()
            if now - last >= PLAIN_SECONDS:
                last = now
                line = _line(title, number, total, now - start, done)
                told = f"; {self._told}" if self._told else ""
                self.console.print(visible(line + told), highlight=False, markup=False, emoji=False)
            yield item


def _line(title: str, number: int, total: int | None, seconds: float, before: int) -> str:
    if not total:
        return f"{title}: {before + number} done, {seconds:.0f} s"
    left = seconds / number * (total - before - number) if number else float("nan")
    return f"{title}: {before + number}/{total}, {seconds:.0f} s, {left:.0f} s left"
