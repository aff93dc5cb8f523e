"""How far the sweeps into a results folder are: read from what they leave on disk, without importing a method."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltbench.errors import DataError
from ltbench.executors.cells import Cell
from ltbench.records.failures import failed_runs, read_failure
from ltbench.records.record import RECORD, read_record
from ltbench.runs import claims
from ltbench.runs.progress import Position
from ltbench.sweeps.plan import State
from ltbench.sweeps.sweep import read_manifests


@dataclass(frozen=True)
class CellStatus:
    """One run as it stands.

    Args:
        run: its name.
        title: the cell in words.
        state: where it is.
        reason: why it failed, who runs it, what is wrong with its record, or what the last plan found changed.
        position: how far it is, or None if it does not run.
        elapsed: seconds since it began.
        left: seconds that it is expected to take still, or None.
    """

    run: str
    title: str
    state: State
    reason: str = ""
    position: Position | None = None
    elapsed: float = 0.0
    left: float | None = None


class Status:
    """The state of a results folder; looked at again and again, it reads each record once.

    Args:
        results: the results folder.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._read: dict[str, tuple[int, int, str]] = {}
        self._created: dict[str, str] = {}

    def cells(self) -> list[CellStatus]:
        """Return every run of the sweeps, and every other that runs or failed, in the sweeps' order."""
        planned = {cell.run: cell for cell in read_manifests(self._results)}
        running = claims.held(self._results)
        runs = dict.fromkeys([*planned, *running, *failed_runs(self._results)])
        return [self._status(run, planned.get(run), running.get(run)) for run in runs]

    def _status(self, run: str, cell: Cell | None, claim: claims.ClaimState | None) -> CellStatus:
        title = cell.title if cell else run
        problem = self._problem(run)
        if problem == "" and cell is not None and cell.stale and cell.stale_record == self._created[run]:
            return CellStatus(run, title, "stale", cell.stale)
        if problem == "":
            return CellStatus(run, title, "done")
        if claim is not None:
            return _running(run, cell, claim)
        if (failure := read_failure(self._results, run)) is not None:
            return CellStatus(run, cell.title if cell else _title(failure.spec) or run, "failed", failure.reason)
        return CellStatus(run, title, "waiting", problem or "", left=cell.seconds if cell else None)

    def _problem(self, run: str) -> str | None:
        """Return "" for a sound record, what is wrong with a damaged one, None where there is none."""
        path = self._results / "runs" / run / RECORD
        try:
            found = path.stat()
        except OSError:
            return None
        known = self._read.get(run)
        if known is None or known[:2] != (found.st_mtime_ns, found.st_size):
            try:
                self._created[run] = read_record(path.parent).created
                problem = ""
            except DataError as error:
                problem = str(error)
            known = self._read[run] = (found.st_mtime_ns, found.st_size, problem)
        return known[2]


def _running(run: str, cell: Cell | None, claim: claims.ClaimState) -> CellStatus:
    told, now = claim.told, time.time()
    position, elapsed = Position(), 0.0
    with suppress(TypeError, ValueError):  # a claim of another version tells other things
        position = Position(**told.get("position", {}))
        elapsed = max(0.0, now - float(told.get("since", now)))
    left = max(0.0, cell.seconds - elapsed) if cell and cell.seconds is not None else None
    where = f"process {claim.holder.pid} on {claim.holder.host}" if claim.holder else "another process"
    return CellStatus(run, cell.title if cell else _title(told) or run, "running", where, position, elapsed, left)


def _title(told: Mapping[str, Any]) -> str:
    """Return the title of a run that belongs to no sweep, as far as is told."""
    if not {"method", "split"} <= set(told):
        return ""
    return Cell("", str(told["method"]), str(told["split"]), told.get("preset"), seed=told.get("seed", 0)).title
