"""Claims: of all processes that share a results folder, one at a time does a run.

A claim is a file `<results>/.claims/<run>.<generation>.json` that only one process can create (O_EXCL, which local
and network file systems keep). It says who holds the run and how far it is, and its time of change is the holder's
heartbeat. A claim that was released, or whose holder is dead, is followed by the next generation, which again only one
process can create. No generation is ever removed. docs/adr/0005-claims-are-files.md says why this is no lock.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from ltbench.atomic import write_whole
from ltbench.errors import BusyError, LtbenchError

FOLDER = ".claims"

HEARTBEAT_SECONDS = 2.0
STALE_SECONDS = 180.0
"""How old the heartbeat of a holder on another machine may be: a network file system may show one a minute late."""

LONGEST_WAIT = 1.0
"""Seconds between two looks at a run that another process holds."""

Describe = Callable[[], Mapping[str, Any]]
"""Gives what a claim says beside its holder: how far the run is, as plain JSON values."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, told apart from every other one, past or on another machine.

    Args:
        host: the machine's name, for people.
        place: this boot of the machine and this namespace of process ids; within it, `pid` and `started` tell whether
            the process is alive. "" where the system does not say.
        pid: process id.
        started: when the process started, in ticks since boot; a process id can be used again.
        job: Slurm's job id, or "".
        restart: how often Slurm has restarted that job.
    """

    host: str
    place: str
    pid: int
    started: str
    job: str = ""
    restart: int = 0

    @classmethod
    def myself(cls) -> Holder:
        """Return this process."""
        job = os.environ.get("SLURM_JOB_ID", "")
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        return cls(platform.node(), _place(), os.getpid(), _started(os.getpid()), job, restart)

    def is_dead(self, me: Holder) -> bool | None:
        """Return whether the process has ended, or None where process `me` cannot know."""
        if self.place and self.place == me.place:
            return _started(self.pid) != self.started
        if self.job and self.job == me.job and self.restart < me.restart:
            return True  # Slurm has ended a job before it starts it again
        return None


@dataclass(frozen=True, slots=True)
class ClaimState:
    """What a claim's file says: the run, its holder (None if it was just created) and what the holder tells."""

    run: str
    holder: Holder | None
    told: Mapping[str, Any]
    is_held: bool


class Claim:
    """A run that this process holds; its heartbeat is kept by a thread.

    Args:
        folder: where claims lie.
        run: the run's name.
        generation: the number that this process created.
        describe: gives what the claim tells beside its holder.
    """

    def __init__(self, folder: Path, run: str, generation: int, describe: Describe) -> None:
        self._folder, self._run, self._generation, self._describe = folder, run, generation, describe
        self._path = _path(folder, run, generation)
        self._ended = threading.Event()
        self._tell()
        self._thread = threading.Thread(target=self._beat, name="ltbench-claim", daemon=True)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether another process took the run over, having thought this one dead."""
        return _path(self._folder, self._run, self._generation + 1).exists()

    def check(self) -> None:
        """Raise `BusyError` if another process took the run over."""
        if self.is_lost:
            raise BusyError(
                f"Expected to hold run {self._run}, got no chance to say so for {STALE_SECONDS:.0f} s and another "
                "process took it over. Nothing is lost: it goes on there."
            )

    def release(self) -> None:
        """Give the run up: its claim stays, without a heartbeat."""
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            os.utime(self._path, (0, 0))

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a full disk or an outage: the run itself will tell
                self._tell()

    def _tell(self) -> None:
        content = {"run": self._run, "holder": asdict(Holder.myself()), "told": dict(self._describe())}
        write_whole(self._path, json.dumps(content).encode())


def try_claim(results: Path, run: str, describe: Describe = dict) -> Claim | None:
    """Return the claim of a run, or None while another process, or another thread, holds it.

    Raises:
        LtbenchError: the results folder cannot be written to.
    """
    folder = results / FOLDER
    generation = _latest(folder, run)
    if generation and _read(folder, run, generation).is_held:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.close(os.open(_path(folder, run, generation + 1), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        if not folder.is_dir():
            raise _unwritable(results, "a file of that name") from None
        return None  # another process was a moment faster
    except OSError as error:
        raise _unwritable(results, error.strerror) from error
    return Claim(folder, run, generation + 1, describe)


@contextmanager
def claimed(results: Path, run: str, describe: Describe = dict, *, wait: bool = True) -> Iterator[Claim]:
    """Hold the claim of a run inside the block.

    Args:
        results: the results folder.
        run: the run's name.
        describe: gives what the claim tells beside its holder.
        wait: wait for another process that holds the run.

    Raises:
        BusyError: another process holds the run, and `wait` is False.
        LtbenchError: the results folder cannot be written to.
    """
    pause = 0.01
    while (claim := try_claim(results, run, describe)) is None:
        if not wait:
            raise BusyError(f"Expected run {run} to be free, got one that {holder_of(results, run)} is doing. Wait.")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_WAIT)
    try:
        yield claim
    finally:
        claim.release()


def held(results: Path) -> dict[str, ClaimState]:
    """Return the claim of each run that a process holds, by run."""
    folder = results / FOLDER
    newest: dict[str, int] = {}
    for path in folder.glob("[!.]*.json"):
        run, _, generation = path.stem.rpartition(".")
        newest[run] = max(newest.get(run, 0), int(generation))
    states = {run: _read(folder, run, generation) for run, generation in newest.items()}
    return {run: state for run, state in states.items() if state.is_held}


def holder_of(results: Path, run: str) -> str:
    """Return who holds a run, in words."""
    folder = results / FOLDER
    holder = _read(folder, run, _latest(folder, run)).holder
    return f"process {holder.pid} on {holder.host}" if holder else "another process"


def _latest(folder: Path, run: str) -> int:
    """Return the newest generation of a run's claims, 0 if there is none; no folder is listed."""
    generation = 0
    while _path(folder, run, generation + 1).exists():
        generation += 1
    return generation


def _path(folder: Path, run: str, generation: int) -> Path:
    return folder / f"{run}.{generation}.json"


def _read(folder: Path, run: str, generation: int) -> ClaimState:
    path = _path(folder, run, generation)
    holder, told = None, {}
    try:
        beat = path.stat().st_mtime
        if beat == 0:  # released
            return ClaimState(run, None, {}, is_held=False)
        content = json.loads(path.read_text(encoding="utf-8"))
        holder, told = Holder(**content["holder"]), content["told"]
    except FileNotFoundError:
        return ClaimState(run, None, {}, is_held=False)
    except (ValueError, TypeError, KeyError):
        pass  # created this moment: its holder is about to write
    is_dead = holder.is_dead(Holder.myself()) if holder else None
    is_held = _now(folder) - beat < STALE_SECONDS if is_dead is None else not is_dead
    return ClaimState(run, holder, told, is_held)


def _now(folder: Path) -> float:
    """Return the time as the file system has it, whose clock may be another machine's."""
    probe = folder / f".now.{uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()  # a folder that can only be read
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


@cache
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot, or "" if there is none (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _unwritable(results: Path, reason: str | None) -> LtbenchError:
    return LtbenchError(f"Expected to write to {results}, got {reason}. Free space or pass another --results.")
