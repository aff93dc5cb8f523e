"""Find a run, and what its method noted about its training images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltbench.errors import DataError, SpecError
from ltbench.records.record import RECORD, RunRecord, read_record


def find_run(run: str, results: Path) -> RunRecord:
    """Return the record of a run, given as its folder or as the first digits of its hash.

    Raises:
        DataError: there is no such run, or its record cannot be read.
        SpecError: several runs begin with these digits.
    """
    return read_record(find_folder(run, results))


def find_folder(run: str, results: Path) -> Path:
    """Return the folder of a run, given as it is or as the first digits of its hash.

    Raises:
        DataError: there is no such run.
        SpecError: several runs begin with these digits.
    """
    if (Path(run) / RECORD).is_file():
        return Path(run)
    folders = sorted(path.parent for path in (results / "runs").glob(f"*/{RECORD}") if path.parent.name.startswith(run))
    if len(folders) > 1:
        raise SpecError(f"Expected one run, got {len(folders)} that begin with {run!r}. Give more digits.")
    if not folders:
        raise DataError(f"Expected a run {run!r} in {results / 'runs'}, got none. Pass its folder, or --results.")
    return folders[0]


def diagnostics_of(record: RunRecord) -> dict[str, Any]:
    """Return a record's diagnostics.

    Raises:
        SpecError: its method noted nothing about its training images.
    """
    diagnostics: dict[str, Any] = record.notes.get("diagnostics", {})
    if not diagnostics:
        raise SpecError(
            f"Expected diagnostics in run {record.spec.hash}, got none: {record.method.title} notes nothing about its "
            "training images. TailedCore and RegAD do."
        )
    return diagnostics
