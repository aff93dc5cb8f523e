"""Take runs away with all that they left: record, maps, failure, checkpoints and half-written folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

from ltbench.errors import BusyError, DataError, SpecError
from ltbench.records import failures
from ltbench.records.record import RECORD, checkpoints_folder, read_record
from ltbench.runs import claims


def runs_named(results: Path, names: Sequence[str], among: Iterable[str] | None = None) -> list[str]:
    """Return the runs that names or their first digits stand for.

    Args:
        results: the results folder.
        names: folders of runs, or first digits.
        among: the runs to choose from; by default all that finished, failed or are damaged.

    Raises:
        DataError: a name that no run has.
        SpecError: a name that several runs have.
    """
    every = {*(path.name for path in _folders(results)), *failures.failed_runs(results)}
    known = sorted(every if among is None else among)
    found = []
    for name in names:
        fitting = [run for run in known if run.startswith(Path(name).name)] if Path(name).name else []
        if not fitting:
            raise DataError(f"Expected a run {name!r} in {results}, got none. `ltbench runs` lists them.")
        if len(fitting) > 1:
            raise SpecError(f"Expected one run, got {len(fitting)} that begin with {name!r}. Give more digits.")
        found += fitting
    return list(dict.fromkeys(found))


def damaged_runs(results: Path) -> list[str]:
    """Return the runs whose record cannot be read, sorted."""
    return [folder.name for folder in _folders(results) if _is_damaged(folder)]


def remove_run(results: Path, run: str) -> None:
    """Remove a run; its folder vanishes at once or not at all.

    Raises:
        BusyError: a process is doing it.
    """
    claim = claims.try_claim(results, run)
    if claim is None:
        raise BusyError(f"Expected run {run} to be free, got one that {claims.holder_of(results, run)} does. Wait.")
    try:
        folder = results / "runs" / run
        if folder.exists():
            shutil.rmtree(folder.rename(folder.with_name(f".{run}.{uuid4().hex}")))
        for left in folder.parent.glob(f".{run}.*"):
            shutil.rmtree(left)
        shutil.rmtree(checkpoints_folder(results, run), ignore_errors=True)
        failures.clear_failure(results, run)
    finally:
        claim.release()


def _folders(results: Path) -> list[Path]:
    return sorted(path for path in (results / "runs").glob("[!.]*") if path.is_dir())


def _is_damaged(folder: Path) -> bool:
    if not (folder / RECORD).is_file():
        return True
    try:
        read_record(folder)
    except DataError:
        return True
    return False
