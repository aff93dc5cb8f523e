"""What tables keep of a record, and which records belong to one row."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ltbench.errors import SpecError
from ltbench.method import MethodInfo
from ltbench.records.record import RunRecord
from ltbench.tables.cells import Cell

PRIVILEGES = {
    "uses_categories": "told the category of every image",
    "uses_training_categories": "told the category of every training image",
    "is_transductive": "scores test images jointly",
}

Reasons = Mapping[tuple[str, str], str]
"""(method, split without seed) -> why there is no run: it failed, or the method is not applicable."""

NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run, as far as a table looks at it.

    Args:
        run: hash of the RunSpec.
        method: what the method says of itself.
        preset: the preset that the hyper-parameters were taken from.
        parameters: every hyper-parameter.
        protocol: how images became numbers, as text that two protocols share if they are one.
        protocol_name: its name.
        split: the split's name.
        seed: the method's seed.
        members: group -> its categories.
        values: metric -> group or category -> value in [0, 1], of the wanted metrics.
        missing: metric -> group or category -> why there is no value.
    """

    run: str
    method: MethodInfo
    preset: str
    parameters: Mapping[str, Any]
    protocol: str
    protocol_name: str
    split: str
    seed: int
    members: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Mapping[str, float]]
    missing: Mapping[str, Mapping[str, str]]

    @property
    def base(self) -> str:
        """The split's name without its seed."""
        return base_name(self.split)

    @property
    def variant(self) -> tuple[str, str, str]:
        """What the runs of one row share: method, hyper-parameters and protocol."""
        return (self.method.name, self.parameters_text, self.protocol)

    @property
    def parameters_text(self) -> str:
        """The hyper-parameters as text that equal ones share."""
        return repr(sorted(self.parameters.items()))

    @property
    def privileges(self) -> tuple[str, ...]:
        """What the method is told that others are not."""
        return tuple(text for name, text in PRIVILEGES.items() if getattr(self.method, name))


def measure(records: Iterable[RunRecord], metrics: Sequence[str], dataset: str | None = None) -> list[Measurement]:
    """Return what a table keeps of the records of a dataset, or of all; the rest of each can be forgotten at once.

    Equal contents are kept once, so that 10,000 records of a few methods take little memory.
    """
    shared: dict[str, Any] = {}

    def once(value: Any) -> Any:
        return shared.setdefault(repr(value), value)

    def kept(record: RunRecord) -> Measurement:
        spec = record.spec
        return Measurement(
            run=spec.hash,
            method=once(record.method),
            preset=record.preset,
            parameters=once(dict(spec.parameters)),
            protocol=once(repr(spec.protocol)),
            protocol_name=spec.protocol.name,
            split=spec.split,
            seed=spec.seed,
            members=once({"high": record.high, "low": record.low, "avg": record.high + record.low}),
            values={metric: record.metrics.get(metric, {}) for metric in metrics},
            missing=once({metric: dict(record.missing.get(metric, {})) for metric in metrics}),
        )

    return [kept(record) for record in records if dataset in (None, record.dataset)]


def base_name(split: str) -> str:
    """Return the name of a split without its seed; published lists are one split in several draws, too."""
    return re.sub(r"_official\d+", "_official", re.sub(r"_seed\d+$", "", split))


@dataclass
class Line:
    """The runs of one row of a table, by split without seed."""

    title: str
    first: Measurement
    by_base: dict[str, list[Measurement]] = field(default_factory=lambda: defaultdict(list))


def cell_of(measurements: Sequence[Measurement], metric: str, group: str, reason: str = NOT_RUN) -> Cell:
    """Return the mean over seeds of one row and column, in percent, or a cell with the reason why there is none.

    Raises:
        SpecError: two runs of one seed, whose splits differ.
    """
    if not measurements:
        return Cell(None, reason=reason)
    check_seeds(measurements)
    runs = tuple(sorted(found.run for found in measurements))
    values = [found.values.get(metric, {}).get(group) for found in measurements]
    numbers = [100 * value for value in values if value is not None]
    if len(numbers) < len(values):
        lacking = next(
            found.missing.get(metric, {}).get(group, "not computed")
            for found, value in zip(measurements, values, strict=True)
            if value is None
        )
        return Cell(None, count=len(measurements), reason=lacking, runs=runs)
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Cell(statistics.fmean(numbers), std, len(numbers), runs=runs)


def check_seeds(measurements: Sequence[Measurement]) -> None:
    """Raise `SpecError` if two runs have the same method seed and split name, and so splits that differ."""
    seen: dict[tuple[int, str], Measurement] = {}
    for found in measurements:
        other = seen.setdefault((found.seed, found.split), found)
        if other is not found:
            raise SpecError(
                f"Expected one run of {found.method.name} on {found.split} with seed {found.seed}, got "
                f"{other.run} and {found.run}, whose splits differ. Remove the folder of one."
            )
