"""Sweeps that are killed, doubled and damaged end with the records of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from ltbench.records.record import RECORD, RunRecord, read_records
from tests.sweeps.conftest import Home

GRID = ("--methods", "counted", "--splits", "parts_full,parts_step2_noisy25", "--seeds", "0-5")
SIGMAS = ("-p", "smoothing_sigma=2,4")
"""With GRID, 24 cells."""


def _numbers(records: list[RunRecord]) -> dict[str, object]:
    """Return what must not depend on how a sweep went, by run."""
    return {r.spec.hash: (r.spec.payload(), r.metrics, r.missing, r.scores, r.counts) for r in records}


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


def _kill_now_and_then(home: Home, process: subprocess.Popen[str], rng: random.Random, killed: list[int]) -> None:
    """Kill a worker at random moments until the sweep is over, or now and then the sweep itself.

    Between two kills a few cells are begun, so that the sweep gets on however slow the machine is.
    """
    begun = len(home.executions)
    while process.poll() is None:
        if len(home.executions) < begun + 1:
            time.sleep(0.02)
            continue
        time.sleep(rng.uniform(0, 0.6))
        workers = _children(process.pid)
        if workers:
            victim = process.pid if rng.random() < 0.1 else rng.choice(workers)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
        begun = len(home.executions) + rng.randint(1, 3)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds worker processes through /proc")
def test_workers_killed_at_random_moments_change_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    serial = home.folder / "serial"
    assert home.run("sweep", *GRID, *SIGMAS, results=serial)[0] == 0
    expected = _numbers(read_records(serial)[0])
    assert len(expected) == 24
    (home.folder / "executions").unlink()
    monkeypatch.setenv("SWEEP_NAP", "0.4")
    rng, killed, rounds = random.Random(7), list[int](), 0
    code = -1
    while code != 0:
        rounds += 1
        assert rounds < 30
        process = home.start("sweep", *GRID, *SIGMAS, "--workers", 4, "--retry-failed")
        killer = threading.Thread(target=_kill_now_and_then, args=(home, process, rng, killed))
        killer.start()
        process.communicate(timeout=300)
        killer.join()
        code = process.returncode
    assert len(killed) >= 5, "the sweep was disturbed"
    records, problems = read_records(home.results)
    assert problems == []
    assert _numbers(records) == expected
    assert sorted(path.name for path in (home.results / "runs").iterdir()) == sorted(expected), "nothing half-written"
    before = home.executions
    assert home.run("sweep", *GRID, *SIGMAS)[0] == 0
    assert home.executions == before, "and nothing is left to do"


def test_two_sweeps_at_once_share_the_work(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_NAP", "0.1")
    both = [home.start("sweep", *GRID, "--workers", 2) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=300) is not None
        assert process.returncode == 0
    assert Counter(Counter(home.executions).values()) == {2: 6}, "six seeds on two splits, each cell once"
    assert len(read_records(home.results)[0]) == 12


@pytest.mark.parametrize("damage", ["cut", "gone", "edited"])
def test_a_damaged_record_is_told_and_run_again(home: Home, damage: str) -> None:
    grid = ("--methods", "counted", "--splits", "parts_full", "--seeds", "0-1")
    assert home.run("sweep", *grid)[0] == 0
    expected = _numbers(read_records(home.results)[0])
    victim = sorted((home.results / "runs").iterdir())[0] / RECORD
    text = victim.read_text()
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_text({"cut": text[:100], "edited": text.replace('"seed": ', '"seed": 1')}[damage])
    if damage != "gone":
        assert str(victim) in home.run("plan", *grid, "--json")[1]
        assert len(read_records(home.results)[0]) == 1, "it is not tabulated"
    assert len(home.executions) == 2
    code, _, err = home.run("sweep", *grid)
    assert code == 0
    assert ("to be repeated" in err) == (damage != "gone")
    assert _numbers(read_records(home.results)[0]) == expected
    assert len(home.executions) == 3


def test_a_failure_stops_no_other_and_is_retried_on_demand(home: Home) -> None:
    (home.folder / "broken").touch()
    grid = ("--methods", "fails,counted", "--splits", "parts_full", "--seeds", "0-1")
    code, _, err = home.run("sweep", *grid, "--workers", 2)
    assert code == 1
    assert "ZeroDivisionError: the file is there" in err
    assert len(read_records(home.results)[0]) == 2
    traces = [path.read_text() for path in (home.results / "failures").iterdir()]
    assert len(traces) == 2
    assert all("in fit" in trace for trace in traces)
    assert home.run("status")[0] == 1
    assert "the file is there" in home.run("status", "--json")[1]
    assert home.run("sweep", *grid)[0] == 1, "what failed is not tried again by itself"
    assert len(home.executions) == 4
    (home.folder / "broken").unlink()
    assert home.run("sweep", *grid, "--retry-failed")[0] == 0
    assert len(home.executions) == 6
    assert list((home.results / "failures").iterdir()) == []
    assert home.run("status")[0] == 0


def test_a_run_that_kills_its_worker_fails_in_the_end(home: Home) -> None:
    (home.folder / "broken").touch()
    code, _, err = home.run("sweep", "-m", "dies,counted", "-s", "parts_full")
    assert code == 1
    assert home.executions.count("dies 0") == 3
    assert home.executions.count("counted 0") == 1
    assert "SIGKILL, as when memory runs out" in err


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds worker processes through /proc")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_leaves_no_process_and_goes_on(
    home: Home, monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    monkeypatch.setenv("SWEEP_NAP", "1.5")
    grid = ("--methods", "counted", "--splits", "parts_full", "--seeds", "0-3")
    process = home.start("sweep", *grid, "--workers", 2)
    while not home.executions:
        time.sleep(0.05)
    workers = _children(process.pid)
    assert len(workers) == 2
    process.send_signal(by)
    _, err = process.communicate(timeout=60)
    if by == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on or starts again" in err
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    monkeypatch.setenv("SWEEP_NAP", "0")
    assert home.run("sweep", *grid)[0] == 0
    assert len(read_records(home.results)[0]) == 4
