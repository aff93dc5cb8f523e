"""The card's three commands in an empty folder: what each does, and what it says of what is not there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ltbench.datasets import shapes
from ltbench.places import SPLITS
from ltbench.runs import lacking
from ltbench.splits.catalogue import catalogue
from tests.conftest import Run


def test_all_splits_that_need_no_images_are_written_and_the_others_named(ltbench: Run) -> None:
    code, out, err = ltbench("make-splits", "--all")
    assert code == 0
    written = {path.stem for path in Path("splits").glob("*/*.json")}
    assert written == {recipe.name for recipe in catalogue("mvtec") + catalogue("visa")}
    assert len(out.splitlines()) == len(written)
    shipped, left_out = err.splitlines()
    assert "as the suite ships them" in shipped
    assert "visa_full to visa_" in shipped
    assert "left out: dagm_full to dagm_step500_reversed (15)" in left_out
    assert "ltbench datasets get dagm" in left_out
    code, out, err = ltbench("make-splits", "--all", "--check")
    assert code == 0, out
    assert "the splits of visa were only read" in err
    Path("splits/visa/visa_exp100.json").unlink()
    assert ltbench("make-splits", "--all", "--check")[0] == 1, "what the suite ships can be had"


def test_a_shipped_split_needs_no_images(ltbench: Run) -> None:
    code, _, err = ltbench("make-splits", "visa_exp100", "--out", "mine")
    assert code == 0
    assert "visa_exp100" in err
    assert Path("mine/visa/visa_exp100.json").read_bytes() == (SPLITS / "visa/visa_exp100.json").read_bytes()


@pytest.mark.parametrize("name", ["dagm_exp100", "visa_exp37"])
def test_a_split_that_needs_images_says_where_to_get_them(ltbench: Run, name: str) -> None:
    code, out, err = ltbench("make-splits", "mvtec_exp100", name)
    assert code == 2
    assert "mvtec_exp100.json" in out
    assert f"ltbench datasets get {name.partition('_')[0]}" in err
    assert not list(Path("splits").glob(f"*/{name}.json"))


def test_a_tree_that_is_there_and_broken_is_no_absent_one(ltbench: Run, tmp_path: Path) -> None:
    (tmp_path / "data/visa/candle/train").mkdir(parents=True)
    code, _, err = ltbench("make-splits", "visa_exp100", "--data-root", "data")
    assert code == 2
    assert "capsules" in err


def test_a_run_names_all_that_is_missing_and_what_works_now(ltbench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lacking, "absent_weights", lambda values: values["backbone"])
    code, out, err = ltbench("run", "--method", "patchcore", "--split", "mvtec_step100", "--data-root", "data")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "ltbench datasets get mvtec --root data" in err
    assert "The weights of wide_resnet50_2.tv_in1k are not on this machine" in err
    assert "`ltbench run --method patchcore --split shapes_step20 --preset offline`" in err
    assert not Path("results").exists()


def test_the_command_that_works_now_works(ltbench: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    few = {name: {part: min(count, 2) for part, count in counts.items()} for name, counts in shapes.COUNTS.items()}
    monkeypatch.setattr(shapes, "COUNTS", {name: few[name] | {"train": 20} for name in list(few)[:2]})
    monkeypatch.setattr(shapes, "CATEGORIES", tuple(few)[:2])
    _, _, err = ltbench("run", "-m", "mean_image", "-s", "dagm_exp100")
    command = re.findall("`(ltbench run .*?)`", err)[0]
    code, out, _ = ltbench(*shlex.split(command)[1:], "--json")
    assert code == 0
    assert json.loads(out)["metrics"]["image_auroc"]


def test_what_else_a_method_needs_is_named_too(ltbench: Run) -> None:
    _, _, err = ltbench("run", "-m", "draem", "-s", "mvtec_full")
    assert "MVTec AD" in err
    assert "source of textures" in err
    _, _, err = ltbench("run", "-m", "anomalyclip", "-s", "visa_exp100", "-p", "model=tiny-clip")
    assert "also trains on another dataset: Expected the folder of MVTec AD" in err
    assert "weights" not in err
    assert "works now" not in err, "no drawn dataset is left to train on"


def test_weights_that_cannot_be_had_come_with_the_command_that_works(
    ltbench: Run, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    code, _, err = ltbench("run", "-m", "patchcore", "-s", "parts_full", "--data-root", parts, "--cache-size", "0")
    assert code == 2
    assert "Expected the pretrained weights of wide_resnet50_2.tv_in1k" in err
    assert "--split shapes_step20 --preset offline`" in err


def test_a_table_without_runs_points_to_a_papers(ltbench: Run) -> None:
    code, _, err = ltbench("table")
    assert code == 2
    command = re.findall("`(ltbench table .*?)`", err)[0]
    assert ltbench(*shlex.split(command)[1:])[0] == 0
