"""A cell, which is one run of a sweep by its names, and how a process runs it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from ltbench.core import Dataset, Split
from ltbench.datasets.index import load_dataset, load_listing
from ltbench.errors import BusyError, FullDiskError, SpecError
from ltbench.records.failures import Failure, read_failure, write_failure
from ltbench.runs.harness import Harness
from ltbench.runs.planning import plan
from ltbench.runs.runner import run
from ltbench.splits.files import find_split
from ltbench.system import as_ours

State = Literal["done", "found", "failed", "busy", "full"]
"""What came of a cell: it was run, was finished before, failed, is run by another process, or found the disk full."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: names that resolve to the same RunSpec in every process.

    Args:
        run: the hash of that RunSpec.
        method: registry name.
        split: name, or absolute path of a file.
        preset: name, or None for the one that goes with the split.
        parameters: hyper-parameters that override the preset.
        protocol: name, or None for the preset's.
        seed: seed of the method.
        shares: names of work that other cells do too and that the first leaves in the feature store.
        images: number of training and test images.
        seconds: how long it is expected to take, or None.
        failure: the id of the failure after which it is tried again, or "".
        stale: what has changed since its finished run, or "" where that run serves.
        stale_record: when the record of that run was made.
    """

    run: str
    method: str
    split: str
    preset: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    protocol: str | None = None
    seed: int = 0
    shares: tuple[str, ...] = ()
    images: int = 0
    seconds: float | None = None
    failure: str = ""
    stale: str = ""
    stale_record: str = ""

    @property
    def title(self) -> str:
        """The cell in words: "patchcore on mvtec_step100, seed 0 (offline, coreset_ratio=0.1)"."""
        settings = [self.preset] if self.preset else []
        settings += [f"{name}={value}" for name, value in self.parameters.items()]
        settings += [self.protocol] if self.protocol else []
        text = f"{self.method} on {Path(self.split).stem}, seed {self.seed}"
        return f"{text} ({', '.join(settings)})" if settings else text


@dataclass(frozen=True)
class Settings:
    """Where and how cells are run: what does not change their numbers.

    Args:
        results: the results folder.
        data_root: folder of the datasets, or None.
        device: torch device.
        cache_size: bound of the feature store.
        save_maps: keep the anomaly maps.
        memory_limit: bound of the memory of a process that runs cells, or None.
    """

    results: Path
    data_root: Path | None = None
    device: str = "cpu"
    cache_size: str = "20GB"
    save_maps: bool = False
    memory_limit: str | None = None


@dataclass(frozen=True)
class Report:
    """What came of a cell, the seconds it took, and the reason if it failed."""

    run: str
    state: State
    seconds: float = 0.0
    reason: str = ""


def run_cell(cell: Cell, settings: Settings) -> Report:
    """Run a cell, unless another process does; a failure is reported and recorded, never raised."""
    start = time.monotonic()
    failure = read_failure(settings.results, cell.run)
    if failure is not None and failure.id != cell.failure:
        return Report(cell.run, "failed", reason=failure.reason)  # in another sweep, after this one was planned
    try:
        reused = _run(cell, settings)
    except BusyError as error:
        return Report(cell.run, "busy", reason=str(error))
    except Exception as error:  # noqa: BLE001 - the other cells go on; the traceback is in the failure record
        if isinstance(ours := as_ours(error), FullDiskError):
            return Report(cell.run, "full", time.monotonic() - start, str(ours))
        return Report(cell.run, "failed", time.monotonic() - start, _recorded(cell, settings, error))
    return Report(cell.run, "found" if reused else "done", time.monotonic() - start)


def _recorded(cell: Cell, settings: Settings, error: Exception) -> str:
    """Return the reason of a failure, which is recorded unless the run itself has done so."""
    failed = read_failure(settings.results, cell.run)
    if failed is None or failed.id == cell.failure:  # it failed before the run itself began
        spec = {"method": cell.method, "parameters": dict(cell.parameters), "split": cell.split, "seed": cell.seed}
        failed = Failure.of(cell.run, spec, error)
        with suppress(OSError):  # the report tells it too
            write_failure(settings.results, failed)
    return failed.reason


def _run(cell: Cell, settings: Settings) -> bool:
    split = find_cell_split(cell.split, settings.data_root)
    planned = plan(
        cell.method, split, preset=cell.preset, parameters=cell.parameters, protocol=cell.protocol, seed=cell.seed
    )
    if planned.spec.hash != cell.run:
        raise SpecError(
            f"Expected run {cell.run} from {cell.title}, got {planned.spec.hash}. "
            "Use the same version of ltbench, its methods and split files everywhere, and plan the sweep again."
        )
    harness = replace(_harness(settings), force=bool(cell.stale), data_root=settings.data_root)
    return run(planned, split, cell_dataset(split.dataset, settings.data_root), harness).reused


@lru_cache(maxsize=32)
def find_cell_split(split: str, data_root: Path | None) -> Split:
    """Return the split of cells; many cells share it, so it is read once a process."""
    return find_split(split, lambda name: load_listing(name, data_root))


@cache
def cell_dataset(name: str, data_root: Path | None) -> Dataset:
    """Return the dataset of cells, indexed once a process."""
    return load_dataset(name, data_root)


@cache
def _harness(settings: Settings) -> Harness:
    harness = Harness.of(
        settings.results,
        settings.device,
        settings.cache_size,
        force=False,
        save_maps=settings.save_maps,
        quiet=True,
        memory_limit=settings.memory_limit,
    )
    harness.wait = False
    return harness
