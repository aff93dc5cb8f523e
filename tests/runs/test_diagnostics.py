"""Diagnostics join what a method noted by position with what the split knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ltbench.core import Split, TrainImages
from ltbench.errors import DataError, SpecError
from ltbench.figures.diagnostics import draw_diagnostics
from ltbench.figures.style import save
from ltbench.records.inspection import diagnostics_of, find_run
from ltbench.records.record import RunRecord, new_folder, run_folder, write_record
from ltbench.runs.diagnostics import diagnose

SPLIT = Split(
    "d_k1_noisy10",
    "d",
    {},
    0,
    ("big",),
    ("rare",),
    {"big": TrainImages(("b/0", "b/1", "b/2"), ("b/bad",)), "rare": TrainImages(("r/0",))},
    {"big": ("b/bad",), "rare": ("r/bad",)},
)
ORDER = ["r/0", "b/bad", "b/0", "b/1", "b/2"]
NOTES = {
    "tails": {"indices": [0, 1], "kappa": [1, 2, 4, 4, 3]},
    "memories": {"clean": {"by_image": [0, 1, 4, 3, 2]}, "tail": {"by_image": [6, 2, 0, 0, 0]}},
}


def test_tails_and_sizes() -> None:
    found = diagnose(NOTES, ORDER, SPLIT)
    assert found["tails"] == {"predicted": 2, "true": 1, "recall": 1.0, "precision": 0.5}
    assert found["sizes"]["big"] == {"true": 4, "predicted_median": 3.5, "predicted_min": 2, "predicted_max": 4}
    assert found["sizes"]["rare"]["true"] == 1


def test_what_memories_keep() -> None:
    memories = diagnose(NOTES, ORDER, SPLIT)["memories"]
    assert memories["clean"]["head"] == {"images": 3, "patches": 9, "share": 0.9, "patches_per_image": 3.0}
    assert memories["clean"]["tail"]["patches"] == 0
    assert memories["tail"]["contaminant"] == {"images": 1, "patches": 2, "share": 0.25, "patches_per_image": 2.0}
    json.dumps(memories, allow_nan=False)


def test_a_method_that_notes_nothing_has_none() -> None:
    assert diagnose({"backbone": {}}, ORDER, SPLIT) == {}


def test_a_picture_and_the_way_to_it(tmp_path: Path, make_record: Callable[..., RunRecord]) -> None:
    record = replace(make_record(), notes={"diagnostics": diagnose(NOTES, ORDER, SPLIT)})
    with new_folder(run_folder(tmp_path, record.spec)) as folder:
        write_record(folder, record)
    assert find_run(record.spec.hash[:4], tmp_path) == record
    assert find_run(str(run_folder(tmp_path, record.spec)), Path("nowhere")) == record
    save(draw_diagnostics(record), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size[0] > 1000
    with pytest.raises(DataError, match="none"):
        find_run("zzzz", tmp_path)
    with pytest.raises(SpecError, match="notes nothing"):
        diagnostics_of(make_record())


def test_supports_are_named_with_what_they_are() -> None:
    found = diagnose({"supports": {"big": [1, 3], "rare": [0]}}, ORDER, SPLIT)["supports"]
    assert found["big"] == [{"path": "b/bad", "role": "contaminant"}, {"path": "b/1", "role": "head"}]
    assert found["rare"] == [{"path": "r/0", "role": "tail"}]
