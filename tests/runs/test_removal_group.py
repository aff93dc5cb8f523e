"""`ltbench runs`: list, show, compare, remove, export."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ltbench.errors import BusyError, LtbenchError, SpecError
from ltbench.records.exports import differences, export, metric_rows, score_rows
from ltbench.records.failures import Failure, write_failure
from ltbench.records.record import (
    RECORD,
    RunRecord,
    checkpoints_folder,
    new_folder,
    run_folder,
    stream_records,
    write_record,
)
from ltbench.runs.claims import try_claim
from ltbench.runs.removal import damaged_runs, remove_run, runs_named
from tests.conftest import MakeRecord, Run


@pytest.fixture
def records(make_record: MakeRecord) -> list[RunRecord]:
    """Three runs: two seeds, and one without pixels."""
    return [
        make_record(values={"image_auroc": 0.9, "pixel_auroc": 0.8}),
        make_record(values={"image_auroc": 0.7, "pixel_auroc": 0.8}, seed=1),
        make_record("other", values={"image_auroc": 0.5}, missing={"pixel_auroc": "no masks"}),
    ]


@pytest.fixture
def results(tmp_path: Path, records: list[RunRecord]) -> Path:
    """A results folder that holds them."""
    for record in records:
        with new_folder(run_folder(tmp_path / "results", record.spec)) as temporary:
            write_record(temporary, record)
    return tmp_path / "results"


def test_metric_rows_hold_every_value_and_every_reason(records: list[RunRecord]) -> None:
    rows = list(metric_rows(records))
    values = {(row["run"], row["metric"], row["group"]): row["value"] for row in rows}
    assert values[records[1].spec.hash, "image_auroc", "avg"] == 0.7
    (without,) = [row for row in rows if row["value"] is None]
    assert (without["method"], without["metric"], without["group"], without["reason"]) == (
        "other", "pixel_auroc", "avg", "no masks"
    )  # fmt: skip
    assert len(rows) == 4 * 2 + 4 * 2 + 4 + 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_export_reads_back(results: Path, records: list[RunRecord], tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"runs{suffix}"
    problems: list[str] = []
    count = export(metric_rows(stream_records(results, problems)), out)
    frame = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert len(frame) == count == 21
    chosen = frame[(frame.run == records[0].spec.hash) & (frame.metric == "image_auroc") & (frame.group == "avg")]
    assert chosen.value.tolist() == [0.9]
    assert frame.value.isna().sum() == 1
    assert export(score_rows(stream_records(results, problems)), out) == 3
    scores = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert scores.score.tolist() == [0.25] * 3
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_exported(tmp_path: Path, records: list[RunRecord]) -> None:
    with pytest.raises(SpecError, match=r"\.csv or \.parquet"):
        export(metric_rows(records), tmp_path / "runs.xlsx")
    with pytest.raises(SpecError, match="got none"):
        export(metric_rows([]), tmp_path / "runs.csv")
    (tmp_path / "file").touch()
    with pytest.raises(LtbenchError, match="--out"):
        export(metric_rows(records), tmp_path / "file" / "runs.csv")
    export(metric_rows(records), tmp_path / "new folder" / "runs.csv")


def test_differences_name_specification_environment_and_metrics(records: list[RunRecord]) -> None:
    assert differences(records[0], records[0]) == []
    elsewhere = replace(records[1], environment={"torch": "1"})
    found = {d.name: (d.before, d.after) for d in differences(records[0], elsewhere)}
    assert found == {"seed": (0, 1), "env.torch": ("0", "1"), "metrics.image_auroc.avg": (0.9, 0.7)}


def test_a_run_goes_with_all_that_it_left(results: Path, records: list[RunRecord]) -> None:
    run = records[0].spec.hash
    write_failure(results, Failure(run, {}, "why"))
    (results / "runs" / f".{run}.half").mkdir()
    checkpoints_folder(results, run).mkdir(parents=True)
    assert runs_named(results, [run[:6]]) == [run]
    claim = try_claim(results, run)
    assert claim is not None
    with pytest.raises(BusyError, match=str(os.getpid())):
        remove_run(results, run)
    claim.release()
    remove_run(results, run)
    left = sorted(path.name for path in (results / "runs").iterdir())
    assert left == sorted(record.spec.hash for record in records[1:])
    assert list((results / "failures").iterdir()) == list((results / "checkpoints").iterdir()) == []


def test_names_that_stand_for_no_run_or_several(results: Path) -> None:
    with pytest.raises(LtbenchError, match="'zz'"):
        runs_named(results, ["zz"])
    for run in ("feed01", "feed02"):
        write_failure(results, Failure(run, {}, "why"))
    with pytest.raises(SpecError, match="more digits"):
        runs_named(results, ["feed"])


def test_damaged_runs_are_found(results: Path, records: list[RunRecord]) -> None:
    assert damaged_runs(results) == []
    run_folder(results, records[0].spec).joinpath(RECORD).write_text("{")
    (results / "runs" / "0000").mkdir()
    assert damaged_runs(results) == sorted(["0000", records[0].spec.hash])


def test_the_commands(ltbench: Run, results: Path, records: list[RunRecord]) -> None:
    first, second = (record.spec.hash for record in records[:2])
    out = ltbench("runs", "--results", results)[1]
    assert all(record.spec.hash in out for record in records)
    listed = json.loads(ltbench("runs", "--results", results, "--json")[1])["runs"]
    assert {row["value"] for row in listed} == {0.9, 0.7, 0.5}
    assert "90.00" in ltbench("runs", "show", first, "--results", results)[1]
    shown = json.loads(ltbench("runs", "show", first[:8], "--results", results, "--json")[1])
    assert shown["metrics"]["image_auroc"]["avg"] == 0.9
    assert "scores" not in shown
    assert "-20.00" in ltbench("runs", "diff", first, second, "--results", results)[1]
    assert "equal" in ltbench("runs", "diff", first, first, "--results", results)[1]
    assert json.loads(ltbench("runs", "export", "--out", "all.csv", "--results", results, "--json")[1])["rows"] == 21
    assert "--yes" in ltbench("runs", "rm", first, "--results", results)[2]
    assert json.loads(ltbench("runs", "rm", first, "--yes", "--results", results, "--json")[1]) == {"removed": [first]}
    assert ltbench("runs", "show", first, "--results", results)[0] == 2
    assert "no finished runs" in ltbench("runs", "--results", "empty")[1]
