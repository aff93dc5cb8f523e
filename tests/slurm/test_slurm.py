"""Sweeps through a real Slurm: arrays, and tasks that are cancelled, requeued and out of time. `make test-slurm`."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltbench.records.record import RunRecord, read_records
from tests.slurm.cluster import missing_programs, slurm_cluster
from tests.sweeps.conftest import Home

pytestmark = pytest.mark.skipif(
    "LTBENCH_TEST_SLURM" not in os.environ, reason="starts a real Slurm, which takes root: run `make test-slurm`"
)

GRID = ("--methods", "counted", "--splits", "parts_full,parts_step2", "--seeds", "0-2")
WAIT = ("-x", "wait=true")


def _slurm(memory: str) -> tuple[str, ...]:
    """Return the options of tasks of one core and this much memory."""
    return ("--executor", "slurm", "-x", "partition=main", "-x", "cpus=1", "-x", f"memory={memory}", "-x", "time=10min")


SLURM = _slurm("500MiB")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running Slurm."""
    assert missing_programs() == []
    with slurm_cluster(tmp_path_factory.mktemp("slurm") / "cluster") as environment:
        yield environment


@pytest.fixture
def there(home: Home, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Home:
    """The tests' home, where Slurm is found."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cluster[name])
    return home


def _numbers(results: Path) -> dict[str, object]:
    records, problems = read_records(results)
    assert problems == []
    return {r.spec.hash: _number(r) for r in records}


def _number(record: RunRecord) -> object:
    return record.spec.payload(), record.metrics, record.missing, dict(record.scores)


def _tasks(*states: str) -> list[str]:
    """Return the ids of the tasks in these states."""
    command = ["squeue", "--noheader", "--array", f"--states={','.join(states)}", "--format=%i"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _running_task(there: Home, sweep: subprocess.Popen[str]) -> str:
    """Return the id of a task, once every task that runs is at work, which is until the tests wake it."""
    _wait_for(lambda: there.executions and len(there.executions) == len(_tasks("RUNNING")), sweep)
    return _tasks("RUNNING")[0]


def _wake_others(there: Home, sweep: subprocess.Popen[str], stopped: str) -> None:
    """Let the tasks end their work, once one that was stopped is over."""
    _wait_for(lambda: stopped not in _tasks("RUNNING", "COMPLETING"), sweep)
    (there.folder / "awake").touch()


def _wait_for(is_so: Callable[[], object], sweep: subprocess.Popen[str], seconds: float = 90) -> None:
    """Wait until something is so of a sweep that is under way."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert sweep.poll() is None, f"the sweep ended before: {sweep.communicate()}"
        assert time.monotonic() < deadline, f"not so after {seconds} seconds"
        time.sleep(0.1)


def test_a_cancelled_task_is_resumed_and_nothing_else_repeated(there: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    serial = there.folder / "serial"
    assert there.run("sweep", *GRID, results=serial)[0] == 0
    (there.folder / "executions").unlink()
    monkeypatch.setenv("SWEEP_NAP", "300")
    sweep = there.start("sweep", *GRID, *SLURM, *WAIT)
    task = _running_task(there, sweep)
    subprocess.run(["scancel", task], check=True)
    _wake_others(there, sweep, task)
    _, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 1
    assert "its job ended before it was done" in err
    assert len(_numbers(there.results)) == 5
    code, _, err = there.run("sweep", *GRID, *SLURM, *WAIT)
    assert code == 0
    assert "1 to run" in err
    assert _numbers(there.results) == _numbers(serial)
    assert sorted(Counter(there.executions).values()) == [2, 2, 3], "each cell once, but for the one that was cancelled"


@pytest.mark.parametrize("how", ["requeued", "out of time"])
def test_a_task_that_slurm_starts_again_goes_on(there: Home, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("SWEEP_NAP", "300")
    sweep = there.start("sweep", "-m", "counted", "-s", "parts_full", *SLURM, *WAIT)
    task = _running_task(there, sweep)
    if how == "requeued":
        subprocess.run(["scontrol", "requeue", task], check=True)
    else:
        subprocess.run(["scancel", "--signal=USR2", task], check=True)
    _wake_others(there, sweep, task)
    _, err = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, err
    assert len(there.executions) == 2
    assert len(_numbers(there.results)) == 1


def test_features_come_first_and_the_rest_depends_on_them(there: Home) -> None:
    grid = ("-m", "patchcore", "-s", "parts_full,parts_step2", "--preset", "offline")
    small = ("-p", "weights=random", "-p", "coreset_ratio=0.1,0.2")
    sweep = there.start("sweep", *grid, *_slurm("3GB"), *small, *WAIT)
    _wait_for(_dependency, sweep, 120)
    _, err = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, err
    assert len(_numbers(there.results)) == 4


def _dependency() -> str:
    command = ["squeue", "--noheader", "--states=PENDING", "--format=%E"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return next((each for each in found if each.startswith("afterany")), "")
