"""All runs as one flat table, and what sets two runs apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltbench.atomic import write_output
from ltbench.core import canonical_json
from ltbench.errors import SpecError
from ltbench.foreign import inert
from ltbench.records.record import RunRecord

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".parquet")


def metric_rows(records: Iterable[RunRecord]) -> Iterator[dict[str, Any]]:
    """Yield one row a run, metric and group; `value` is None where `reason` says why there is none."""
    for record in records:
        shared = _shared(record)
        for metric in sorted({*record.metrics, *record.missing}):
            values, reasons = record.metrics.get(metric, {}), record.missing.get(metric, {})
            for group in sorted({*values, *reasons}):
                row = {"metric": metric, "group": group, "value": values.get(group), "reason": reasons.get(group, "")}
                yield shared | row


def score_rows(records: Iterable[RunRecord]) -> Iterator[dict[str, Any]]:
    """Yield one row a run and test image."""
    for record in records:
        shared = {name: value for name, value in _shared(record).items() if name in _SCORE_COLUMNS}
        for category in sorted(record.scores):
            yield from (shared | {"category": category} | entry for entry in record.scores[category])


_SCORE_COLUMNS = ("run", "method", "preset", "dataset", "split", "protocol", "seed")


def _shared(record: RunRecord) -> dict[str, Any]:
    spec = record.spec
    return {
        "run": spec.hash,
        "method": spec.method,
        "title": record.method.title,
        "preset": record.preset,
        "parameters": canonical_json(spec.parameters),
        "dataset": record.dataset,
        "split": spec.split,
        "split_sha256": spec.split_sha256,
        "protocol": spec.protocol.name,
        "seed": spec.seed,
        "train_images": sum(sum(count.values()) for count in record.counts.values()),
        **record.resources,
        "device": record.environment.get("device"),
        "ltbench": record.environment.get("ltbench"),
        "git_commit": record.environment.get("git_commit"),
        "created": record.created,
    }


def export(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write rows as CSV or Parquet, whole or not at all, and return how many.

    Raises:
        SpecError: a file name of another kind, no rows, or Parquet without pyarrow.
        FullDiskError, DataError: the file cannot be written.
    """
    import pandas as pd

    if path.suffix not in SUFFIXES:
        raise SpecError(f"Expected a file named .csv or .parquet, got {path}. Mend --out.")
    frame = pd.DataFrame(list(rows))
    if frame.empty:
        raise SpecError("Expected finished runs to export, got none. Run some, or pass another --results.")
    write_output(path, _csv(frame) if path.suffix == ".csv" else _parquet(frame))
    return len(frame)


def _csv(frame: pd.DataFrame) -> bytes:
    """Return a table as CSV in which no text is a formula."""
    guarded = frame.map(lambda value: inert(value) if isinstance(value, str) else value)
    return guarded.to_csv(index=False).encode()


def _parquet(frame: pd.DataFrame) -> bytes:
    try:
        return frame.to_parquet(index=False, engine="pyarrow")
    except ImportError as error:
        raise SpecError(
            "Expected pyarrow to write Parquet, got none. `pip install 'ltbench[parquet]'`, or write .csv."
        ) from error


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ: its name, and its value in each (None where it has none)."""

    name: str
    before: Any
    after: Any


def differences(before: RunRecord, after: RunRecord) -> list[Difference]:
    """Return in what two runs differ: specification and environment, then every metric and group."""
    sides = [_flat(_about(record)) for record in (before, after)]
    found = [_flat({"metrics": record.metrics}) for record in (before, after)]
    names = [*dict.fromkeys([*sides[0], *sides[1]]), *dict.fromkeys([*found[0], *found[1]])]
    both = [one | other for one, other in zip(sides, found, strict=True)]
    return [
        Difference(name, both[0].get(name), both[1].get(name))
        for name in names
        if both[0].get(name) != both[1].get(name)
    ]


def _about(record: RunRecord) -> dict[str, Any]:
    return {**record.spec.payload(), "preset": record.preset, "counts": record.counts, "env": record.environment}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted names; a list is one value."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = json.loads(json.dumps(value))
    return found
