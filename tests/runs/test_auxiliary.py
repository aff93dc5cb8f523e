"""A method that trains on another dataset's annotated images: what it is lent, what is refused, what a record keeps."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from ltbench.contract.registry import method_class
from ltbench.core import Prediction
from ltbench.errors import DataError, LtbenchError, NotApplicableError, SpecError
from ltbench.executors.cells import Settings
from ltbench.method import ImageSet, MethodInfo, Runtime
from ltbench.records.record import RunRecord
from ltbench.runs import planning
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name
from ltbench.sweeps import plan as sweep_plan
from ltbench.sweeps.grid import Request
from ltbench.sweeps.plan import make_plan
from ltbench.tables.measurements import PRIVILEGES


@dataclass
class Taught:
    """Scores by the mean colour of defects elsewhere.

    Args:
        auxiliary: the annotated dataset.
    """

    info: ClassVar[MethodInfo] = MethodInfo("mean_image", "Taught", uses_annotated_data=True)
    seen: ClassVar[list[tuple[str, int, int, int]]] = []

    auxiliary: str = ""
    colour_: Any = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        images = runtime.annotated
        masks = [images.mask(index) for index in range(len(images))]
        assert [bool(mask.any()) for mask in masks] == list(images.labels)
        assert len(set(images.annotation_keys)) > 1
        self.seen.append((images.dataset, len(images), sum(images.labels), int(sum(mask.sum() for mask in masks))))
        self.colour_ = np.mean(
            [image[mask].mean(axis=0) for image, mask in zip(images, masks, strict=True) if mask.any()]
        )
        return self

    def predict(self, images: ImageSet) -> Prediction:
        maps = np.stack([-np.abs(image.mean(axis=-1) - self.colour_) for image in images]).astype(np.float32)
        return Prediction(maps.max(axis=(1, 2)), maps)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


@pytest.fixture
def root(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with `parts`, `twin` (the bolts of parts) and `others` (the same pixels in other files)."""
    data = tmp_path / "data"
    shutil.copytree(parts / "parts", data / "parts")
    for name in ("twin", "others"):
        shutil.copytree(parts / "parts" / "bolt", data / name / "bolt")
        shutil.copytree(parts / "parts" / "bolt", data / name / "clamp")
    for file in (data / "others").rglob("*.png"):
        with file.open("ab") as content:
            content.write(b"\0")  # behind the image's end
    for module in (planning, sweep_plan):
        if hasattr(module, "method_class"):
            monkeypatch.setattr(module, "method_class", _methods)
    Taught.seen.clear()
    return data


def _methods(name: str) -> type[Any]:
    return Taught if name == "mean_image" else method_class(name)


def run(root: Path, results: Path, auxiliary: str) -> RunRecord:
    values = {"auxiliary": auxiliary} if auxiliary else {}
    return run_by_name("mean_image", "parts_full", root, Harness(results), parameters=values).record


def test_annotated_images_are_lent_and_noted(root: Path, tmp_path: Path) -> None:
    record = run(root, tmp_path / "results", "others")
    ((dataset, images, defective, pixels),) = Taught.seen
    assert (dataset, images, defective) == ("others", 16, 8)
    assert pixels > 0
    note = record.notes["auxiliary"]
    assert (note["dataset"], note["images"], note["defective"], len(note["sha256"])) == ("others", 16, 8, 64)
    assert record.spec.parameters["auxiliary"] == "others"
    assert record.method.uses_annotated_data
    assert "uses_annotated_data" in PRIVILEGES


def test_a_changed_annotation_is_told(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "results", "others")
    with (root / "others" / "bolt" / "ground_truth" / "spot" / "000_mask.png").open("ab") as content:
        content.write(b"\0")
    with pytest.raises(SpecError, match="1 annotated images and masks of others changed"):
        run(root, tmp_path / "results", "others")
    (cell,) = make_plan(
        [Request("mean_image", "parts_full", None, {"auxiliary": "others"}, None, 0)],
        Settings(tmp_path / "results", root),
    ).cells
    assert (cell.state, "annotated images" in cell.reason) == ("stale", True)


@pytest.mark.parametrize(
    ("auxiliary", "error", "message"),
    [
        ("parts", NotApplicableError, "trains on the annotated test images of parts here"),
        ("twin", NotApplicableError, "twin has images of parts"),
        ("", SpecError, "Expected an annotated dataset for Taught, got none"),
        ("nowhere", DataError, "nowhere"),
    ],
)
def test_what_is_refused_before_it_starts(
    root: Path, tmp_path: Path, auxiliary: str, error: type[LtbenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(root, tmp_path / "results", auxiliary)
    assert not Taught.seen


def test_a_dataset_without_masks_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "others" / "clamp" / "ground_truth")
    with pytest.raises(DataError, match="Expected masks of all defects in others"):
        run(root, tmp_path / "results", "others")
