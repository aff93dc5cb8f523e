"""Learning curves change nothing, and a run that was killed goes on and ends with the same record."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ltbench.contract.parameters import parse_assignments
from ltbench.core import Dataset, RunSpec, Split
from ltbench.datasets.index import load_dataset
from ltbench.errors import DataError
from ltbench.records.record import RunRecord, checkpoints_folder, read_record
from ltbench.runs.harness import Harness
from ltbench.runs.planning import plan
from ltbench.runs.progress import ConsoleProgress
from ltbench.runs.runner import run, run_by_name
from ltbench.splits.files import find_split

NAME = "parts_step2"
EPOCHS = 4
SETTINGS = ["weights=random", "layers=[3, 4]", "token_stride=32", f"epochs={EPOCHS}"]


@pytest.fixture(scope="module")
def whole(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The record of a run that nothing disturbed."""
    return _run(parts, Harness(tmp_path_factory.mktemp("whole")))


def _run(parts: Path, harness: Harness) -> RunRecord:
    return run_by_name("uniad", NAME, parts, harness, "check", parse_assignments(SETTINGS)).record


def _same(one: RunRecord, other: RunRecord) -> bool:
    return (one.spec, one.scores, one.metrics, one.notes["losses"]) == (
        other.spec,
        other.scores,
        other.metrics,
        other.notes["losses"],
    )


def test_a_curve_changes_no_number(parts: Path, tmp_path: Path, whole: RunRecord) -> None:
    with_curve = _run(parts, Harness(tmp_path, eval_every=2))
    assert _same(with_curve, whole)
    assert "learning_curve" not in whole.notes
    curve = with_curve.notes["learning_curve"]
    assert [point["epoch"] for point in curve] == [2, 4]
    assert curve[-1]["metrics"] == with_curve.metrics, "the last epoch is what is reported"
    assert curve[0]["metrics"] != with_curve.metrics
    assert "learning_curve" in with_curve.seconds
    assert set(with_curve.peak_memory_mib) == {"fit", "predict", "evaluate"}
    assert not checkpoints_folder(tmp_path, with_curve.spec.hash).exists()


def test_a_finished_run_without_a_curve_says_so(parts: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    harness = Harness(tmp_path, progress=ConsoleProgress(Console(file=out, width=200)))
    run_by_name("mean_image", NAME, parts, harness)
    assert run_by_name("mean_image", NAME, parts, replace(harness, eval_every=3)).reused
    assert "--force repeats it" in out.getvalue()
    forced = run_by_name("mean_image", NAME, parts, replace(harness, eval_every=3, force=True))
    assert forced.record.notes["learning_curve"] == [], "a method without epochs has no points"


def test_a_killed_run_goes_on_and_ends_with_the_same_record(parts: Path, tmp_path: Path, whole: RunRecord) -> None:
    command = [
        *(sys.executable, "-m", "ltbench.cli", "run", "--method", "uniad", "--split", NAME, "--preset", "check"),
        *("--data-root", str(parts), "--results", str(tmp_path), "--device", "cpu", "--json"),
        *("--eval-every", "1", "--checkpoint-minutes", "0"),
        *(argument for setting in SETTINGS for argument in ("-p", setting)),
    ]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    folder = checkpoints_folder(tmp_path, whole.spec.hash)
    curve = folder / "learning_curve.json"
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    while process.poll() is None and not curve.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was killed before it ended"
    assert (folder / "train.safetensors").exists()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    record = read_record(tmp_path / "runs" / whole.spec.hash)
    assert _same(record, whole)
    assert [point["epoch"] for point in record.notes["learning_curve"]] == [1, 2, 3, 4]
    assert not folder.exists()


def test_a_damaged_curve_is_told(parts: Path, tmp_path: Path) -> None:
    dataset: Dataset = load_dataset("parts", parts)
    split: Split = find_split(NAME, lambda _: dataset)
    planned = plan("mean_image", split)
    spec: RunSpec = planned.spec
    folder = checkpoints_folder(tmp_path, spec.hash)
    folder.mkdir(parents=True)
    (folder / "learning_curve.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match=r"learning curve.*Remove"):
        run(planned, split, dataset, Harness(tmp_path, eval_every=1))
