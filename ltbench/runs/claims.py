"""Claims: of all processes that share a results folder, one at a time does a run.

A claim is a file `<results>/.claims/<run>.<generation>.json` that only one process can create (a hard link, which local
and network file systems keep). It says who holds the run and how far it is, and its time of change is the holder's
heartbeat. A claim that was released, or whose holder is dead, is followed by the next generation, which again only one
process can create. No generation is ever removed. docs/adr/0005-claims-are-files.md says why this is no lock.

A claim appears with its content, by a hard link; an empty one is left of a file system without links, or of a process
that died there, and holds nothing. Neither does a heartbeat from the future.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from ltbench.atomic import write_whole
from ltbench.errors import BusyError
from ltbench.records.record import REMEDY
from ltbench.runs.holders import Holder
from ltbench.system import writing

FOLDER = ".claims"

HEARTBEAT_SECONDS = 2.0
STALE_SECONDS = 180.0
"""How old the heartbeat of a holder on another machine may be: a network file system may show one a minute late."""

AHEAD_SECONDS = 10.0
"""How far in the future a heartbeat may lie: clocks of machines that share files differ by less."""

PATIENCE_SECONDS = 0.3
"""How long a run is waited for without a word."""

LONGEST_WAIT = 1.0
"""Seconds between two looks at a run that another process holds."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems say that have no hard links."""

Say = Callable[[str], None]

Describe = Callable[[], Mapping[str, Any]]
"""Gives what a claim says beside its holder: how far the run is, as plain JSON values."""


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
            try:
                write_whole(self._path, _content(self._run, self._describe))
            except OSError:  # a full disk or an outage: the run itself will tell
                with suppress(OSError):
                    os.utime(self._path)


def try_claim(results: Path, run: str, describe: Describe = dict) -> Claim | None:
    """Return the claim of a run, or None while another process, or another thread, holds it.

    Raises:
        FullDiskError, DataError: the results folder cannot be written to.
    """
    folder = results / FOLDER
    generation = _latest(folder, run)
    if generation and _read(folder, run, generation).is_held:
        return None
    with writing(results, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        is_ours = _create(_path(folder, run, generation + 1), _content(run, describe))
    return Claim(folder, run, generation + 1, describe) if is_ours else None


def unlock(results: Path, run: str) -> str:
    """Take a run away from whoever holds it, and return who that was, "" for nobody. It keeps nothing if it goes on.

    Raises:
        FullDiskError, DataError: the results folder cannot be written to.
    """
    folder = results / FOLDER
    generation, who = _latest(folder, run), holder_of(results, run)
    if not _read(folder, run, generation).is_held:
        return ""
    with writing(results, REMEDY):
        if _create(path := _path(folder, run, generation + 1), _content(run, dict)):  # else somebody took it just now
            os.utime(path, (0, 0))
    return who


@contextmanager
def claimed(
    results: Path, run: str, describe: Describe = dict, *, wait: bool = True, say: Say | None = None
) -> Iterator[Claim]:
    """Hold the claim of a run inside the block.

    Args:
        results: the results folder.
        run: the run's name.
        describe: gives what the claim tells beside its holder.
        wait: wait for another process that holds the run.
        say: is told who that is, once, where it takes more than a moment.

    Raises:
        BusyError: another process holds the run, and `wait` is False.
        FullDiskError, DataError: the results folder cannot be written to.
    """
    pause, start = 0.01, time.monotonic()
    unlocking = f"ltbench runs unlock {run} --results {shlex.quote(str(results))}"
    remedy = f"`{unlocking}` takes it from a process that hangs"
    while (claim := try_claim(results, run, describe)) is None:
        if not wait:
            raise BusyError(f"Expected run {run} to be free, got one of {holder_of(results, run)}. Wait; {remedy}.")
        if say is not None and time.monotonic() - start > PATIENCE_SECONDS:
            say(f"waiting for run {run}, which {holder_of(results, run)} is doing; {remedy}")
            say = None
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
        if generation.isdecimal():
            newest[run] = max(newest.get(run, 0), int(generation))
    states = {run: _read(folder, run, generation) for run, generation in newest.items()}
    return {run: state for run, state in states.items() if state.is_held}


def holder_of(results: Path, run: str) -> str:
    """Return who holds a run, in words."""
    folder = results / FOLDER
    state = _read(folder, run, _latest(folder, run))
    if state.holder is None:
        return "another process"
    since: Any = state.told.get("since")
    began = ""
    with suppress(TypeError, ValueError, OverflowError, OSError):  # it may not say, or be of another version
        began = f" since {datetime.fromtimestamp(since).astimezone():%Y-%m-%d %H:%M:%S}"
    return f"process {state.holder.pid} on {state.holder.host}{began}"


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
        text = path.read_text(encoding="utf-8")
        if not text:  # see above
            return ClaimState(run, None, {}, is_held=False)
        content = json.loads(text)
        holder, told = Holder(**content["holder"]), dict(content["told"])
    except FileNotFoundError:
        return ClaimState(run, None, {}, is_held=False)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # of another version, perhaps: its heart tells
    is_dead = holder.is_dead(Holder.myself()) if holder else None
    is_held = -AHEAD_SECONDS < _now(folder) - beat < STALE_SECONDS if is_dead is None else not is_dead
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


def _content(run: str, describe: Describe) -> bytes:
    return json.dumps({"run": run, "holder": asdict(Holder.myself()), "told": dict(describe())}).encode()


def _create(path: Path, content: bytes) -> bool:
    """Create a claim with its content, which one process alone can; return whether it was this one."""
    temporary = path.with_name(f".{uuid4().hex}")
    try:
        temporary.write_bytes(content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return temporary.stat().st_nlink > 1  # a network file system may do it, and say that another did
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                temporary.replace(path)
                return True
            return False
        return True
    finally:
        with suppress(OSError):
            temporary.unlink()
