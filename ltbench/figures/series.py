"""Which records belong to one line of a figure, and how it is called."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltbench.core import imbalance_of
from ltbench.errors import SpecError
from ltbench.metrics.registry import is_lower_better
from ltbench.records.record import RunRecord
from ltbench.tables.cells import METRIC_TITLES
from ltbench.tables.comparison import check_metrics, lines_of
from ltbench.tables.lists import ListKey, by_list, mean_of_lists, why_not_pooled
from ltbench.tables.measurements import Line, measure


class TooFewRunsError(SpecError):
    """Runs that do not suffice for a figure: none, or none with what it shows."""


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
        """Largest over smallest category, in normal training images, mean over training lists."""
        counts = {_list_of(record): record.counts for record in self.records}
        return statistics.fmean(map(imbalance_of, counts.values()))

    def mean(self, metric: str, group: str) -> float | None:
        """Return the mean over lists and seeds in percent, or None if a record lacks it."""
        return self.mean_of([record.metrics.get(metric, {}).get(group) for record in self.records])

    def mean_of(self, values: Sequence[float | None]) -> float | None:
        """Return the mean in percent over training lists of the means over seeds, or None if a value is missing.

        Args:
            values: one a record, in [0, 1].
        """
        by_list: dict[ListKey, list[float]] = {}
        for record, value in zip(self.records, values, strict=True):
            if value is None:
                return None
            by_list.setdefault(_list_of(record), []).append(100 * value)
        return mean_of_lists(by_list)

    @property
    def weights(self) -> list[float]:
        """What each record weighs in a mean over training lists of means over seeds; their sum is 1."""
        lists = [_list_of(record) for record in self.records]
        return [1 / len(set(lists)) / lists.count(own) for own in lists]


def _list_of(record: RunRecord) -> ListKey:
    return (record.spec.split, record.spec.split_sha256)


def series_of(records: Sequence[RunRecord]) -> list[Series]:
    """Return the series of records, by method and split.

    Raises:
        TooFewRunsError: there is no record.
        SpecError: two training lists of one name, or two runs of one seed on a list, would be one series.
    """
    if not records:
        raise TooFewRunsError(
            "Expected finished runs, got none that fit. Make one with `ltbench run`, or pass --results."
        )
    by_run = {record.spec.hash: record for record in records}
    lines = lines_of(measure(records, ()))
    made = []
    for line, title in zip(lines, _distinct(lines), strict=True):
        for base, found in sorted(line.by_base.items()):
            if why := why_not_pooled(by_list(found)):
                raise SpecError(f"Expected runs that have a mean, got some that have none: {why}.")
            own = sorted(found, key=lambda run: (run.split, run.seed))
            made.append(Series(title, base, tuple(by_run[run.run] for run in own)))
    return made


def _distinct(lines: Sequence[Line]) -> list[str]:
    """Return a title for each line that no other has: with the protocol, or the registry name, where two are equal."""
    titles = [line.title for line in lines]
    for told in (lambda line: f"protocol {line.first.protocol_name}", lambda line: line.first.method.name):
        titles = [
            f"{title}, {told(line)}" if titles.count(title) > 1 else title
            for title, line in zip(titles, lines, strict=True)
        ]
    return titles


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
