"""Worker processes on this machine: one device slot each, the processor's threads divided among them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any

from pydantic import Field

from ltbench.cores import usable_cores
from ltbench.errors import FullDiskError, LtbenchError
from ltbench.executors.cells import Cell, Report, Settings
from ltbench.executors.interface import Ended, Event, Options, Said, Started
from ltbench.executors.schedule import Schedule
from ltbench.executors.worker import READY
from ltbench.records.failures import Failure, write_failure
from ltbench.runs.devices import resolve_device

MAX_DEATHS = 3
"""How many workers may die of one cell before it counts as failed."""

MAX_STILLBORN = 5
"""How many workers may die in a row before they were ready."""

STOP_SECONDS = 5.0
"""How long a worker is given to end."""


class Local(Options):
    """Run cells in worker processes on this machine."""

    workers: Annotated[int | None, Field(ge=1, description="processes; by default one a GPU, else one")] = None

    def at_once(self, device: str) -> int:
        """Return the number of worker processes."""
        return self.workers or len(_devices(device))

    def execute(self, cells: Sequence[Cell], settings: Settings) -> Iterator[Event]:
        """Run the cells; a worker that dies is replaced, and its cell begun again.

        Raises:
            LtbenchError: workers die before they are ready.
            FullDiskError: a cell found no room; no other is begun.
        """
        devices = _devices(settings.device)
        answers: SimpleQueue[tuple[_Slot, Cell, Report | _Death]] = SimpleQueue()
        count = min(self.workers or len(devices), len(cells))
        slots = [_Slot(number, devices[number % len(devices)], answers) for number in range(count)]
        try:
            yield from _serve(Schedule(cells), slots, settings, answers)
        finally:
            for slot in slots:
                slot.stop()


@dataclass(frozen=True)
class _Death:
    """A worker that ended without an answer."""

    code: int
    log: str
    was_ready: bool

    @property
    def cause(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        name = signal.Signals(-self.code).name
        hint = ", as when memory runs out" if name == "SIGKILL" else ""
        return f"{name}{hint}"


class _Slot:
    """A place for one worker process at a time, served by a thread."""

    def __init__(self, number: int, device: str, answers: SimpleQueue[tuple[_Slot, Cell, Report | _Death]]) -> None:
        self.name = f"worker {number + 1}"
        self.device = device
        self._answers = answers
        self._tasks: SimpleQueue[tuple[Cell, dict[str, Any]] | None] = SimpleQueue()
        self._worker: _Worker | None = None
        self._guard = threading.Lock()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._serve, name=self.name, daemon=True)
        self._thread.start()

    def give(self, cell: Cell, settings: Settings, threads: int) -> None:
        """Have a cell run; the answer comes by the queue."""
        placed = replace(settings, device=self.device)
        where = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(placed).items()}
        self._tasks.put((cell, {"cell": asdict(cell), "settings": where, "threads": threads}))

    def stop(self) -> None:
        """End the worker, in the middle of a cell if need be."""
        self._tasks.put(None)
        with self._guard:
            self._is_stopped = True
            if self._worker is not None:
                self._worker.stop()
        self._thread.join()
        if self._worker is not None:
            self._worker.close()

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            cell, message = task
            self._answers.put((self, cell, self._ask(message)))

    def _ask(self, message: dict[str, Any]) -> Report | _Death:
        with self._guard:
            if self._is_stopped:
                return _Death(0, "", was_ready=False)
            try:
                self._worker = worker = self._worker or _Worker(message["threads"])
            except OSError as error:
                return _Death(1, str(error), was_ready=False)
        answer = worker.ask(message)
        if isinstance(answer, _Death):
            with self._guard:
                self._worker = None
        return answer


class _Worker:
    """One worker process.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, threads: int) -> None:
        root = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ltbench.executors.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)},
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._tasks, self._answers = self._process.stdin, self._process.stdout
        self._is_ready = False

    def ask(self, message: dict[str, Any]) -> Report | _Death:
        """Return the worker's answer to a task, or its death."""
        try:
            self._is_ready = self._is_ready or self._answers.readline().strip() == READY
            if self._is_ready:
                self._tasks.write(json.dumps(message) + "\n")
                self._tasks.flush()
                return Report(**json.loads(self._answers.readline()))
        except (OSError, ValueError):  # the pipe broke, or the answer is half a line: how it ended says why
            pass
        code = self._end()
        self._log.seek(0)
        death = _Death(code, self._log.read().decode("utf-8", errors="replace")[-4000:], self._is_ready)
        self._close()
        return death

    def stop(self) -> None:
        """End the process, in the middle of a cell if need be. The thread that asks gets to know its death."""
        self._process.terminate()
        self._end()

    def close(self) -> None:
        """Let go of a process that has ended."""
        self._end()
        self._close()

    def _end(self) -> int:
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _close(self) -> None:
        with suppress(OSError):  # the last task may not have got through
            self._tasks.close()
        self._answers.close()
        self._log.close()


def _serve(
    schedule: Schedule,
    slots: Sequence[_Slot],
    settings: Settings,
    answers: SimpleQueue[tuple[_Slot, Cell, Report | _Death]],
) -> Iterator[Event]:
    idle, deaths, stillborn, told = list(slots), Counter[str](), 0, set[str]()
    while schedule:
        startable = schedule.startable(time.monotonic(), len(slots))
        while idle and startable:
            slot, cell = idle.pop(0), startable.pop(0)
            schedule.start(cell)
            slot.give(cell, settings, _share(schedule.running + len(startable), len(slots)))
            yield Started(cell, slot.name)
        try:
            slot, cell, answer = answers.get(timeout=0.2)
        except Empty:
            continue
        idle.append(slot)
        if isinstance(answer, Report):
            stillborn = 0
            if answer.state == "full":
                raise FullDiskError(f"{answer.reason} The sweep stopped there; the same command goes on.")
            if answer.state == "busy":
                schedule.postpone(cell, time.monotonic())
                if cell.run not in told:
                    told.add(cell.run)
                    yield Said(f"{cell.title}: {answer.reason}")
            else:
                schedule.end(cell)
                yield Ended(cell, answer)
        elif not answer.was_ready:
            stillborn += 1
            _refuse_stillborn(answer, stillborn)
            schedule.put_back(cell)
        elif (count := deaths.update([cell.run]) or deaths[cell.run]) < MAX_DEATHS:
            schedule.put_back(cell)
            yield Said(f"{slot.name} died ({answer.cause}); {cell.title} is begun again, time {count + 1}")
        else:
            schedule.end(cell)
            yield Ended(cell, _fail(cell, settings, answer))


def _share(at_once: int, slots: int) -> int:
    """Return how many threads a cell gets when so many could run at once."""
    return max(1, usable_cores() // min(at_once, slots))


def _refuse_stillborn(death: _Death, count: int) -> None:
    if death.code >= 0 or count >= MAX_STILLBORN:
        last = death.log.strip().rpartition("\n")[2] or "nothing"
        raise LtbenchError(
            f"Expected worker processes to start, got {death.cause} from {count} and on standard error: {last}. "
            "Try `ltbench run` with one cell, or fewer --workers."
        )


def _fail(cell: Cell, settings: Settings, death: _Death) -> Report:
    reason = f"its worker died {MAX_DEATHS} times, the last time by {death.cause}"
    spec = {"method": cell.method, "parameters": dict(cell.parameters), "split": cell.split, "seed": cell.seed}
    with suppress(OSError):  # the report tells it too
        write_failure(settings.results, Failure(cell.run, spec, reason, death.log))
    return Report(cell.run, "failed", reason=reason)


def _devices(name: str) -> list[str]:
    """Return the devices that "auto", "cuda" or a single name stands for."""
    device = resolve_device(name)
    if device != "cuda":
        return [device]
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
