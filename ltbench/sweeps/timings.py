"""How long a run is expected to take, from the runs that are finished."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from ltbench.records.record import RunRecord

SAMPLE = 20
"""Finished runs of one method, preset and protocol that are looked at: the number of test images takes reading them."""


class Timings:
    """Seconds of finished runs by method and settings."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)

    def add(self, record: RunRecord) -> None:
        """Learn from a record: its seconds a training image and a test image."""
        key = (record.spec.method, record.preset, record.spec.protocol.name)
        if len(self._seen[key]) == SAMPLE:
            return
        train = sum(sum(count.values()) for count in record.counts.values())
        test = sum(len(scores) for scores in record.scores.values())
        fit = record.seconds.get("fit", 0.0)
        rest = record.seconds.get("predict", 0.0) + record.seconds.get("evaluate", 0.0)
        if train and test:
            self._seen[key].append((fit / train, rest / test))

    def estimate(self, method: str, preset: str, protocol: str, train: int, test: int) -> float | None:
        """Return the expected seconds of a run, or None if no such run is finished.

        The median of what the finished runs of the same method, preset and protocol would have taken, their fit scaled
        by the number of training images and the rest by that of test images.
        """
        seen = self._seen.get((method, preset, protocol))
        return median(fit * train + rest * test for fit, rest in seen) if seen else None
