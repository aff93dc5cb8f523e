"""The Markdown table of `gpu.py`: rates side by side, and the peak of the device's memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tabulate import tabulate

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Side:
    """What a row is beside: its name, how many units it does, and the work."""

    name: str
    amount: float
    work: Callable[[], object]


class Table:
    """Rows of a Markdown table: what, how fast, beside what, and the peak of the device's memory."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._rows: list[tuple[str, str, str, str, str]] = []

    def add(self, what: str, unit: str, amount: float, new: Callable[[], object], old: Side | None = None) -> None:
        """Time a side, and an older one if there is one, and add a row with its rate or its seconds.

        Args:
            what: is done.
            unit: of a rate; "" for plain seconds.
            amount: how many units a round of `new` does.
            new: is timed.
            old: what it is beside.
        """
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        seconds = self._seconds(new)
        peak = f"{torch.cuda.max_memory_allocated(self._device) / 2**20:,.0f}" if self._device.type == "cuda" else ""
        beside, times = "", ""
        if old is not None:
            before = self._seconds(old.work, rounds=1) / old.amount
            beside, times = f"{_rate(before, unit)} ({old.name})", f"{before / (seconds / amount):.1f}"
        self._rows.append((what, _rate(seconds / amount, unit), beside, times, peak))
        print(f"{what}: {self._rows[-1][1]} {beside}", flush=True)

    def note(self, what: str, text: str) -> None:
        """Add a row with a text."""
        self._rows.append((what, text, "", "", ""))

    def text(self) -> str:
        """Return the table."""
        return tabulate(self._rows, ("what", "measured", "beside", "times", "peak MiB"), tablefmt="github")

    def _seconds(self, work: Callable[[], object], rounds: int = ROUNDS) -> float:
        measured = []
        for number in range(rounds + 1):
            start = time.perf_counter()
            work()
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            if number:
                measured.append(time.perf_counter() - start)
        return statistics.median(measured)


def _rate(seconds: float, unit: str) -> str:
    return f"{1 / seconds:,.0f} {unit}/s" if unit else f"{seconds:.2f} s"
