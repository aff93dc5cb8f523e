"""The plan of a sweep: each cell with its state, and what is to be run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ltbench.contract.parameters import plain
from ltbench.core import Protocol, Split, sha256_of
from ltbench.datasets.index import locate
from ltbench.errors import DataError, LtbenchError, NotApplicableError
from ltbench.executors.cells import Cell, Settings, cell_dataset, find_cell_split
from ltbench.records.failures import read_failure
from ltbench.records.record import RECORD, RunRecord, read_record, stream_records
from ltbench.runs import claims
from ltbench.runs.auxiliary import auxiliary_dataset
from ltbench.runs.environment import parse_size
from ltbench.runs.memory import image_counts, plan_memory
from ltbench.runs.planning import Plan, auxiliary_of, check_applicable, check_inputs, check_plan, plan
from ltbench.runs.provenance import Digests, provenance, split_digests, what_changed
from ltbench.sweeps.grid import Request
from ltbench.sweeps.timings import Timings

State = Literal["done", "stale", "waiting", "running", "failed", "not applicable", "blocked"]
STATES: tuple[State, ...] = ("done", "stale", "running", "waiting", "failed", "not applicable", "blocked")

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
        remarks: what is to be known of the images and masks of what is to be run, in words.
    """

    cells: tuple[PlannedCell, ...]
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def of(self, state: State) -> list[PlannedCell]:
        """Return the cells in a state."""
        return [planned for planned in self.cells if planned.state == state]

    def to_run(self, *, retry_failed: bool = False, retry_stale: bool = False) -> list[Cell]:
        """Return the cells to run; what another process is doing is among them, to be waited for.

        Args:
            retry_failed: try cells again that failed.
            retry_stale: repeat cells whose images, weights or code have changed since.
        """
        wanted = {"waiting": True, "running": True, "failed": retry_failed, "stale": retry_stale}
        states = {state for state, is_wanted in wanted.items() if is_wanted}
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
    told = dict.fromkeys(sentence for sentences in results.told.values() for sentence in sentences)
    return SweepPlan(tuple(found.values()), tuple(results.problems), tuple(told))


_Checked = tuple[str, Protocol]
"""What the checks of images and masks depend on: a split's sha256 and the protocol."""


@dataclass(frozen=True, slots=True)
class _Stale:
    """What has changed since the run of a record, and when the record was made."""

    reason: str
    created: str


class _Results:
    """What a results folder holds, read once.

    Args:
        folder: the results folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.timings = Timings()
        self.problems: list[str] = []
        self.told: dict[_Checked, tuple[str, ...]] = {}
        self._refusals: dict[_Checked, DataError] = {}
        self._inputs: dict[tuple[str, str], LtbenchError | None] = {}
        self.running = claims.held(folder)
        self.records: dict[str, RunRecord] = {}
        self._digests: dict[tuple[str, str | None], Digests] = {}
        self._provenance: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        for record in stream_records(folder, self.problems):
            with suppress(DataError):  # damaged within its scores: told where its cell is looked up
                self.timings.add(record)
                self.records[record.spec.hash] = record

    def stale(self, resolved: Plan, split: Split, settings: Settings) -> _Stale | None:
        """Return what has changed since a finished run; None if nothing has, or if that cannot be told here."""
        record = self.records.get(resolved.spec.hash)
        if record is None or record.provenance is None:
            return None
        key = (split.sha256, name := auxiliary_of(resolved))
        if key not in self._digests:
            try:
                dataset = cell_dataset(split.dataset, settings.data_root)
                auxiliary = None if name is None else cell_dataset(name, settings.data_root)
            except DataError:
                return None
            self._digests[key] = split_digests(split, dataset, auxiliary)
        digests = self._digests[key]
        named = (split.sha256, resolved.spec.method, repr(resolved.values))
        if named not in self._provenance:
            self._provenance[named] = provenance(resolved.method, resolved.values, digests)
        now = self._provenance[named]
        reason = what_changed(self.folder, record, now, digests, split)
        return _Stale(reason, record.created) if reason else None

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

    def check(self, resolved: Plan, split: Split, settings: Settings) -> None:
        """Raise `LtbenchError` where something speaks against a run; cells that share images share their check.

        So do those of one method and the same hyper-parameters, for the files that these name.
        """
        named = (resolved.spec.method, repr(sorted(resolved.values.items())))
        if named not in self._inputs:
            self._inputs[named] = None
            try:
                check_inputs(resolved)
            except LtbenchError as error:
                self._inputs[named] = error
        if (refusal := self._inputs[named]) is not None:
            raise refusal
        auxiliary_dataset(resolved, settings.data_root)
        key = (split.sha256, resolved.spec.protocol)
        if key in self._refusals:
            raise self._refusals[key]
        if key not in self.told and locate(split.dataset, settings.data_root).exists():  # the first run draws `shapes`
            try:
                dataset = cell_dataset(split.dataset, settings.data_root)
                self.told[key] = check_plan(resolved, split, dataset).told
            except DataError as error:
                self._refusals[key] = error
                raise
        if settings.memory_limit is not None:
            limit = parse_size(settings.memory_limit, "--memory-limit") or None
            plan_memory(resolved.method(**resolved.values), image_counts(split, resolved.spec.protocol), limit)


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
    state, reason = results.state(cell.run)
    try:
        check_applicable(resolved, split)
        if state in ("waiting", "failed"):
            results.check(resolved, split, settings)
    except NotApplicableError as error:
        return PlannedCell(cell, "not applicable", str(error))
    except LtbenchError as error:
        return PlannedCell(cell, "blocked", str(error))
    if state == "done" and (record := results.stale(resolved, split, settings)) is not None:
        cell = replace(cell, stale=record.reason, stale_record=record.created)
        return PlannedCell(cell, "stale", record.reason)
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
    geometry = (protocol.resize, protocol.resize_mode, protocol.crop, protocol.interpolation, protocol.image_depth)
    for names in FEATURES:
        if names <= set(values):
            chosen = {name: values[name] for name in sorted(names)}
            yield sha256_of({"dataset": split.dataset, "geometry": geometry, "features": plain(chosen)})
    if depends_on := getattr(resolved.method(**values), "shared_training", ()):
        chosen = {name: values[name] for name in depends_on}
        spec = (split.sha256, geometry, resolved.spec.seed)
        yield sha256_of({"training": plain(chosen), "spec": spec})
