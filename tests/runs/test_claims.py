"""Claims: one holder at a time, released, taken over from the dead, never from the living."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from ltbench.errors import BusyError, FullDiskError, LtbenchError
from ltbench.runs import claims
from ltbench.runs.claims import FOLDER, Claim, claimed, held, try_claim
from ltbench.runs.holders import Holder
from ltbench.sweeps.status import Status

RUN = "0123456789abcdef"


def _claim(results: Path) -> Claim:
    claim = try_claim(results, RUN)
    assert claim is not None
    return claim


def _count(results: Path, rounds: int) -> None:
    counter = results / "counter"
    for _ in range(rounds):
        with claimed(results, RUN):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_one_process_at_a_time_holds_a_run(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    context = get_context("spawn")
    workers = [context.Process(target=_count, args=(tmp_path, 50)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (tmp_path / "counter").read_text() == "150"


def test_a_held_run_is_refused_and_a_released_one_given(tmp_path: Path) -> None:
    first = _claim(tmp_path)
    assert try_claim(tmp_path, RUN) is None
    with pytest.raises(BusyError, match=f"process {os.getpid()} on"), claimed(tmp_path, RUN, wait=False):
        pass
    first.release()
    _claim(tmp_path).release()
    assert held(tmp_path) == {}


def test_an_exception_releases(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path, RUN):
        raise KeyboardInterrupt
    _claim(tmp_path).release()


def test_a_claim_tells_what_it_is_doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.02)
    done = [1]
    claim = try_claim(tmp_path, RUN, lambda: {"done": done[0]})
    assert claim is not None
    assert held(tmp_path)[RUN].told == {"done": 1}
    done[0] = 2
    deadline = time.monotonic() + 10
    while held(tmp_path)[RUN].told != {"done": 2}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    claim.release()


def test_a_killed_holder_is_followed_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ltbench.runs.claims import try_claim\n"
        "claim = try_claim(Path(sys.argv[1]), sys.argv[2]); print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), RUN], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == b"held\n"
    assert try_claim(tmp_path, RUN) is None
    assert held(tmp_path)[RUN].is_held
    process.kill()
    process.wait()
    assert held(tmp_path) == {}
    _claim(tmp_path).release()


def _rewrite(results: Path, holder: Holder, age: float) -> None:
    """Let generation 1 be held by another process, whose heartbeat is `age` seconds old."""
    folder = results / FOLDER
    folder.mkdir(parents=True)
    path = folder / f"{RUN}.1.json"
    content = {"run": RUN, "holder": {name: getattr(holder, name) for name in Holder.__slots__}, "told": {}}
    path.write_text(json.dumps(content))
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.parametrize(
    ("change", "age", "is_taken_over"),
    [
        ({"place": "another machine"}, 10, False),
        ({"place": "another machine"}, 2 * claims.STALE_SECONDS, True),
        ({"place": "another machine", "job": "7"}, 10, True),  # Slurm started job 7 again, so its first start is over
        ({"place": "another machine", "job": "8"}, 10, False),
        ({"place": "another machine", "job": "7", "restart": 1}, 10, False),
        ({"place": ""}, 10, False),
        ({"place": "another machine"}, -5, False),  # clocks differ a little
        ({"place": "another machine"}, -3600, True),  # a heartbeat from the future
        ({}, 2 * claims.STALE_SECONDS, False),  # alive on this machine, however slow its heart
        ({"started": "1"}, 10, True),  # the process id was used again
    ],
)
def test_who_is_thought_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], age: float, is_taken_over: bool
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    _rewrite(tmp_path, replace(Holder.myself(), **change), age)  # type: ignore[arg-type]
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    claim = try_claim(tmp_path, RUN)
    assert (claim is not None) == is_taken_over
    if claim is not None:
        claim.release()


@pytest.mark.parametrize("text", ["{", "[]", '{"holder": {}}'])
def test_a_claim_that_cannot_be_read_is_held_while_its_heart_beats(tmp_path: Path, text: str) -> None:
    (tmp_path / FOLDER).mkdir()
    path = tmp_path / FOLDER / f"{RUN}.1.json"
    path.write_text(text)
    assert try_claim(tmp_path, RUN) is None
    os.utime(path, (1, 1))
    _claim(tmp_path).release()


def test_an_empty_claim_holds_nothing(tmp_path: Path) -> None:
    """It is what a full disk left before claims appeared with their content."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / f"{RUN}.1.json").touch()
    assert held(tmp_path) == {}
    _claim(tmp_path).release()


def test_a_claim_appears_with_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(FullDiskError, match=r"No space left on device\. Free space or pass another --results"):
        try_claim(tmp_path, RUN)
    assert list((tmp_path / FOLDER).iterdir()) == []


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOTSUP])
def test_a_disk_without_links_has_claims_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", refused)
    first = _claim(tmp_path)
    assert try_claim(tmp_path, RUN) is None
    assert held(tmp_path)[RUN].holder == Holder.myself()
    first.release()
    _claim(tmp_path).release()
    assert not list((tmp_path / FOLDER).glob(".*"))


def test_who_waits_is_told_within_a_second_for_whom(tmp_path: Path) -> None:
    since = time.time() - 60
    first = try_claim(tmp_path, RUN, lambda: {"since": since})
    assert first is not None
    told: list[tuple[float, str]] = []
    start = time.monotonic()
    threading.Timer(1.5, first.release).start()
    with claimed(tmp_path, RUN, say=lambda text: told.append((time.monotonic() - start, text))):
        pass
    ((seconds, text),) = told
    assert seconds < 1
    assert f"process {os.getpid()} on {platform.node()} since 20" in text
    assert f"`ltbench runs unlock {RUN} --results {tmp_path}`" in text


def test_a_run_is_taken_from_a_process_that_hangs(tmp_path: Path) -> None:
    first = _claim(tmp_path)
    assert str(os.getpid()) in claims.unlock(tmp_path, RUN)
    assert first.is_lost
    second = _claim(tmp_path)
    second.check()
    with pytest.raises(BusyError, match="took it over"):
        first.check()
    first.release()
    second.release()
    assert claims.unlock(tmp_path, RUN) == ""


def test_unlocking_takes_nothing_from_who_took_the_run_just_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _claim(tmp_path)
    taken: list[Claim] = []
    create = claims._create

    def meanwhile(path: Path, content: bytes) -> bool:
        if not taken:
            taken.append(Claim(tmp_path / FOLDER, RUN, 2, dict))
            create(path, content)
        return create(path, content)

    monkeypatch.setattr(claims, "_create", meanwhile)
    claims.unlock(tmp_path, RUN)
    monkeypatch.undo()
    assert try_claim(tmp_path, RUN) is None, "the second holder holds it"
    for claim in (first, *taken):
        claim.release()


def test_a_heart_beats_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.02)
    claim = _claim(tmp_path)
    path = tmp_path / FOLDER / f"{RUN}.1.json"

    def refused(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(claims, "write_whole", refused)
    time.sleep(0.1)
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime == 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    claim.release()


def test_what_a_claim_of_another_version_tells_is_left_out(tmp_path: Path) -> None:
    _rewrite(tmp_path, Holder.myself(), 0)
    path = tmp_path / FOLDER / f"{RUN}.1.json"
    content = json.loads(path.read_text()) | {"told": {"since": "yesterday", "position": {"place": 1}, "method": 1}}
    path.write_text(json.dumps(content))
    (tmp_path / FOLDER / "notes.json").write_text("{}")
    (tmp_path / FOLDER / f"{'1' * 16}.1.json").write_text("[" * 100_000)
    assert claims.holder_of(tmp_path, RUN) == f"process {os.getpid()} on {platform.node()}"
    cells = Status(tmp_path).cells()
    assert [cell.state for cell in cells] == ["running", "running"]


def test_a_holder_that_was_taken_over_knows(tmp_path: Path) -> None:
    claim = _claim(tmp_path)
    claim.check()
    (tmp_path / FOLDER / f"{RUN}.2.json").touch()
    assert claim.is_lost
    with pytest.raises(BusyError, match="took it over"):
        claim.check()
    claim.release()


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LtbenchError, match="--results"):
        try_claim(tmp_path / "file", RUN)
    (tmp_path / FOLDER).write_text("")
    with pytest.raises(LtbenchError, match="--results"):
        try_claim(tmp_path, RUN)
