"""Records: read back as written, refused when changed, and never half there."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.errors import DataError, LtbenchError
from ltbench.records.record import (
    RECORD,
    RunRecord,
    new_folder,
    read_record,
    read_records,
    run_folder,
    stream_records,
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


def test_scores_are_read_when_asked_for(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = 'bolt/test/good/\n },\n "scores": {\n.png'  # what looks like the file's own lines is escaped in JSON
    record = make_record()
    scores = {"bolt": [{"path": hostile, "defect_type": "good", "score": 0.25}] * 3}
    record = RunRecord(**{name: getattr(record, name) for name in record.__dataclass_fields__} | {"scores": scores})
    with new_folder(run_folder(tmp_path, record.spec)) as temporary:
        write_record(temporary, record)
    parsed: list[int] = []
    loads = json.loads

    def counting(text: str | bytes) -> object:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counting)
    (found,) = stream_records(tmp_path, [])
    whole = (run_folder(tmp_path, record.spec) / RECORD).stat().st_size
    assert len(parsed) == 1 and parsed[0] < whole - len(json.dumps(scores)), "without the scores"
    assert found.scores["bolt"][2]["path"] == hostile
    assert list(found.scores) == ["bolt"] and len(found.scores) == 1
    assert len(parsed) == 2, "one reading for all questions"
    assert found == record
    assert RunRecord.from_json(loads(json.dumps(found.to_json()))) == record


def test_a_record_written_in_another_way_is_read(tmp_path: Path, make_record: MakeRecord) -> None:
    record = make_record()
    folder = run_folder(tmp_path, record.spec)
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(record.to_json()))  # on one line
    assert list(stream_records(tmp_path, [])) == [record]
