"""The three functions of a notebook: they do what the command line does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

import ltbench as package
from ltbench.errors import SpecError, UnknownNameError
from tests.conftest import Run


def test_a_run_its_table_and_its_model(parts: Path, ltbench: Run) -> None:
    first = package.run("mean_image", "parts_full", data_root=parts, save_model=True, calibrate=25, quiet=True)
    assert not first.reused
    assert package.run("mean_image", "parts_full", data_root=parts, calibrate=25, quiet=True).reused
    other = package.run("mean_image", "parts_full", data_root=parts, parameters={"smoothing_sigma": 1.0}, quiet=True)
    assert other.record.spec.parameters["smoothing_sigma"] == 1.0

    _, out, _ = ltbench("table", "--format", "csv")
    frame = package.table()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == len(out.splitlines()) - 1
    wide = frame.pivot_table(index="method", columns=["split", "metric", "group"], values="mean")
    assert wide.notna().to_numpy().any()
    own = frame[(frame["split"] == first.record.spec.split) & (frame["metric"] == "image_auroc")]["mean"].dropna()
    assert float(own.iloc[0]) == pytest.approx(100 * first.record.metrics["image_auroc"]["avg"])

    scorer = package.load(first.folder, threshold="false_alarms=40%")
    shutil.copytree(parts / "parts" / "bolt" / "test", "new")
    Path("new/notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match="passed over new/notes.txt"):
        scored = scorer.score(["new"])
    assert len(scored) == 8
    assert {one.decision for one in scored} <= {"good", "defective"}
    expected = {entry["path"]: entry["score"] for entry in first.record.scores["bolt"]}
    assert sorted(one.score for one in scored) == sorted(expected.values())


def test_tables_without_runs_and_papers(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="ltbench run"):
        package.table(results=tmp_path)
    paper = package.table(paper="ltad-3", results=tmp_path)
    assert paper["mean"].isna().all()
    assert paper["published"].notna().any()
    assert set(paper["reason"]) != {""}


def test_errors_are_the_suites(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="mean_image"):
        package.run("mean_imag", "parts_full", data_root=parts, results=tmp_path)
    with pytest.raises(UnknownNameError):
        package.table(metrics=["image_auc"], results=tmp_path)
    outcome = package.run("mean_image", "parts_full", data_root=parts, results=tmp_path, quiet=True)
    with pytest.raises(SpecError, match="--save-model"):
        package.load(outcome.folder)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, json, ltbench; print(json.dumps(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules))))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(out) == []
    assert set(package.__all__) == {"__version__", "load", "run", "table"}
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = package.runn
