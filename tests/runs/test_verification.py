"""`runs verify` names what differs on damaged copies of each kind; strided maps are saved as they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ltbench.blocks.training.checkpoints import read_checkpoint, write_checkpoint
from ltbench.core import Prediction
from ltbench.datasets.index import load_dataset
from ltbench.errors import DataError
from ltbench.method import ImageSet
from ltbench.records.integrity import CHECKSUMS
from ltbench.records.maps import read_maps, write_maps
from ltbench.records.record import MAPS, RECORD, checkpoints_folder, read_record, read_records
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name
from ltbench.runs.verification import RunVerification, verify_run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def whole(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("results")
    return run_by_name("mean_image", "parts_step4", parts, Harness(results, save_maps=True)).folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs" / whole.name))


def _verified(folder: Path, parts: Path) -> RunVerification:
    return verify_run(folder.parents[1], folder.name, lambda name: load_dataset(name, parts))


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)


def _edit(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    values = json.loads((folder / RECORD).read_text())
    change(values)
    (folder / RECORD).write_text(json.dumps(values, indent=1))


def test_a_whole_run_is_verified(copy: Path, parts: Path) -> None:
    found = _verified(copy, parts)
    assert (found.faults, found.unchecked) == ((), ())
    assert found.checked == ("record", "image metrics", "maps", "pixel metrics")


@pytest.mark.parametrize("summed", [True, False])
def test_an_edited_metric_is_named(copy: Path, parts: Path, *, summed: bool) -> None:
    def change(values: dict[str, object]) -> None:
        values["metrics"]["image_auroc"]["bolt"] = 0.123  # type: ignore[index]
        if not summed:
            values.pop(CHECKSUMS)

    _edit(copy, change)
    assert any("image_auroc of bolt: 0.123000" in fault for fault in _verified(copy, parts).faults)
    if summed:
        with pytest.raises(DataError, match="checksum"):
            read_record(copy)
    assert len(read_records(copy.parents[1])[1]) == int(summed), "a table leaves it out"


def test_an_edited_score_is_named(copy: Path, parts: Path) -> None:
    def change(values: dict[str, object]) -> None:
        values["scores"]["bolt"][0]["score"] += 1e6  # type: ignore[index]

    _edit(copy, change)
    assert any("checksum of the scores" in fault for fault in _verified(copy, parts).faults)
    with pytest.raises(DataError, match="checksum"):
        read_record(copy)


def test_damaged_maps_are_named(copy: Path, parts: Path) -> None:
    _flip(copy / MAPS / "bolt.safetensors")
    assert any("bolt.safetensors" in fault and "checksum" in fault for fault in _verified(copy, parts).faults)


def test_a_damaged_checkpoint_is_refused_and_named(copy: Path, parts: Path) -> None:
    file = checkpoints_folder(copy.parents[1], copy.name) / "train.safetensors"
    write_checkpoint(file, {"x": torch.ones(9), "half": torch.ones((), dtype=torch.bfloat16)}, {"epoch": 1})
    assert read_checkpoint(file) is not None
    _flip(file)
    with pytest.raises(DataError, match=r"checksum.*Remove"):
        read_checkpoint(file)
    assert any("train.safetensors" in fault for fault in _verified(copy, parts).faults)


def test_strided_maps_are_saved_as_they_are(tmp_path: Path) -> None:
    maps = np.moveaxis(np.arange(24, dtype=np.float32).reshape(2, 3, 4), 2, 0)
    write_maps(tmp_path, "bolt", maps)
    assert np.array_equal(read_maps(tmp_path, "bolt", 4), maps)


def test_a_method_whose_maps_are_a_strided_view_leaves_the_right_ones(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from methods.mean_image.method import MeanImage

    usual = MeanImage.predict

    def strided(self: MeanImage, images: ImageSet) -> Prediction:
        found = usual(self, images)
        last = np.ascontiguousarray(np.moveaxis(found.maps, 0, -1))
        return Prediction(found.scores, np.moveaxis(last, -1, 0))

    monkeypatch.setattr(MeanImage, "predict", strided)
    folder = run_by_name("mean_image", "parts_step4", parts, Harness(tmp_path, save_maps=True)).folder
    assert _verified(folder, parts).faults == ()


def test_the_command_tells_whole_from_damaged_runs(copy: Path, parts: Path, ltbench: Run) -> None:
    results = copy.parents[1]
    code, out, _ = ltbench("runs", "verify", "--results", results, "--data-root", parts)
    assert code == 0 and "1 verified" in out
    code, out, _ = ltbench("runs", "verify", "--results", results)
    assert code == 0 and "not checked" in out
    _flip(next((copy / MAPS).iterdir()))
    code, out, _ = ltbench("runs", "verify", copy.name[:6], "--results", results, "--json")
    assert code == 1 and copy.name in out
    assert json.loads(out)
    assert ltbench("runs", "verify", "feed", "--results", results)[0] == 2
