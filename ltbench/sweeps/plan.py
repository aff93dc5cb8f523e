"""The plan of a sweep: each cell with its state, and what is to be run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from ltbench.contract.parameters import plain
from ltbench.core import Split, sha256_of
from ltbench.datasets.index import locate
from ltbench.errors import DataError, SpecError
from ltbench.executors.cells import Cell, Settings, find_cell_split
from ltbench.records.failures import read_failure
from ltbench.records.record import RECORD, read_record, stream_records
from ltbench.runs import claims
from ltbench.runs.environment import parse_size
from ltbench.runs.memory import image_counts, plan_memory
from ltbench.runs.planning import Plan, plan, why_not_applicable
from ltbench.sweeps.grid import Request
from ltbench.sweeps.timings import Timings

State = Literal["done", "waiting", "running", "failed", "not applicable", "blocked"]
STATES: tuple[State, ...] = ("done", "running", "waiting", "failed", "not applicable", "blocked")

FEATURES = ({"backbone", "weights", "layers"}, {"model", "layers"})
"""The hyper-parameters that, by these names, say which features a method reads from the feature store."""


@dataclass(frozen=True)
class PlannedCell:
    """A cell, its state, and the reason for it where there is one to tell."""

    cell: Cell
    state: State
    reason: str = ""


@dataclass(frozen=True)
class SweepPlan:
    """What a grid stands for.

    Args:
        cells: every cell with its state, in the grid's order.
        problems: records that cannot be read, in words.
    """

    cells: tuple[PlannedCell, ...]
    problems: tuple[str, ...] = ()

    def of(self, state: State) -> list[PlannedCell]:
        """Return the cells in a state."""
        return [planned for planned in self.cells if planned.state == state]

    def to_run(self, *, retry_failed: bool) -> list[Cell]:
        """Return the cells to run; what another process is doing is among them, to be waited for.

        Args:
            retry_failed: try cells again that failed.
        """
        states = {"waiting", "running"} | ({"failed"} if retry_failed else set())
        return [planned.cell for planned in self.cells if planned.state in states]


def make_plan(requests: Iterable[Request], settings: Settings) -> SweepPlan:
    """Resolve requests to cells and look up what is done; nothing is run.

    Raises:
        UnknownNameError: an unknown method, preset, protocol, hyper-parameter or split.
        SpecError: a hyper-parameter of the wrong type or range.
    """
    results = _Results(settings.results)
    found: dict[str, PlannedCell] = {}
    for request in requests:
        planned = _planned(request, settings, results)
        found.setdefault(planned.cell.run or repr(request), planned)
    return SweepPlan(tuple(found.values()), tuple(results.problems))


class _Results:
    """What a results folder holds, read once.

    Args:
        folder: the results folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.timings = Timings()
        self.problems: list[str] = []
        self.running = claims.held(folder)
        for record in stream_records(folder, self.problems):
            with suppress(DataError):  # damaged within its scores: told where its cell is looked up
                self.timings.add(record)

    def state(self, run: str) -> tuple[State, str]:
        """Return the state of a run, and the reason for it."""
        folder, problem = self.folder / "runs" / run, ""
        if (folder / RECORD).is_file():
            try:
                read_record(folder)
            except DataError as error:
                problem = str(error)
            else:
                return "done", ""
        if run in self.running:
            return "running", f"by {claims.holder_of(self.folder, run)}"
        if (failure := read_failure(self.folder, run)) is not None:
            return "failed", failure.reason
        return "waiting", problem


def _planned(request: Request, settings: Settings, results: _Results) -> PlannedCell:
    cell = Cell("", request.method, request.split, request.preset, request.parameters, request.protocol, request.seed)
    try:
        split = find_cell_split(request.split, settings.data_root)
    except DataError as error:
        return PlannedCell(cell, "blocked", str(error))
    resolved = plan(
        request.method,
        split,
        preset=request.preset,
        parameters=request.parameters,
        protocol=request.protocol,
        seed=request.seed,
    )
    cell = _complete(cell, resolved, split, settings, results)
    if (reason := why_not_applicable(resolved.method.info, split)) is not None:
        return PlannedCell(cell, "not applicable", reason)
    state, reason = results.state(cell.run)
    if state in ("waiting", "failed"):
        lacking = _lacking_data(split.dataset, settings.data_root) or _lacking_memory(resolved, split, settings)
        if lacking:
            return PlannedCell(cell, "blocked", lacking)
    return PlannedCell(cell, state, reason)


def _complete(cell: Cell, resolved: Plan, split: Split, settings: Settings, results: _Results) -> Cell:
    """Return a cell with what follows from its resolved run."""
    spec = resolved.spec
    train = sum(sum(count.values()) for count in split.counts.values())
    test = sum(len(paths) for paths in split.test.values())
    failure = read_failure(results.folder, spec.hash)
    return replace(
        cell,
        run=spec.hash,
        shares=tuple(_shares(resolved, split)) if parse_size(settings.cache_size) else (),
        images=train + test,
        seconds=results.timings.estimate(spec.method, resolved.preset, spec.protocol.name, train, test),
        failure=failure.id if failure else "",
    )


def _shares(resolved: Plan, split: Split) -> Iterator[str]:
    """Yield names of the work that a run shares, through the feature store, with every run of the same names.

    That is reading a dataset's images through a network; and for a method with an attribute `shared_training`, which
    names hyper-parameters, the part of its training that depends on these, the training images and the seed.
    """
    values, protocol = resolved.values, resolved.spec.protocol
    geometry = (protocol.resize, protocol.resize_mode, protocol.crop, protocol.interpolation)
    for names in FEATURES:
        if names <= set(values):
            chosen = {name: values[name] for name in sorted(names)}
            yield sha256_of({"dataset": split.dataset, "geometry": geometry, "features": plain(chosen)})
    if depends_on := getattr(resolved.method(**values), "shared_training", ()):
        chosen = {name: values[name] for name in depends_on}
        spec = (split.sha256, geometry, resolved.spec.seed)
        yield sha256_of({"training": plain(chosen), "spec": spec})


@cache
def _lacking_data(dataset: str, data_root: Path | None) -> str:
    """Return why a dataset's images cannot be read, or "" where they seem to be there."""
    try:
        locate(dataset, data_root)
    except DataError as error:
        return str(error)
    return ""


def _lacking_memory(resolved: Plan, split: Split, settings: Settings) -> str:
    """Return why a run does not fit in the memory limit, and what would, or ""."""
    if settings.memory_limit is None:
        return ""
    limit = parse_size(settings.memory_limit, "--memory-limit") or None
    try:
        plan_memory(resolved.method(**resolved.values), image_counts(split, resolved.spec.protocol), limit)
    except SpecError as error:
        return str(error)
    return ""
