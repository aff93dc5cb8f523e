"""Failure records: `<results>/failures/<run>.json`, what a run that failed leaves until it succeeds."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from ltbench.atomic import write_whole
from ltbench.system import as_ours

FOLDER = "failures"


@dataclass(frozen=True)
class Failure:
    """Why a run failed.

    Args:
        run: the run's name.
        spec: what was run, as plain JSON values.
        reason: one line.
        traceback: where it failed, or "" for a mistake that the reason explains (an `LtbenchError`) or a dead process.
        created: when, ISO 8601, UTC.
        id: tells this failure from an earlier one of the same run.
    """

    run: str
    spec: Mapping[str, Any]
    reason: str
    traceback: str = ""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    id: str = field(default_factory=lambda: uuid4().hex)

    @classmethod
    def of(cls, run: str, spec: Mapping[str, Any], error: BaseException) -> Failure:
        """Return the failure of a run that an exception is."""
        ours = as_ours(error)
        text = str(ours or error).strip().partition("\n")[0]
        if ours is error:
            return cls(run, spec, text)
        reason = text if ours else f"{type(error).__name__}: {text}"
        return cls(run, spec, reason, "".join(traceback.format_exception(error)))


def write_failure(results: Path, failure: Failure) -> None:
    """Write a failure, whole or not at all, in place of an earlier one of the same run."""
    write_whole(results / FOLDER / f"{failure.run}.json", json.dumps(asdict(failure), indent=1).encode())


def read_failure(results: Path, run: str) -> Failure | None:
    """Return how a run failed, or None if it did not; a file that cannot be read is a failure of unknown reason."""
    path = results / FOLDER / f"{run}.json"
    try:
        return Failure(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return Failure(run, {}, f"unknown: {path} cannot be read ({error})", created="", id="unreadable")


def clear_failure(results: Path, run: str) -> None:
    """Forget how a run failed."""
    (results / FOLDER / f"{run}.json").unlink(missing_ok=True)


def failed_runs(results: Path) -> list[str]:
    """Return the names of the runs that failed, sorted."""
    return sorted(path.stem for path in (results / FOLDER).glob("[!.]*.json"))
