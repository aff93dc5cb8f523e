"""Fixtures that several areas share: a small dataset on disk and records made by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltbench.cli import main
from ltbench.core import RunSpec
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.records.record import RunRecord

MakeRecord = Callable[..., RunRecord]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's cache, data and results."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("LTBENCH_DATA", raising=False)
    monkeypatch.delenv("LTBENCH_RESULTS", raising=False)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the dataset `parts`: bolts and nuts in MVTec layout, 64 x 64; `nut` has no masks."""
    root = tmp_path_factory.mktemp("data") / "parts"
    for category, has_masks in (("bolt", True), ("nut", False)):
        for part, defect_type, count in (("train", "good", 8), ("test", "good", 4), ("test", "spot", 4)):
            for number in range(count):
                _draw(root, category, part, defect_type, number, has_masks)
    return root.parent


def _draw(root: Path, category: str, part: str, defect_type: str, number: int, has_masks: bool) -> None:
    rng = np.random.RandomState(number + 100 * len(category) + 1000 * len(part + defect_type))
    image = rng.normal(100 if category == "bolt" else 150, 6, (64, 64, 3))
    mask = np.zeros((64, 64), np.uint8)
    if defect_type != "good":
        y, x = rng.randint(8, 40, 2)
        mask[y : y + 14, x : x + 14] = 255
        image[mask > 0] += 60
    file = root / category / part / defect_type / f"{number:03d}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(file)
    if defect_type != "good" and has_masks:
        truth = root / category / "ground_truth" / defect_type / f"{number:03d}_mask.png"
        truth.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(truth)


@pytest.fixture
def make_record() -> MakeRecord:
    """Return a function that makes a record from what matters to a table."""

    def make(
        method: str = "m",
        split: str = "mvtec_step100",
        values: Mapping[str, float] | None = None,
        *,
        info: MethodInfo | None = None,
        missing: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> RunRecord:
        base = RunSpec(method, {}, split, "0" * 64, PROTOCOLS["common"], 0)
        groups = {group: value for group in ("avg", "high", "low", "bolt") for value in [0.5]}
        metrics = {metric: {**groups, "avg": value} for metric, value in (values or {"image_auroc": 0.9}).items()}
        return RunRecord(
            spec=replace(base, **spec),
            method=info or MethodInfo(method, method.title()),
            preset="defaults",
            dataset=split.split("_")[0],
            recipe={"profile": "step"},
            split_seed=0,
            high=("bolt",),
            low=(),
            counts={"bolt": {"normal": 3, "contaminant": 0}},
            metrics=metrics,
            missing={metric: {"avg": reason} for metric, reason in (missing or {}).items()},
            scores={"bolt": [{"path": "bolt/test/good/0.png", "defect_type": "good", "score": 0.25}]},
            seconds={"fit": 1.0},
            peak_memory_mib={"fit": 10.0},
            environment={"torch": "0"},
            created="2026-01-01T00:00:00+00:00",
        )

    return make


@pytest.fixture
def ltbench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs the command line in an empty folder: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ltbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run
