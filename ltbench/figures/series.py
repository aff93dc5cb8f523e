"""Which records belong to one line of a figure, and how it is called."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltbench.errors import SpecError
from ltbench.metrics.registry import is_lower_better
from ltbench.records.record import RunRecord
from ltbench.tables.cells import METRIC_TITLES
from ltbench.tables.comparison import check_metrics, lines_of
from ltbench.tables.measurements import measure


@dataclass(frozen=True)
class Series:
    """The runs of one method on one split, over all seeds.

    Args:
        method: the method's title, with what tells its variants apart.
        base: the split without its seed.
        records: one record a seed, by split and seed.
    """

    method: str
    base: str
    records: tuple[RunRecord, ...]

    @property
    def first(self) -> RunRecord:
        """One of the records, for what they share."""
        return self.records[0]

    @property
    def imbalance(self) -> float:
        """Largest over smallest category, in normal training images, mean over seeds."""
        counts = [[count["normal"] for count in record.counts.values()] for record in self.records]
        return statistics.fmean(max(own) / min(own) for own in counts)

    def mean(self, metric: str, group: str) -> float | None:
        """Return the mean over seeds in percent, or None if a record lacks it."""
        values = [record.metrics.get(metric, {}).get(group) for record in self.records]
        present = [100 * value for value in values if value is not None]
        return statistics.fmean(present) if len(present) == len(values) else None


def series_of(records: Sequence[RunRecord]) -> list[Series]:
    """Return the series of records, by method and split.

    Raises:
        SpecError: there is no record.
    """
    if not records:
        raise SpecError("Expected finished runs, got none that fit. Make one with `ltbench run`, or pass --results.")
    by_run = {record.spec.hash: record for record in records}
    return [
        Series(line.title, base, tuple(by_run[own.run] for own in sorted(found, key=lambda own: (own.split, own.seed))))
        for line in lines_of(measure(records, ()))
        for base, found in sorted(line.by_base.items())
    ]


def names_of(series: Sequence[Series]) -> list[str]:
    """Return what each series is called: by what differs, method or split or both."""
    methods, bases = {own.method for own in series}, {own.base for own in series}
    if len(bases) == 1:
        return [own.method for own in series]
    return [own.base if len(methods) == 1 else f"{own.method}, {own.base}" for own in series]


def shared_title(series: Sequence[Series]) -> str:
    """Return what all series share: the split, the method, or neither."""
    methods, bases = {own.method for own in series}, {own.base for own in series}
    return ", ".join([*(methods if len(methods) == 1 else ()), *(bases if len(bases) == 1 else ())])


def axis_title(metric: str) -> str:
    """Return a metric's name for an axis.

    Raises:
        UnknownNameError: an unknown metric.
    """
    check_metrics([metric])
    return f"{METRIC_TITLES[metric]} ({'%, lower is better' if is_lower_better(metric) else '%'})"


def sizes(record: RunRecord) -> Mapping[str, int]:
    """Return category -> training images, contaminants included."""
    return {category: sum(count.values()) for category, count in record.counts.items()}
