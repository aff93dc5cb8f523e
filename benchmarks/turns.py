"""Time several sides of a comparison in turns, so that a machine's moods hit all alike; print them as a table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def median_seconds(
    sides: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return each side's median seconds over rounds, after one that warms up, by a clock."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            start = clock()
            side()
            if number:
                seconds[name].append(clock() - start)
    return {name: statistics.median(measured) for name, measured in seconds.items()}


def print_table(what: str, ratio: str, seconds: Mapping[str, float], of: Callable[[float], float]) -> None:
    """Print seconds and a ratio of them as a Markdown table."""
    print(f"| {what} | seconds | {ratio} |\n|---|---:|---:|")
    for name, measured in seconds.items():
        print(f"| {name} | {measured:.2f} | {of(measured):.2f} |")
