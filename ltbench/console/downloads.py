"""How far a download is: a bar on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ltbench.console.output import open_console
from ltbench.foreign import visible

PLAIN_SECONDS = 10.0
"""Seconds between two plain lines where there is no terminal."""

_MEGA = 1e6


class DownloadMeter:
    """A `Meter` on standard error; `with` closes its bar.

    Args:
        quiet: show nothing.
        console: where to write.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or open_console(stderr=True)
        self.quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self._title, self._total = "", 0
        self._before = self._done = 0
        self._since = self._told = 0.0

    def __enter__(self) -> Self:
        """Open the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close the bar."""
        self._bar.stop()

    def start(self, title: str, done: int, total: int | None) -> None:
        """Begin a task of `total` bytes, of which some are done."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._bar.add_task(visible(title), total=total, completed=done)
        self._title, self._total, self._before, self._done = title, total or 0, done, done
        self._since = self._told = time.monotonic()

    def advance(self, count: int) -> None:
        """Add bytes."""
        self._done += count
        for task in self._bar.task_ids:
            self._bar.advance(task, count)
        now = time.monotonic()
        if self._bar.disable and now - self._told >= PLAIN_SECONDS:
            self._told = now
            self.say(self._line(now - self._since))

    def say(self, text: str) -> None:
        """Show a line."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _line(self, seconds: float) -> str:
        speed = (self._done - self._before) / seconds
        done = f"{self._title}: {self._done / _MEGA:.0f}"
        if not self._total or not speed:
            return f"{done} MB, {seconds:.0f} s"
        left = (self._total - self._done) / speed
        return f"{done}/{self._total / _MEGA:.0f} MB, {speed / _MEGA:.1f} MB/s, {left:.0f} s left"
