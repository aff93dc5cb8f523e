"""Run records on disk: `<results>/runs/<hash of the RunSpec>/record.json`, written whole or not at all."""

from __future__ import annotations

import json
import mmap
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from ltbench.core import Metrics, Protocol, RunSpec
from ltbench.errors import DataError
from ltbench.method import MethodInfo
from ltbench.records.integrity import CHECKSUMS, checked, checksums_of
from ltbench.records.schema import SCHEMA_VERSION, upgraded
from ltbench.system import FULL, refusal

RECORD = "record.json"
MAPS = "maps"
"""The folder of a run's anomaly maps, `<category>.safetensors`, beside its record."""
REMEDY = "Free space or pass another --results."


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
        seconds: phase -> wall-clock seconds; of a run that was interrupted, trainings count from their start, all other
            phases from where the run went on.
        peak_memory_mib: phase -> peak resident memory of the process in MiB.
        environment: versions, machine and commit.
        notes: what the method and its blocks noted (weights' hash, diagnostics).
        created: time at the end of the run, ISO 8601, UTC.
        provenance: digests of images, weights and code that the numbers are of, or None where they were not recorded.
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
    provenance: Mapping[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def resources(self) -> dict[str, float | None]:
        """What the run took: seconds of training and of prediction, and the peak of its memory in MiB."""
        return {
            "fit_seconds": self.seconds.get("fit"),
            "predict_seconds": self.seconds.get("predict"),
            "peak_memory_mib": max(self.peak_memory_mib.values(), default=None),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; `run` is the hash that names it."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"spec": self.spec.payload(), "method": asdict(self.method), "run": self.spec.hash}
        return values | {"scores": dict(self.scores)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunRecord:
        """Return the record that `to_json` gave.

        Raises:
            DataError: a field is missing, a schema version that cannot be read, or the hash does not fit the
                specification.
        """
        unrecorded: dict[str, Any] = {"provenance": None}
        values = unrecorded | upgraded(values)
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


_NEXT = list(RunRecord.__dataclass_fields__)[list(RunRecord.__dataclass_fields__).index("scores") + 1]
_SCORES_BEGIN = b'\n "scores": {\n'
_SCORES_END = f'\n }},\n "{_NEXT}": '.encode()
"""Where scores begin and end in a file that `write_record` wrote."""


def run_folder(results: Path, spec: RunSpec) -> Path:
    """Return the folder of a run below the results folder."""
    return results / "runs" / spec.hash


def checkpoints_folder(results: Path, run: str) -> Path:
    """Return where a run keeps what it needs to go on after an interruption; it goes when the record is written."""
    return results / "checkpoints" / run


def drop_barren(results: Path, run: str) -> None:
    """Remove what a run keeps to go on, where no checkpoint has come about."""
    folder = checkpoints_folder(results, run)
    if not any(folder.glob("*.safetensors")):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` when the block ends well, and vanishes when it does not.

    Raises:
        FullDiskError: there is no room for it.
        DataError: its place cannot be written to.
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
        is_ours = str(error.filename).startswith(str(target.parent)) if error.filename else error.errno in FULL
        if not is_ours:
            raise
        raise refusal(error, f"to write {target}", REMEDY) from error


def write_record(folder: Path, record: RunRecord) -> None:
    """Write `record.json` into a folder, with its checksums."""
    values = json.loads(json.dumps(record.to_json(), allow_nan=False))  # as it will be read: lists, text keys
    text = json.dumps(values | {CHECKSUMS: checksums_of(values)}, indent=1, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> RunRecord:
    """Return the record in a run's folder.

    Raises:
        DataError: it is missing, unreadable or not what a run writes; the message names the file.
    """
    return _read(folder / RECORD, _whole)


def stream_records(results: Path, problems: list[str]) -> Iterator[RunRecord]:
    """Yield every record below a results folder, ordered by run, one at a time; scores are read when asked for.

    Args:
        results: the results folder.
        problems: gets a message for each record that cannot be read.
    """
    for path in sorted((results / "runs").glob(f"*/{RECORD}")):
        try:
            yield _read(path, _without_scores)
        except DataError as error:
            problems.append(str(error))


def read_records(results: Path) -> tuple[list[RunRecord], list[str]]:
    """Return every record below a results folder, ordered by run, and a message for each that cannot be read."""
    problems: list[str] = []
    return list(stream_records(results, problems)), problems


class StoredScores(Mapping[str, list[dict[str, Any]]]):
    """The scores of a record on disk: nearly all of its size, and what tables do without. Read when asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _scores(self) -> Mapping[str, list[dict[str, Any]]]:
        return read_record(self._path.parent).scores

    def __getitem__(self, category: str) -> list[dict[str, Any]]:
        return self._scores[category]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)


def _read(path: Path, parse: Callable[[Path], Any]) -> RunRecord:
    try:
        return RunRecord.from_json(checked(parse(path)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"Expected a run record in {path}, got {error}. Remove the folder and repeat the run."
        ) from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _whole(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _without_scores(path: Path) -> Any:
    """Parse a record without its scores: the part of the file between two keys as `write_record` indents them.

    No text in a record holds a line break, which JSON escapes, so that a line that looks like a key is one.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_SCORES_BEGIN)
        end = content.rfind(_SCORES_END)
        if not 0 <= start < end:  # written in another way
            return _whole(path)
        values: dict[str, Any] = json.loads(content[:start] + content[end + len(b"\n },") :])
    return values | {"scores": StoredScores(path)}
