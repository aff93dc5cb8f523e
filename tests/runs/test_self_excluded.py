"""Runs on self-excluded splits: contaminants score as if they had not been trained on, all else as it did."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ltbench.datasets.index import load_dataset
from ltbench.errors import NotApplicableError, SpecError
from ltbench.records.record import RunRecord, read_record
from ltbench.runs.examination import training_order
from ltbench.runs.external import Submission, evaluate
from ltbench.runs.harness import Harness
from ltbench.runs.provenance import split_digests
from ltbench.runs.runner import run_by_name
from ltbench.runs.self_matches import self_matches
from ltbench.splits.files import find_split
from ltbench.sweeps.gaps import inapplicable_cells
from tests.conftest import Run

OVERLAP, OWN = "parts_step2_noisy25", "parts_step2_noisy25_selfexcluded"


@pytest.fixture(scope="module")
def records(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, RunRecord, Path]:
    """The records of PatchCore on both splits, all of whose patches are kept, and the folder of the second run."""
    harness = Harness(tmp_path_factory.mktemp("results"), save_model=True)
    outcomes = [
        run_by_name("patchcore", name, parts, harness, "offline", {"coreset": "none"}) for name in (OVERLAP, OWN)
    ]
    return outcomes[0].record, outcomes[1].record, outcomes[1].folder


def _scores(record: RunRecord) -> dict[str, float]:
    return {entry["path"]: entry["score"] for entries in record.scores.values() for entry in entries}


def test_contaminants_score_otherwise_and_nothing_else_does(
    records: tuple[RunRecord, RunRecord, Path], parts: Path
) -> None:
    overlap, own = map(_scores, records[:2])
    split = find_split(OWN, lambda name: load_dataset(name, parts))
    contaminants = {path for images in split.train.values() for path in images.contaminant}
    assert len(contaminants) == 2
    assert {path for path in own if own[path] != overlap[path]} == contaminants
    assert all(overlap[path] == 0 < own[path] for path in contaminants), "a patch's own copy is at distance zero"
    assert records[1].notes["self_excluded"] == {"bolt": 2, "nut": 0}
    assert records[1].spec.hash != records[0].spec.hash
    assert "self_excluded" not in records[0].notes


def test_the_saved_method_leaves_nothing_out_of_new_images(
    records: tuple[RunRecord, RunRecord, Path], parts: Path, ltbench: Run
) -> None:
    image = next(iter(path for path, score in _scores(records[0]).items() if score == 0))
    code, out, err = ltbench("predict", "--run", records[2] / "model", parts / "parts" / image, "--json")
    assert code == 0, err
    assert '"score": 0.0' in json.dumps(json.loads(out))


def test_methods_that_cannot_are_refused_before_an_image_is_read(parts: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(parts / "parts", root / "parts")
    for image in (root / "parts").rglob("*.png"):
        image.write_bytes(b"no image")
    with pytest.raises(NotApplicableError, match="Mean image cannot score an image without") as caught:
        run_by_name("mean_image", OWN, root, Harness(tmp_path / "results"))
    assert OWN in str(caught.value)
    assert not (tmp_path / "results").exists(), "nothing is written"


def test_sweeps_and_tables_say_so(parts: Path, ltbench: Run) -> None:
    code, out, err = ltbench("plan", "--methods", "mean_image,patchcore", "--splits", OWN, "--data-root", parts)
    assert code == 0, err
    assert "Mean image cannot score an image without" in " ".join(out.split())
    assert "PatchCore cannot" not in out
    base = "mvtec_k4_noisy10_selfexcluded"
    found = inapplicable_cells([("padim", base), ("patchcore", base), ("padim", "mvtec_k4_noisy10_disjoint")])
    assert list(found) == [("padim", base)]
    assert found["padim", base].startswith("not applicable: PaDiM cannot score an image without")


def test_the_same_file_under_another_name_is_the_same_image(parts: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(parts / "parts", root / "parts")
    shutil.copy(root / "parts/nut/train/good/000.png", root / "parts/nut/test/good/001.png")
    dataset = load_dataset("parts", root)
    split = find_split("parts_full_noisy25_selfexcluded", lambda _: dataset)
    order = training_order(split)
    found = dict(self_matches(split, order, split_digests(split, dataset)))
    assert found.pop("nut/test/good/001.png") == (order.index("nut/train/good/000.png"),)
    assert {path: [order[place] for place in places] for path, places in found.items()} == {
        path: [path] for images in split.train.values() for path in images.contaminant
    }


def test_predictions_from_elsewhere_are_of_other_splits(parts: Path, tmp_path: Path) -> None:
    dataset = load_dataset("parts", parts)
    split = find_split(OWN, lambda _: dataset)
    with pytest.raises(SpecError, match="overlap or the disjoint split"):
        evaluate(Submission("Their net"), tmp_path / "none", split, dataset, Harness(tmp_path / "results"))


def test_the_privilege_of_predictions_from_elsewhere() -> None:
    info = Submission("A", told=("trained_test_images",)).info(has_maps=True)
    assert info.recognises_training_images


def test_calibration_images_take_part(parts: Path, tmp_path: Path) -> None:
    outcome = run_by_name("patchcore", OWN, parts, Harness(tmp_path / "results"), "offline", calibrate=25)
    record = read_record(outcome.folder)
    assert record.spec.split == f"{OWN}_heldout25"
    assert set(record.notes["calibration"]["scores"]) == {"bolt", "nut"}
    assert record == replace(outcome.record)
