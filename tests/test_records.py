"""Records: read back as written, refused when changed, and never half there."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.errors import DataError, LtbenchError
from ltbench.records import (
    RECORD,
    RunRecord,
    new_folder,
    read_record,
    read_records,
    run_folder,
    write_record,
)

MakeRecord = Callable[..., RunRecord]


def test_a_record_reads_back_as_written(tmp_path: Path, make_record: MakeRecord) -> None:
    record = make_record(seed=3)
    folder = run_folder(tmp_path, record.spec)
    with new_folder(folder) as temporary:
        write_record(temporary, record)
    assert read_record(folder) == record
    assert folder.name == record.spec.hash
    assert read_records(tmp_path) == ([record], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 0}, "schema version"),
        ({"run": "feed"}, "from its specification"),
        ({"surplus": 1}, "fields"),
        ({"spec": {"method": "m"}}, "Remove the folder"),
        ({"method": 3}, "Remove the folder"),
    ],
)
def test_a_changed_record_is_refused(
    tmp_path: Path, make_record: MakeRecord, change: dict[str, object], message: str
) -> None:
    (tmp_path / RECORD).write_text(json.dumps(make_record().to_json() | change))
    with pytest.raises(DataError, match=message) as caught:
        read_record(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"run": '])
def test_a_damaged_record_is_reported_and_the_others_are_read(
    tmp_path: Path, make_record: MakeRecord, text: str
) -> None:
    for record in (make_record(), make_record(seed=1)):
        with new_folder(run_folder(tmp_path, record.spec)) as temporary:
            write_record(temporary, record)
    damaged = run_folder(tmp_path, make_record().spec) / RECORD
    damaged.write_text(text)
    records, problems = read_records(tmp_path)
    assert records == [make_record(seed=1)]
    assert len(problems) == 1
    assert str(damaged) in problems[0]


def test_nan_is_never_written(tmp_path: Path, make_record: MakeRecord) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_record(tmp_path, make_record(values={"image_auroc": float("nan")}))


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "runs" / "abc") as temporary:
            (temporary / RECORD).write_text("{")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    stale = tmp_path / "runs" / ".abc.0123"
    stale.mkdir(parents=True)
    (stale / RECORD).write_text("{")
    with new_folder(tmp_path / "runs" / "abc") as temporary:
        (temporary / "x").write_text("1")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["abc"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with new_folder(tmp_path / "abc") as temporary:
            (temporary / text).write_text(text)
    assert [path.name for path in (tmp_path / "abc").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "abc"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(LtbenchError, match=r"No space left on device.*Free space"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_other_errors_keep_their_kind(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "abc"):
            raise FileNotFoundError(errno.ENOENT, "weights")

    with pytest.raises(FileNotFoundError):
        fail()
