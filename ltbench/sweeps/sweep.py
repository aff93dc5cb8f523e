"""Run a plan through an executor, and leave a manifest that `ltbench status` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ltbench.atomic import write_whole
from ltbench.core import sha256_of
from ltbench.executors.cells import Cell, Settings
from ltbench.executors.interface import Event, Executor
from ltbench.records.record import REMEDY
from ltbench.sweeps.plan import SweepPlan
from ltbench.system import writing

FOLDER = "sweeps"

_CELLS = TypeAdapter(list[Cell])


def sweep(
    plan: SweepPlan, settings: Settings, executor: Executor, *, retry_failed: bool = False, retry_stale: bool = False
) -> Iterator[Event]:
    """Run what a plan says is missing and yield what happens.

    Args:
        plan: the plan.
        settings: where and how cells run.
        executor: what gets them run.
        retry_failed: try cells again that failed.
        retry_stale: repeat cells whose images, weights or code have changed since.

    Raises:
        LtbenchError: the results folder cannot be written to, or the executor cannot work.
    """
    cells = plan.to_run(retry_failed=retry_failed, retry_stale=retry_stale)
    if cells or plan.of("stale"):
        write_manifest(settings.results, [planned.cell for planned in plan.cells if planned.cell.run])
    if cells:
        yield from executor.execute(cells, settings)


def write_manifest(results: Path, cells: Sequence[Cell]) -> None:
    """Write down which cells a sweep consists of, in `<results>/sweeps`; the same cells are one file.

    Raises:
        FullDiskError, DataError: the results folder cannot be written to.
    """
    name = sha256_of(sorted(cell.run for cell in cells))[:16]
    content = json.dumps([asdict(cell) for cell in cells], indent=1)
    with writing(file := results / FOLDER / f"{name}.json", REMEDY):
        write_whole(file, content.encode())


def read_manifests(results: Path) -> list[Cell]:
    """Return the cells of all sweeps into a results folder, each once; a damaged manifest tells of none."""
    found: dict[str, Cell] = {}
    for path in sorted((results / FOLDER).glob("[!.]*.json"), key=lambda path: path.stat().st_mtime):
        try:
            cells = _CELLS.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        found |= {cell.run: cell for cell in cells}
    return list(found.values())
