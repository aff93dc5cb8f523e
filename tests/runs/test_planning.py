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
from methods.mean_image.method import MeanImage

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
    assert "16-bit images of nut have no value above 4095" in " ".join(err.split())
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    assert read_record(folder).notes["dark_images"] == ["nut"]
    code, _, err = ltbench(*told, "--protocol", "common+depth12")
    assert code == 0
    assert "above 4095" not in " ".join(err.split())


def _broken(parts: Path, tmp_path: Path, file: str) -> Path:
    """Return a copy of the dataset `parts` one of whose files is cut short."""
    root = tmp_path / "data"
    shutil.copytree(parts / "parts", root / "parts")
    whole = (root / "parts" / file).read_bytes()
    (root / "parts" / file).write_bytes(whole[: len(whole) // 2])
    return root


@pytest.mark.parametrize("file", ["bolt/test/good/001.png", "bolt/ground_truth/spot/001_mask.png"])
def test_a_broken_file_of_the_test_set_is_told_before_anything_is_fitted(
    parts: Path, tmp_path: Path, ltbench: Run, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    root = _broken(parts, tmp_path, file)
    monkeypatch.setattr(MeanImage, "fit", lambda *_: pytest.fail("it was fitted"))
    told = ("-s", "parts_full", "--data-root", root, "--results", tmp_path / "results")
    code, _, err = ltbench("run", "-m", "mean_image", *told)
    assert code == 2 and Path(file).name in err.replace("\n", "")
    code, out, _ = ltbench("plan", "-m", "mean_image,padim", *told, "--json")
    cells = json.loads(out)["cells"]
    assert [cell["state"] for cell in cells] == ["blocked", "blocked"]
    assert all(Path(file).name in cell["reason"] for cell in cells)


def test_a_mask_of_another_size_is_told_when_the_split_is_made(parts: Path, tmp_path: Path, ltbench: Run) -> None:
    root = tmp_path / "data"
    shutil.copytree(parts / "parts", root / "parts")
    Image.new("L", (9, 9)).save(root / "parts/bolt/ground_truth/spot/001_mask.png")
    for told in (("--folder", root / "parts", "--name", "parts"), ("parts_full", "--data-root", root)):
        code, _, err = ltbench("make-splits", *told)
        assert (code, "as large as its image" in " ".join(err.split())) == (2, True)
    assert not Path("splits").exists()


def test_a_plan_tells_what_a_run_would(cornered: Path, tmp_path: Path, ltbench: Run) -> None:
    told = ("-m", "mean_image", "-s", "parts_full,parts_step2", "--data-root", cornered, "--results", tmp_path / "r")
    plan = json.loads(ltbench("plan", *told, "--protocol", "tailedcore", "--json")[1])
    assert len(plan["remarks"]) == 1, "both splits test on the same defects"
    assert plan["remarks"][0].startswith("2 test defects have no pixel left under protocol tailedcore (bolt 2)")
    out = " ".join(ltbench("plan", *told, "--protocol", "tailedcore")[1].split())
    assert "--protocol common) keeps whole images" in out
    assert json.loads(ltbench("plan", *told, "--json")[1])["remarks"] == []


@pytest.mark.parametrize("name", ["high", "low", "avg"])
def test_a_category_called_like_a_group_is_refused_by_every_command(
    parts: Path, tmp_path: Path, ltbench: Run, name: str
) -> None:
    root = tmp_path / "data"
    shutil.copytree(parts / "parts", root / "parts")
    (root / "parts" / "nut").rename(root / "parts" / name)
    own = ("--data-root", root)
    for told in (("make-splits", "parts_full", *own), ("run", "-m", "mean_image", "-s", "parts_full", *own)):
        code, _, err = ltbench(*told)
        assert (code, f"got '{name}' in parts. Rename its folder" in " ".join(err.split())) == (2, True)
    (cell,) = json.loads(ltbench("plan", "-m", "mean_image", "-s", "parts_full", *own, "--json")[1])["cells"]
    assert (cell["state"], f"'{name}'" in cell["reason"]) == ("blocked", True)


def test_what_a_method_needs_beside_the_images_is_checked_before_anything_else(
    parts: Path, tmp_path: Path, ltbench: Run
) -> None:
    told = ("--data-root", parts, "--results", tmp_path / "results", "-p", "textures=/no/such/folder")
    code, _, err = ltbench("run", "-m", "draem", "-s", "parts_full", "--preset", "check", *told)
    said = " ".join(err.split())
    assert code == 2
    assert "Expected a folder of textures, got '/no/such/folder', which is none. Give a folder of pictures" in said
    code, out, err = ltbench("plan", "--methods", "draem,mean_image", "--splits", "parts_full", *told[:4])
    assert "Expected a source of textures, got none" in " ".join((out + err).split())
    assert "mean_image" in out
