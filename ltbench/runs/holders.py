"""Processes that hold a run, told apart from every other one, and whether they are alive."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path


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
