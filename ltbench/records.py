"""Run records on disk: `<results>/runs/<hash of the RunSpec>/record.json`, written whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from ltbench.core import Metrics, Protocol, RunSpec
from ltbench.errors import DataError, LtbenchError
from ltbench.method import MethodInfo

SCHEMA_VERSION = 1
RECORD = "record.json"
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class RunRecord:
    """What a run left: enough to print every table cell and to find out how it came about.

    Args:
        spec: what was run.
        method: what the method said of itself, privileges included.
        preset: the preset that the hyper-parameters were taken from.
        dataset: the dataset's name.
        recipe: the recipe of the split.
        split_seed: the seed of the split.
        high: the majority categories.
        low: the minority categories.
        counts: category -> number of normal and contaminant training images.
        metrics: metric -> group or category -> value in [0, 1].
        missing: metric -> group or category -> why there is no value.
        scores: category -> one entry a test image: path, defect_type, score.
        seconds: phase -> wall-clock seconds.
        peak_memory_mib: phase -> peak resident memory of the process in MiB.
        environment: versions, machine and commit.
        notes: what the method and its blocks noted (weights' hash, diagnostics).
        created: time at the end of the run, ISO 8601, UTC.
        schema_version: version of this layout.
    """

    spec: RunSpec
    method: MethodInfo
    preset: str
    dataset: str
    recipe: Mapping[str, Any]
    split_seed: int
    high: tuple[str, ...]
    low: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    metrics: Metrics
    missing: Mapping[str, Mapping[str, str]]
    scores: Mapping[str, list[dict[str, Any]]]
    seconds: Mapping[str, float]
    peak_memory_mib: Mapping[str, float]
    environment: Mapping[str, Any]
    created: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; `run` is the hash that names it."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"spec": self.spec.payload(), "method": asdict(self.method), "run": self.spec.hash}
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunRecord:
        """Return the record that `to_json` gave.

        Raises:
            DataError: a field is missing, another schema version, or the hash does not fit the specification.
        """
        if values.get("schema_version") != SCHEMA_VERSION:
            raise DataError(
                f"Expected schema version {SCHEMA_VERSION}, got {values.get('schema_version')!r}. Repeat the run."
            )
        wanted = set(cls.__dataclass_fields__) | {"run"}
        if set(values) != wanted:
            raise DataError(f"Expected the fields {sorted(wanted)}, got {sorted(values)}. Repeat the run with --force.")
        fields = dict(values)
        run = fields.pop("run")
        specification = fields["spec"]
        spec = RunSpec(**(specification | {"protocol": Protocol(**specification["protocol"])}))
        if spec.hash != run:
            raise DataError(f"Expected run {spec.hash} from its specification, got {run}. Repeat the run with --force.")
        fields |= {"spec": spec, "method": MethodInfo(**fields["method"])}
        fields |= {"high": tuple(fields["high"]), "low": tuple(fields["low"])}
        return cls(**fields)


def run_folder(results: Path, spec: RunSpec) -> Path:
    """Return the folder of a run below the results folder."""
    return results / "runs" / spec.hash


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` when the block ends well, and vanishes when it does not.

    Raises:
        LtbenchError: the disk is full or cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f".{target.name}.*"):  # what a killed process left; the run is claimed by us
            shutil.rmtree(stale)
        temporary = target.parent / f".{target.name}.{uuid4().hex}"
        temporary.mkdir()
        try:
            yield temporary
            if target.exists():
                old = target.rename(target.parent / f".{target.name}.{uuid4().hex}")
                temporary.rename(target)
                shutil.rmtree(old)
            else:
                temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise LtbenchError(
            f"Expected to write {target}, got {error.strerror or error}. Free space or pass another --results."
        ) from error


def write_record(folder: Path, record: RunRecord) -> None:
    """Write `record.json` into a folder."""
    text = json.dumps(record.to_json(), indent=1, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> RunRecord:
    """Return the record in a run's folder.

    Raises:
        DataError: it is missing, unreadable or not what a run writes; the message names the file.
    """
    path = folder / RECORD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return RunRecord.from_json(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"Expected a run record in {path}, got {error}. Remove the folder and repeat the run."
        ) from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_records(results: Path) -> tuple[list[RunRecord], list[str]]:
    """Return every record below a results folder, ordered by run, and a message for each that cannot be read."""
    records, problems = [], []
    for path in sorted((results / "runs").glob(f"*/{RECORD}")):
        try:
            records.append(read_record(path.parent))
        except DataError as error:
            problems.append(str(error))
    return records, problems
