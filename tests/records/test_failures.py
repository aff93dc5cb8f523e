"""Failure records: written whole, read back, forgotten on success."""

from __future__ import annotations

from pathlib import Path

from ltbench.core import RunSpec
from ltbench.errors import DataError
from ltbench.protocols import PROTOCOLS
from ltbench.records.failures import FOLDER, Failure, clear_failure, failed_runs, read_failure, write_failure

SPEC = RunSpec("m", {"k": 1}, "parts_full", "0" * 64, PROTOCOLS["common"], 3)


def _raised(error: Exception) -> Failure:
    try:
        raise error
    except type(error) as caught:
        return Failure.of(SPEC.hash, SPEC.payload(), caught)


def test_a_failure_reads_back_and_is_forgotten(tmp_path: Path) -> None:
    failure = _raised(ValueError("first line\nsecond line"))
    write_failure(tmp_path, failure)
    assert read_failure(tmp_path, SPEC.hash) == failure
    assert failed_runs(tmp_path) == [SPEC.hash]
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [f"{SPEC.hash}.json"]
    clear_failure(tmp_path, SPEC.hash)
    clear_failure(tmp_path, SPEC.hash)
    assert read_failure(tmp_path, SPEC.hash) is None
    assert failed_runs(tmp_path) == []


def test_a_defect_keeps_its_traceback_and_a_mistake_does_not() -> None:
    defect = _raised(ValueError("first line\nsecond line"))
    assert defect.reason == "ValueError: first line"
    assert "second line" in defect.traceback
    assert "in _raised" in defect.traceback
    mistake = _raised(DataError("Expected a file, got none. Mend it."))
    assert (mistake.reason, mistake.traceback) == ("Expected a file, got none. Mend it.", "")


def test_two_failures_of_a_run_are_told_apart() -> None:
    assert _raised(ValueError("x")).id != _raised(ValueError("x")).id


def test_a_damaged_failure_is_still_a_failure(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / f"{SPEC.hash}.json").write_text("{")
    failure = read_failure(tmp_path, SPEC.hash)
    assert failure is not None
    assert "cannot be read" in failure.reason
