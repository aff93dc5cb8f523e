"""Runs: deterministic, found again, never half-written, and clear about what is wrong."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

from ltbench.contract import registry
from ltbench.core import Dataset, Prediction, RunSpec, Split, TrainImages
from ltbench.datasets.index import load_dataset
from ltbench.errors import BusyError, ContractError, DataError, NotApplicableError, SpecError, UnknownNameError
from ltbench.method import ImageSet, Method, MethodInfo, Runtime
from ltbench.protocols import protocol_named
from ltbench.records.failures import read_failure
from ltbench.records.record import RECORD, read_record
from ltbench.runs import claims
from ltbench.runs.claims import try_claim
from ltbench.runs.examination import shuffled
from ltbench.runs.harness import Harness
from ltbench.runs.planning import Plan, plan
from ltbench.runs.progress import ConsoleProgress
from ltbench.runs.runner import run, run_by_name
from ltbench.splits.checking import check_split
from ltbench.splits.files import find_split
from methods.mean_image.method import MeanImage

NAME = "parts_step2_noisy25"


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path / "results")


@pytest.fixture
def dataset(parts: Path) -> Dataset:
    return load_dataset("parts", parts)


@pytest.fixture
def split(dataset: Dataset) -> Split:
    return find_split(NAME, lambda _: dataset)


def test_a_run_leaves_a_whole_record(parts: Path, harness: Harness) -> None:
    outcome = run_by_name("mean_image", NAME, parts, harness)
    record = read_record(outcome.folder)
    assert record == outcome.record
    assert not outcome.reused
    assert outcome.folder == harness.results / "runs" / record.spec.hash
    assert record.counts == {
        "bolt": {"normal": 8, "contaminant": 2},
        "nut": {"normal": 4, "contaminant": 0},
    }
    assert set(record.metrics["image_auroc"]) == {"bolt", "nut", "high", "low", "avg"}
    assert set(record.metrics["pixel_auroc"]) == {"bolt", "high", "avg"}
    assert "masks" in record.missing["pixel_auroc"]["nut"]
    assert all(0 <= value <= 1 for groups in record.metrics.values() for value in groups.values())
    assert {len(scores) for scores in record.scores.values()} == {8}
    assert set(record.seconds) >= {"fit", "predict", "evaluate"}
    assert set(record.peak_memory_mib) == {"fit", "predict", "evaluate"}
    assert record.environment["numpy"] == np.__version__


def test_a_finished_run_is_found(parts: Path, harness: Harness) -> None:
    first = run_by_name("mean_image", NAME, parts, harness)
    again = run_by_name("mean_image", NAME, parts, harness)
    assert again.reused
    assert again.record == first.record
    forced = run_by_name("mean_image", NAME, parts, replace(harness, force=True))
    assert not forced.reused
    assert forced.record.metrics == first.record.metrics
    assert forced.record.scores == first.record.scores


def test_the_same_spec_gives_the_same_numbers_elsewhere(parts: Path, harness: Harness, tmp_path: Path) -> None:
    first = run_by_name("mean_image", NAME, parts, harness)
    second = run_by_name("mean_image", NAME, parts, Harness(tmp_path / "elsewhere"))
    assert second.record.scores == first.record.scores
    assert second.record.spec == first.record.spec


def test_maps_are_kept_on_demand(parts: Path, harness: Harness) -> None:
    without = run_by_name("mean_image", NAME, parts, harness)
    assert [path.name for path in without.folder.iterdir()] == [RECORD]
    kept = run_by_name("mean_image", NAME, parts, replace(harness, save_maps=True))
    assert not kept.reused, "a record without maps does not serve --save-maps"
    maps = load_file(kept.folder / "maps" / "bolt.safetensors")["maps"]
    assert maps.shape == (8, 256, 256)
    assert maps.dtype == np.float32
    scores = [entry["score"] for entry in kept.record.scores["bolt"]]
    assert np.allclose(maps.max(axis=(1, 2)), scores)
    assert run_by_name("mean_image", NAME, parts, replace(harness, save_maps=True)).reused


@dataclass
class _Spoiled(MeanImage):
    """Returns what a test puts here."""

    spoil: Any = None

    def predict(self, images: ImageSet) -> Prediction:
        prediction: Prediction = self.spoil(super().predict(images))
        return prediction


def _spoiled_plan(split: Split, spoil: Callable[[Prediction], Prediction]) -> Plan:
    planned = plan("mean_image", split)
    return Plan(planned.spec, "defaults", _Spoiled, {**planned.values, "spoil": spoil})


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda p: Prediction(p.scores * np.float32(np.nan), p.maps), "finite scores"),
        (lambda p: Prediction(p.scores, p.maps[:, :10]), r"shape \(8, 256, 256\)"),
        (lambda p: Prediction(p.scores.astype(np.float64), p.maps), "float32 scores"),
        (lambda p: Prediction(p.scores[:-1], p.maps[:-1]), r"shape \(8, 256, 256\)"),
    ],
)
def test_a_method_that_breaks_the_contract_is_named(
    split: Split, dataset: Dataset, harness: Harness, spoil: Callable[[Prediction], Prediction], what: str
) -> None:
    with pytest.raises(ContractError, match=rf"mean_image, predicting bolt: .*{what}"):
        run(_spoiled_plan(split, spoil), split, dataset, harness)
    assert list((harness.results / "runs").iterdir()) == [], "no record, nothing half-written"


def test_an_interrupted_run_starts_clean(split: Split, dataset: Dataset, harness: Harness) -> None:
    def interrupt(prediction: Prediction) -> Prediction:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(_spoiled_plan(split, interrupt), split, dataset, harness)
    assert list((harness.results / "runs").iterdir()) == []
    assert not run(plan("mean_image", split), split, dataset, harness).reused


@pytest.mark.parametrize("text", ["", "{", "{}", None])
def test_a_damaged_record_is_told_and_the_run_repeated(parts: Path, tmp_path: Path, text: str | None) -> None:
    console = Console(file=io.StringIO(), width=1000)
    harness = Harness(tmp_path / "results", progress=ConsoleProgress(console))
    first = run_by_name("mean_image", NAME, parts, harness)
    if text is None:
        (first.folder / RECORD).unlink()
    else:
        (first.folder / RECORD).write_text(text)
    again = run_by_name("mean_image", NAME, parts, harness)
    assert not again.reused
    assert read_record(again.folder).scores == first.record.scores
    said = str(console.file.getvalue())  # type: ignore[attr-defined]
    assert (str(first.folder / RECORD) in said) == (text is not None)


def test_a_failed_run_leaves_its_traceback_until_it_succeeds(split: Split, dataset: Dataset, harness: Harness) -> None:
    def fail(prediction: Prediction) -> Prediction:
        raise ZeroDivisionError("at the third patch")

    planned = plan("mean_image", split)
    with pytest.raises(ZeroDivisionError):
        run(_spoiled_plan(split, fail), split, dataset, harness)
    failure = read_failure(harness.results, planned.spec.hash)
    assert failure is not None
    assert failure.reason == "ZeroDivisionError: at the third patch"
    assert "in fail" in failure.traceback
    assert failure.spec == planned.spec.payload()
    assert not run(planned, split, dataset, harness).reused
    assert read_failure(harness.results, planned.spec.hash) is None


def test_a_run_that_another_process_does_is_waited_for_or_left(
    split: Split, dataset: Dataset, harness: Harness
) -> None:
    planned = plan("mean_image", split)
    other = try_claim(harness.results, planned.spec.hash)
    assert other is not None
    with pytest.raises(BusyError, match="process"):
        run(planned, split, dataset, replace(harness, wait=False))
    Timer(0.2, other.release).start()
    assert not run(planned, split, dataset, harness).reused


def test_a_run_that_was_taken_over_leaves_no_record(split: Split, dataset: Dataset, harness: Harness) -> None:
    planned = plan("mean_image", split)

    def taken_over(prediction: Prediction) -> Prediction:
        (harness.results / claims.FOLDER / f"{planned.spec.hash}.2.json").touch()
        return prediction

    with pytest.raises(BusyError, match="took it over"):
        run(_spoiled_plan(split, taken_over), split, dataset, harness)
    assert list((harness.results / "runs").iterdir()) == []
    assert read_failure(harness.results, planned.spec.hash) is None


def test_a_method_says_how_many_images_it_needs(split: Split, dataset: Dataset, harness: Harness) -> None:
    @dataclass
    class Needy(MeanImage):
        """Needs five images a category, of which `nut` has four."""

        info: ClassVar[MethodInfo] = MethodInfo("mean_image", "Needy", min_images=5)

    planned = plan("mean_image", split)
    with pytest.raises(NotApplicableError, match=r"Needy needs at least 5 training images .* has 4 of nut"):
        run(Plan(planned.spec, "defaults", Needy, planned.values), split, dataset, harness)
    assert not harness.results.exists()


def test_images_that_are_not_there_are_named(split: Split, dataset: Dataset) -> None:
    missing = dataset.train[0].path
    smaller = replace(dataset, train=dataset.train[1:])
    with pytest.raises(DataError, match=missing):
        check_split(split, smaller)


def test_a_split_that_calls_a_defect_good_is_refused(split: Split, dataset: Dataset) -> None:
    defect = next(sample.path for sample in dataset.test if sample.is_anomalous)
    wrong = replace(split, train={**split.train, "bolt": TrainImages((defect,))})
    with pytest.raises(DataError, match=defect):
        check_split(wrong, dataset)


def test_neither_labels_nor_categories_can_be_read_off_the_order(split: Split) -> None:
    paths = [path for images in split.train.values() for path in (*images.normal, *images.contaminant)]
    order = shuffled(paths)
    assert sorted(order) == sorted(paths)
    assert order == shuffled(reversed(paths))
    categories = [path.split("/")[0] for path in order]
    assert sum(a != b for a, b in itertools.pairwise(categories)) > 2


def test_a_method_sees_categories_only_if_it_says_so(split: Split, dataset: Dataset, harness: Harness) -> None:
    @dataclass
    class Peeks(MeanImage):
        """Looks at categories."""

        def fit(self, train: ImageSet, runtime: Runtime) -> Self:
            assert train.categories
            return super().fit(train, runtime)

    planned = plan("mean_image", split)
    with pytest.raises(ContractError, match="uses_categories"):
        run(Plan(planned.spec, "defaults", Peeks, planned.values), split, dataset, harness)


def test_wrong_names_are_refused_before_anything_is_read(parts: Path, harness: Harness) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mean_image'"):
        run_by_name("mean_img", NAME, parts, harness)
    with pytest.raises(UnknownNameError, match="Did you mean 'offline'"):
        run_by_name("mean_image", NAME, parts, harness, preset="ofline")
    with pytest.raises(UnknownNameError, match="Did you mean 'smoothing_sigma'"):
        run_by_name("mean_image", NAME, parts, harness, parameters={"smooth_sigma": 1})
    with pytest.raises(SpecError, match="'smoothing_sigma'"):
        run_by_name("mean_image", NAME, parts, harness, parameters={"smoothing_sigma": "wide"})
    with pytest.raises(UnknownNameError, match="protocol"):
        run_by_name("mean_image", NAME, parts, harness, protocol="commn")
    assert not (harness.results / "runs").exists()


def test_the_preset_brings_its_protocol(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan("mean_image", split).spec.protocol.name == "common"
    shapes = replace(split, dataset="shapes")
    assert plan("mean_image", shapes, preset="offline").spec.protocol.name == "tailedcore"
    assert plan("mean_image", split, preset="offline", protocol="ltad").spec.protocol.name == "ltad"
    paper = {
        "paper": registry.Preset("paper", parameters={"smoothing_sigma": 2.0}, protocol="rlr", splits=("parts_*",))
    }
    monkeypatch.setattr(registry, "presets", lambda method: paper)
    chosen = plan("mean_image", replace(shapes, name="parts_full"))
    assert (chosen.preset, chosen.spec.protocol.name, chosen.values) == ("paper", "rlr", {"smoothing_sigma": 2.0})


def test_options_make_a_harness(tmp_path: Path) -> None:
    made = Harness.of(tmp_path, "cpu", "0", force=True, save_maps=False, quiet=True)
    assert made.feature_store is None
    assert Harness.of(tmp_path, "auto", "1GB", force=False, save_maps=True, quiet=True).feature_store is not None
    for device in ("tpu", "cuda:99", "cuda:x"):
        with pytest.raises(SpecError, match="--device"):
            Harness.of(tmp_path, device, "0", force=False, save_maps=False, quiet=True)
    with pytest.raises(SpecError, match="20GB"):
        Harness.of(tmp_path, "cpu", "much", force=False, save_maps=False, quiet=True)


def test_a_results_folder_that_cannot_be_written_to_is_told(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError.__base__ or Exception, match="--results"):
        run_by_name("mean_image", NAME, parts, Harness(tmp_path / "file"))


def test_a_record_is_json_without_nan(parts: Path, harness: Harness) -> None:
    outcome = run_by_name("mean_image", NAME, parts, harness)
    text = (outcome.folder / RECORD).read_text()
    assert "NaN" not in text
    assert json.loads(text)["run"] == outcome.folder.name


def test_the_method_type_is_checked() -> None:
    method: type[Method] = MeanImage
    assert isinstance(RunSpec("m", {}, "s", "0", protocol_named("common")).hash, str)
    assert method.info.name == "mean_image"
