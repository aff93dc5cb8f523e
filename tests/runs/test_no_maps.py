"""A method without maps, from the run to the report: image metrics, a reason for every pixel metric, no made-up map."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from ltbench.blocks.state import load_state, save_state
from ltbench.contract import registry
from ltbench.core import Prediction
from ltbench.datasets.index import load_dataset
from ltbench.errors import ContractError, NotApplicableError, SpecError
from ltbench.figures.examples import SavedMaps
from ltbench.method import ImageSet, Method, MethodInfo, Runtime
from ltbench.metrics.groups import NO_MAPS
from ltbench.metrics.registry import METRICS
from ltbench.records.record import MAPS, RunRecord, read_record, write_record
from ltbench.report.pictures import galleries
from ltbench.runs.examination import Examination
from ltbench.runs.harness import Harness
from ltbench.runs.planning import plan
from ltbench.runs.progress import ConsoleProgress
from ltbench.runs.runner import run, run_by_name
from ltbench.runs.verification import verify_run
from ltbench.splits.files import find_split
from methods.mean_image.method import MeanImage

Run = Callable[..., tuple[int, str, str]]
PIXEL = tuple(metric.id() for metric in METRICS if metric.level == "pixel")
IMAGE = tuple(metric.id() for metric in METRICS if metric.level == "image")


@dataclass
class Flat:
    """The distance of an image's mean colour from that of the training images."""

    info: ClassVar[MethodInfo] = MethodInfo("flat", "Flat", has_maps=False)

    mean_: Any = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        self.mean_ = np.mean([image.mean(axis=(0, 1)) for image in train], axis=0)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        scores = [np.square(image.mean(axis=(0, 1)) - self.mean_).sum() for image in images]
        return Prediction(np.array(scores, np.float32))

    def save(self, folder: Path) -> None:
        save_state(folder, self, {"mean": self.mean_})

    @classmethod
    def load(cls, folder: Path) -> Self:
        method, state = load_state(cls, folder)
        method.mean_ = state["mean"]
        return method


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    """Let the registry know the method, as a package elsewhere would."""
    with pytest.MonkeyPatch.context() as patch:
        known = registry.method_class
        patch.setattr("ltbench.runs.planning.method_class", lambda name: Flat if name == "flat" else known(name))
        patch.setattr("ltbench.runs.runner.method_class", lambda name: Flat if name == "flat" else known(name))
        yield


@pytest.fixture(scope="module")
def folder(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    harness = Harness(tmp_path_factory.mktemp("results"), save_maps=True)
    return run_by_name("flat", "parts_step4", parts, harness).folder


@pytest.fixture
def record(folder: Path) -> RunRecord:
    return read_record(folder)


def test_a_prediction_of_scores_alone_has_no_maps() -> None:
    prediction = Prediction(np.zeros(3, np.float32))
    assert not prediction.has_maps and prediction.maps.size == 0
    prediction.check(3, (64, 64), has_maps=False)
    with pytest.raises(ContractError, match="Expected 4 scores, got 3"):
        prediction.check(4, (64, 64), has_maps=False)
    with pytest.raises(ContractError, match="declare has_maps=False"):
        prediction.check(3, (64, 64))
    mapped = Prediction(np.zeros(3, np.float32), np.zeros((3, 64, 64), np.float32))
    assert mapped.has_maps
    with pytest.raises(ContractError, match="Expected no maps, as the method declares"):
        mapped.check(3, (64, 64), has_maps=False)


def test_image_metrics_are_there_and_pixel_metrics_say_why_not(record: RunRecord) -> None:
    assert set(record.metrics) == set(IMAGE)
    assert set(record.missing) == set(PIXEL)
    for reasons in record.missing.values():
        assert reasons == dict.fromkeys(("bolt", "nut", "high", "low", "avg"), NO_MAPS)
    assert not record.method.has_maps
    assert RunRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_maps_that_cannot_be_kept_are_told_and_change_nothing(
    parts: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not (folder / MAPS).exists()
    progress = ConsoleProgress()
    outcome = run_by_name("flat", "parts_step4", parts, Harness(folder.parents[1], save_maps=True, progress=progress))
    assert outcome.reused, "the finished run serves, though it has no maps"
    assert "Flat gives no maps: there are none to keep" in " ".join(capsys.readouterr().err.split())


def test_a_method_that_says_otherwise_than_it_does_is_refused(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = find_split("parts_step4", lambda name: load_dataset(name, parts))
    dataset = load_dataset("parts", parts)
    protocol = plan("flat", split).spec.protocol
    examination = Examination(split, dataset, protocol, categories_visible=False, progress=ConsoleProgress(quiet=True))
    mapped = MeanImage()
    mapped.mean_ = np.zeros((256, 256, 3), np.float32)
    monkeypatch.setattr(MeanImage, "info", replace(MeanImage.info, has_maps=False))
    with pytest.raises(ContractError, match="mean_image, predicting bolt: Expected no maps"):
        examination.findings(mapped, ConsoleProgress(quiet=True).timed)


def test_a_protocol_that_scores_by_maps_does_not_apply(parts: Path, tmp_path: Path) -> None:
    split = find_split("parts_step4", lambda name: load_dataset(name, parts))
    planned = plan("flat", split, protocol="rlr")
    with pytest.raises(NotApplicableError, match="Flat gives no maps, and protocol rlr takes an image's score"):
        run(planned, split, load_dataset("parts", parts), Harness(tmp_path))


def test_it_is_verified_without_maps_and_made_up_ones_are_found(folder: Path, parts: Path, tmp_path: Path) -> None:
    def verified(results: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        found = verify_run(results, folder.name, lambda name: load_dataset(name, parts))
        return found.checked, found.faults, found.unchecked

    no_maps = "no pixel metrics, as the method gives no maps"
    assert verified(folder.parents[1]) == (("record", "image metrics", no_maps), (), ())
    copied = Path(shutil.copytree(folder, tmp_path / "runs" / folder.name))
    record = read_record(copied)
    (copied / MAPS).mkdir()
    write_record(copied, replace(record, metrics={**record.metrics, "pixel_auroc": {"avg": 0.5}}))
    _, faults, _ = verified(tmp_path)
    assert faults == (
        "pixel_auroc: values in the record, and Flat gives no maps",
        "maps beside the record, and Flat gives none",
    )


def test_heat_maps_of_it_are_refused_and_the_report_leaves_it_out(
    folder: Path, record: RunRecord, parts: Path, ltbench: Run
) -> None:
    with pytest.raises(SpecError, match=r"Flat gives no maps\. Leave it out"):
        SavedMaps(folder)
    results = folder.parents[1]
    code, _, err = ltbench("heatmaps", "--run", folder, "--out", "m.png", "--results", results, "--data-root", parts)
    assert code == 2 and "Flat gives no maps" in " ".join(err.split())
    assert galleries([record], results, parts) == ([], [])


def test_tables_and_the_report_say_why_there_is_no_pixel_value(folder: Path, parts: Path, ltbench: Run) -> None:
    results = folder.parents[1]
    code, out, err = ltbench("table", "--results", results, "--format", "markdown")
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("| Flat")]
    assert line.count("–") == 1, "the image value is there, the pixel value is not"
    assert f"No value ({NO_MAPS}): Flat" in out
    code, _, err = ltbench("report", "--results", results, "--data-root", parts, "--out", "page")
    assert code == 0, err
    assert NO_MAPS in Path("page/index.html").read_text()


def test_methods_say_what_they_score(ltbench: Run) -> None:
    code, out, _ = ltbench("methods", "show", "mean_image")
    assert code == 0 and "scores pixels (anomaly maps) and images" in out
    code, out, _ = ltbench("methods", "--json")
    assert json.loads(out)["mean_image"]["has_maps"] is True


_METHOD: type[Method] = Flat
