"""What is decided and refused before a run starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltbench.datasets.index import load_dataset
from ltbench.records.record import read_record
from ltbench.runs.planning import plan
from ltbench.splits.files import find_split

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cornered(parts: Path, tmp_path: Path) -> Path:
    """The dataset `parts` whose first two defects of bolts lie in a corner."""
    root = tmp_path / "data"
    shutil.copytree(parts / "parts", root / "parts")
    mask = np.zeros((64, 64), np.uint8)
    mask[:3, :3] = 255
    for number in (0, 1):
        Image.fromarray(mask).save(root / "parts/bolt/ground_truth/spot" / f"{number:03d}_mask.png")
    return root


def test_a_folder_takes_whole_images_and_a_published_dataset_the_geometry_of_the_preset(parts: Path) -> None:
    own = find_split("parts_full", lambda name: load_dataset(name, parts))
    assert plan("patchcore", own, preset="offline").spec.protocol.name == "common"
    assert plan("patchcore", own, preset="offline", protocol="tailedcore").spec.protocol.name == "tailedcore"
    published = find_split("mvtec_step100", lambda _: pytest.fail("it is committed"))
    assert plan("patchcore", published, preset="offline").spec.protocol.name == "tailedcore"


def test_defects_outside_the_crop_are_told_recorded_and_marked(cornered: Path, tmp_path: Path, ltbench: Run) -> None:
    results = tmp_path / "results"
    told = ("run", "-m", "mean_image", "-s", "parts_full", "--data-root", cornered, "--results", results)
    code, _, err = ltbench(*told, "--protocol", "tailedcore", "--save-maps")
    said = " ".join(err.split())
    assert code == 0, err
    assert "2 test defects have no pixel left under protocol tailedcore (bolt 2), and 0 less than half" in said
    assert "--protocol common" in said
    (folder,) = (results / "runs").iterdir()
    assert read_record(folder).notes["masks"] == {
        "bolt": {"defects": 4, "blank": 0, "empty": 2, "halved": 0, "graded": 0}
    }
    _, out, _ = ltbench("table", "--results", results)
    assert "leaves no pixel of 2 test defects of parts" in out
    drawn = ("heatmaps", "--run", folder.name, "--out", "m.svg")
    code, _, err = ltbench(*drawn, "--data-root", cornered, "--results", results)
    assert code == 0, err
    assert "outside the crop" in Path("m.svg").read_text()
    code, _, err = ltbench(*told)
    assert code == 0
    assert "no pixel left" not in " ".join(err.split())


def test_masks_of_many_grey_levels_are_told_recorded_and_cut_at_half(parts: Path, tmp_path: Path, ltbench: Run) -> None:
    root, results = tmp_path / "data", tmp_path / "results"
    shutil.copytree(parts / "parts", root / "parts")
    for file in (root / "parts/bolt/ground_truth/spot").iterdir():
        small = Image.open(file).resize((9, 9), Image.Resampling.BILINEAR)
        small.resize((64, 64), Image.Resampling.BICUBIC).save(file)
    told = ("run", "-m", "mean_image", "-s", "parts_full", "--data-root", root, "--results", results)
    said, scores = [], []
    for protocol in ("common", "common+positive_masks"):
        code, out, err = ltbench(*told, "--protocol", protocol, "--json")
        assert code == 0, err
        scores.append(json.loads(out)["metrics"]["pixel_auroc"]["bolt"])
        said.append(" ".join(ltbench(*told, "--protocol", protocol, "--force")[2].split()))
    records = [read_record(folder) for folder in (results / "runs").iterdir()]
    assert [record.notes["masks"]["bolt"]["graded"] for record in records] == [4, 4]
    assert said[0].count("4 masks have many grey levels and are cut at half") == 1
    assert "--protocol common+positive_masks takes every value above 0" in said[0]
    assert "grey levels" not in said[1]
    assert scores[0] > scores[1] + 0.01


def test_images_of_twelve_bits_are_told_with_the_remedy(parts: Path, tmp_path: Path, ltbench: Run) -> None:
    root = tmp_path / "data"
    shutil.copytree(parts / "parts", root / "parts")
    for file in (root / "parts" / "nut").rglob("*.png"):
        grey = np.asarray(Image.open(file).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(file)
    told = ("run", "-m", "mean_image", "-s", "parts_full", "--data-root", root, "--results", tmp_path / "results")
    code, _, err = ltbench(*told)
    assert code == 0
    assert "16-bit training images of nut have no value above 4095" in " ".join(err.split())
    code, _, err = ltbench(*told, "--protocol", "common+depth12")
    assert code == 0
    assert "above 4095" not in " ".join(err.split())
