"""Slurm job arrays through submitit: the cluster's queueing, limits and restarts are Slurm's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field

from ltbench.errors import DataError, FullDiskError, LtbenchError
from ltbench.executors.cells import Cell, Report, Settings, run_cell
from ltbench.executors.interface import Ended, Event, Options, Said, Started
from ltbench.executors.schedule import stages
from ltbench.records.failures import read_failure
from ltbench.records.record import read_record
from ltbench.runs.environment import parse_size, use_threads

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

T = TypeVar("T")

FOLDER = ".jobs"
"""Below the results: what submitit hands to its jobs, and their logs."""

LARGEST_ARRAY = 1000
"""Tasks of one array; Slurm's usual MaxArraySize is 1001."""

LOOK_SECONDS = 1.0

_TIME = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?|(\d+)\s*(min|m|h|d|)")


def minutes(text: str | int) -> int:
    """Return "90", "90min", "4h", "2d", "12:00:00" or "2-00:00:00" in minutes, rounded up.

    Raises:
        ValueError: any other text.
    """
    match = _TIME.fullmatch(str(text).strip())
    if match is None:
        raise ValueError("Expected a time such as 90min, 4h or 2-12:00:00")
    if match[5]:
        return int(match[5]) * {"": 1, "min": 1, "m": 1, "h": 60, "d": 1440}[match[6]]
    days, hours, mins, seconds = (int(part or 0) for part in match.groups()[:4])
    return (days * 24 + hours) * 60 + mins + (seconds > 0)


def _time(text: str | int | None) -> str | int | None:
    if text is not None:
        minutes(text)
    return text


def _size(text: str | None) -> str | None:
    if text is not None:
        try:
            parse_size(text)
        except LtbenchError as error:
            raise ValueError(str(error)) from None
    return text


class Resources(Options):
    """What a job asks Slurm for; what is left out is the cluster's default."""

    partition: Annotated[str | None, Field(description="partition")] = None
    account: Annotated[str | None, Field(description="account")] = None
    qos: Annotated[str | None, Field(description="quality of service")] = None
    gpus: Annotated[int | None, Field(ge=0, description="GPUs")] = None
    cpus: Annotated[int | None, Field(ge=1, description="processor cores")] = None
    memory: Annotated[str | None, AfterValidator(_size), Field(description="32GB")] = None
    time: Annotated[str | int | None, AfterValidator(_time), Field(description="90min, 4h or 2-12:00:00")] = None


class Slurm(Resources):
    """Run cells as the tasks of Slurm job arrays."""

    methods: Annotated[dict[str, Resources], Field(description="other resources for a method, by its name")] = {}
    workers: Annotated[int | None, Field(ge=1, description="tasks of an array that run at a time")] = None
    cells_per_job: Annotated[int, Field(ge=1, description="runs that a task does one after the other")] = 1
    timeouts: Annotated[int, Field(ge=0, description="how often a task that ran out of time goes on")] = 10
    setup: Annotated[list[str], Field(description="shell lines before a task, such as module load")] = []
    extra: Annotated[dict[str, Any], Field(description="further options of sbatch")] = {}
    wait: Annotated[bool, Field(description="stay until all is done")] = False
    cluster: Annotated[Literal["slurm", "local"], Field(description="local tries it out without Slurm")] = "slurm"

    def at_once(self, device: str) -> int:
        """Return 1: a task has a machine's memory for itself, as far as Slurm grants it."""
        return 1

    def execute(self, cells: Sequence[Cell], settings: Settings) -> Iterator[Event]:
        """Submit the cells, those first that compute features for others; with `wait`, follow them to their end.

        Raises:
            LtbenchError: Slurm is not there, or refuses a job.
        """
        settings = replace(settings, results=settings.results.resolve())
        if settings.data_root is not None:
            settings = replace(settings, data_root=settings.data_root.resolve())
        jobs: dict[str, Job[Any]] = {}
        before: list[str] = []
        for leading, others in stages(cells):
            submitted = self._submit(leading, settings, before)
            jobs |= submitted | self._submit(others, settings, before)
            yield from (Started(cell, f"job {jobs[cell.run].job_id}") for cell in (*leading, *others))
            before = sorted({job.job_id.partition("_")[0] for job in submitted.values()}) or before
            if self.cluster == "local":  # has no dependencies between jobs
                yield from self._follow([*leading, *others], settings, jobs)
        if self.cluster == "local":
            return
        yield Said(f"{len(set(jobs.values()))} tasks submitted; `ltbench status --watch` follows them")
        if self.wait:
            yield from self._follow(cells, settings, jobs)

    def _submit(self, cells: Sequence[Cell], settings: Settings, before: Sequence[str]) -> dict[str, Job[Any]]:
        """Submit cells, an array for each set of resources, and return the job of each run."""
        groups: dict[Resources, list[Cell]] = {}
        for cell in cells:
            groups.setdefault(self._resources(cell.method), []).append(cell)
        jobs: dict[str, Job[Any]] = {}
        for resources, group in groups.items():
            tasks = [Task(batch, settings) for batch in _batches(group, self.cells_per_job)]
            for array in _batches(tasks, LARGEST_ARRAY):
                executor = self._executor(settings, resources, before)
                try:
                    submitted = executor.submit_array(array)
                except (subprocess.SubprocessError, OSError, RuntimeError) as error:
                    raise LtbenchError(
                        f"Expected Slurm to take {len(array)} tasks, got: {_last_line(error)}. Mend the options -x."
                    ) from error
                jobs |= {cell.run: job for task, job in zip(array, submitted, strict=True) for cell in task.cells}
        return jobs

    def _resources(self, method: str) -> Resources:
        """Return what a method's jobs ask for: its own settings over the common ones."""
        own = self.methods.get(method, Resources())
        fields = Resources.model_fields
        return Resources(**{name: getattr(own if name in own.model_fields_set else self, name) for name in fields})

    def _executor(self, settings: Settings, resources: Resources, before: Sequence[str]) -> AutoExecutor:
        from submitit import AutoExecutor

        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise LtbenchError(
                "Expected Slurm, got no sbatch on the path. Run this on a login node, or try -x cluster=local."
            )
        extra = {"requeue": True} | ({"dependency": "afterany:" + ":".join(before)} if before else {}) | self.extra
        wanted = {
            "name": "ltbench",
            "timeout_min": None if resources.time is None else minutes(resources.time),
            "cpus_per_task": resources.cpus,
            "gpus_per_node": resources.gpus,
            "mem_gb": None if resources.memory is None else parse_size(resources.memory) / 2**30,
            "slurm_partition": resources.partition,
            "slurm_account": resources.account,
            "slurm_qos": resources.qos,
            "slurm_array_parallelism": self.workers,
            "slurm_setup": self.setup or None,
            "slurm_additional_parameters": extra,
        }
        executor = AutoExecutor(settings.results / FOLDER, cluster=self.cluster, slurm_max_num_timeout=self.timeouts)
        executor.update_parameters(**{name: value for name, value in wanted.items() if value is not None})
        return executor

    def _follow(self, cells: Sequence[Cell], settings: Settings, jobs: dict[str, Job[Any]]) -> Iterator[Event]:
        """Yield the end of each cell: what it leaves on disk tells it, or that its job is over."""
        open_cells = list(cells)
        while open_cells:
            active = self._has_active(jobs)
            for cell in list(open_cells):
                report = _report(cell, settings)
                if report is None and not active:
                    log = jobs[cell.run].paths.stderr
                    report = Report(cell.run, "failed", reason=f"its job ended before it was done, see {log}")
                if report is not None:
                    open_cells.remove(cell)
                    yield Ended(cell, report)
            if open_cells:
                time.sleep(LOOK_SECONDS)

    def _has_active(self, jobs: dict[str, Job[Any]]) -> bool:
        """Return whether any job waits or runs."""
        if self.cluster == "local":
            return any(not job.done() for job in jobs.values())
        arrays = sorted({job.job_id.partition("_")[0] for job in jobs.values()})
        command = ["squeue", "--noheader", "--format=%i", f"--jobs={','.join(arrays)}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and "Invalid job id" not in done.stderr:
            return True  # the controller does not answer: look again
        return bool(done.stdout.strip())


@dataclass(frozen=True)
class Task:
    """What a job does: some cells, one after the other. submitit starts it again when its time is over."""

    cells: tuple[Cell, ...]
    settings: Settings

    def __call__(self) -> list[Report]:
        """Run the cells, as far as there is room on the disk."""
        cores = os.environ.get("SLURM_CPUS_PER_TASK", "")
        if cores.isdigit():
            use_threads(int(cores))
        reports = []
        for cell in self.cells:
            reports.append(run_cell(cell, self.settings))
            if reports[-1].state == "full":
                raise FullDiskError(reports[-1].reason)
        return reports

    def checkpoint(self) -> DelayedSubmission:
        """Return what is to be done after a restart: the same; finished cells are found, the one at hand goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _batches(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    yield from (tuple(items[start : start + size]) for start in range(0, len(items), size))


def _report(cell: Cell, settings: Settings) -> Report | None:
    with suppress(DataError):
        read_record(settings.results / "runs" / cell.run)
        return Report(cell.run, "done")
    failure = read_failure(settings.results, cell.run)
    if failure is not None and failure.id != cell.failure:
        return Report(cell.run, "failed", reason=failure.reason)
    return None


def _last_line(error: BaseException) -> str:
    return str(error).strip().rpartition("\n")[2] or type(error).__name__
