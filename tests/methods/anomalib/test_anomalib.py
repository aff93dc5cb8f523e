"""What the adapter does between a run and anomalib, with a stand-in; with anomalib itself where it is installed."""

from __future__ import annotations

import logging
import random
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.models.vision_transformer
import torch

from ltbench.contract.checks import CHECKS, check_every_hyper_parameter_matters, run_check
from ltbench.contract.registry import method_class, presets
from ltbench.contract.subject import Subject
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import DataError, LtbenchError, SpecError, UnknownNameError
from ltbench.method import ImageCounts, NoProgress, Runtime
from tests.methods.anomalib import standin

IS_INSTALLED = find_spec("anomalib") is not None
VIT: Any = timm.models.vision_transformer


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The method's class over the stand-ins; the modules that import anomalib are imported anew."""
    if IS_INSTALLED:
        pytest.skip("the stand-in is for environments without anomalib")
    standin.install(monkeypatch)
    standin.ENGINES.clear()
    cls: Any = method_class("anomalib")
    for name in ("engine", "models"):
        module = f"{cls.__module__.rpartition('.')[0]}.{name}"
        monkeypatch.delitem(__import__("sys").modules, module, raising=False)
    monkeypatch.setattr("methods.anomalib.method.version", lambda name: "2.7.0")
    monkeypatch.setattr("methods.anomalib.method.find_spec", lambda name: name)
    return cls


@pytest.fixture
def images() -> ArrayImages:
    return Subject(method_class("anomalib")).images(6, seed=0)


def trained(
    method: Any, images: ArrayImages, name: str = "Stfpm", runtime: Runtime | None = None, **values: Any
) -> Any:
    return method(model=name, **{"epochs": 2, "batch_size": 4} | values).fit(images, runtime or Runtime())


def generators() -> tuple[Any, ...]:
    """The states of the generators of Python, numpy and torch."""
    of_numpy: Any = np.random.get_state()
    return random.getstate(), of_numpy[1].tolist(), torch.get_rng_state().tolist()


def test_the_contract_is_kept_over_the_stand_in(method: Any) -> None:
    """All but what each hyper-parameter does, which only anomalib's own models can show."""
    subject = Subject(method, presets(method))
    checks = [check for check in CHECKS if check is not check_every_hyper_parameter_matters]
    assert [result for check in checks if not (result := run_check(check, subject)).passed] == []


@pytest.mark.skipif(IS_INSTALLED, reason="anomalib is installed")
def test_without_anomalib_the_remedy_is_told_before_anything_is_computed(images: ArrayImages) -> None:
    method = method_class("anomalib")()
    remedy = r"Expected the package anomalib, got none\. Run pip install 'ltbench\[anomalib\]'"
    for refused in (method.check_inputs, lambda: method.fit(images, Runtime())):  # type: ignore[attr-defined]
        with pytest.raises(DataError, match=remedy):
            refused()


@pytest.mark.parametrize(
    ("name", "values", "error", "message"),
    [
        ("Stfmp", {}, UnknownNameError, "anomalib image model.*Did you mean 'Stfpm'"),
        ("CFM", {}, UnknownNameError, "anomalib image model"),
        ("Stfpm", {"model_args": {"backbon": "resnet18"}}, UnknownNameError, "constructor argument.*'backbone'"),
        ("Stfpm", {"model_args": {"evaluator": True}}, UnknownNameError, "constructor argument"),
        ("Patchcore", {"model_args": {"layers": ["layer9"]}, "epochs": 0}, SpecError, "Patchcore .*KeyError"),
        ("Patchcore", {"weights": "random"}, SpecError, "epochs=1, which Patchcore prescribes, got 2"),
        ("Stfpm", {"weights": "random"}, SpecError, "backbone of timm in Stfpm, got none"),
        ("Stfpm", {"epochs": 0}, SpecError, "an end of the training of Stfpm"),
        ("ZeroShot", {}, SpecError, "a model that is trained, got ZeroShot"),
    ],
)
def test_what_cannot_be_run_is_refused(
    name: str, values: dict[str, Any], error: type[LtbenchError], message: str, method: Any, images: ArrayImages
) -> None:
    with pytest.raises(error, match=message):
        trained(method, images, name, **values)


@pytest.mark.parametrize("name", ["WinClip", "VlmAd", "AnomalyVFM"])
def test_what_is_known_not_to_be_trained_is_refused_when_a_run_is_planned(name: str, method: Any) -> None:
    with pytest.raises(SpecError, match=f"a model that is trained, got {name}"):
        method(model=name).check_inputs()


def test_a_model_that_takes_the_first_gpu_refuses_another(method: Any, images: ArrayImages) -> None:
    with pytest.raises(SpecError, match="CUDA_VISIBLE_DEVICES"):
        trained(method, images, "Patchcore", Runtime(device="cuda:1"), epochs=0, weights="random")


def test_epochs_steps_and_batches_are_those_asked_for(method: Any, images: ArrayImages) -> None:
    trained(method, images)
    trained(method, images, epochs=0, steps=3)
    assert [(engine.epochs, engine.steps) for engine in standin.ENGINES] == [(2, 4), (2, 3)]


def test_validation_images_are_not_trained_on(
    method: Any, images: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    step = standin.Stfpm.training_step

    def counted(model: Any, batch: Any) -> Any:
        seen.append(len(batch.image))
        return step(model, batch)

    monkeypatch.setattr(standin.Stfpm, "training_step", counted)
    trained(method, images, epochs=1)
    assert (sum(seen), standin.ENGINES[-1].validated) == (6, 0)
    seen.clear()
    trained(method, images, epochs=1, validation=0.3)
    assert (sum(seen), standin.ENGINES[-1].validated) == (4, 2), "0.3 of 6, rounded up"


def test_one_image_cannot_be_shared_out(method: Any, images: ArrayImages) -> None:
    with pytest.raises(SpecError, match="Set validation=0"):
        trained(method, ArrayImages(images.images[:1]), validation=0.5)


def test_nothing_is_left_of_it_on_disk_and_in_the_process(
    method: Any, images: ArrayImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    create, positions, level = timm.create_model, VIT.resample_abs_pos_embed, logging.getLogger("anomalib").level
    filters, states = list(warnings.filters), generators()
    trained(method, images, "Positions").predict(images)
    assert timm.create_model is create
    assert VIT.resample_abs_pos_embed is positions
    assert (list(warnings.filters), logging.getLogger("anomalib").level) == (filters, level)
    assert generators() == states
    assert list(tmp_path.iterdir()) == []


def test_a_model_predicts_with_the_positions_that_it_was_built_with(
    method: Any, images: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = VIT.resample_abs_pos_embed
    found: list[bool] = []
    predict = standin.Stfpm.predict_step

    def noted(model: Any, batch: Any) -> Any:
        found.append(VIT.resample_abs_pos_embed is usual)
        return predict(model, batch)

    monkeypatch.setattr(standin.Stfpm, "predict_step", noted)
    for name in ("Positions", "Stfpm"):
        trained(method, images, name).predict(ArrayImages(images.images[:1]))
    assert found == [False, True]


def test_images_are_seen_whole_where_the_model_would_crop_them(method: Any, images: ArrayImages) -> None:
    model = trained(method, images, "Padim", epochs=0, weights="random").network_
    assert [type(step).__name__ for step in model.pre_processor.transform.transforms] == ["Resize", "Normalize"]


def test_maps_have_the_size_of_the_images_that_are_scored(method: Any, images: ArrayImages) -> None:
    wide = ArrayImages(np.zeros((2, 48, 80, 3), np.uint8))
    assert trained(method, images).predict(wide).maps.shape == (2, 48, 80)


def test_no_image_gives_no_score(method: Any, images: ArrayImages) -> None:
    none = trained(method, images).predict(ArrayImages(images.images[:0]))
    assert (none.scores.shape, none.maps.shape) == ((0,), (0, 64, 64))


def test_models_that_give_scores_alone_declare_it(method: Any, images: ArrayImages) -> None:
    model = trained(method, images, "Ganomaly")
    assert not model.run_info.has_maps
    assert not model.predict(images).has_maps
    assert not method(model="Dfm", model_args={"score_type": "nll"}).run_info.has_maps
    assert method(model="Dfm").run_info.has_maps


def test_a_model_that_keeps_more_than_its_state_is_not_saved(method: Any, images: ArrayImages, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="predict the same when restored"):
        trained(method, images, "Forgetful").save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_another_version_is_refused(method: Any, images: ArrayImages, tmp_path: Path) -> None:
    fitted = trained(method, images)
    fitted.network_.register_buffer("dropped_later", torch.zeros(1))
    monkeyed = type(fitted)._prove
    type(fitted)._prove = lambda self, state: None
    try:
        fitted.save(tmp_path)
    finally:
        type(fitted)._prove = monkeyed
    with pytest.raises(DataError, match="Install the version that it was saved with"):
        method.load(tmp_path)


def test_the_estimate_of_memory_says_that_the_network_is_left_out() -> None:
    method: Any = method_class("anomalib")(batch_size=2)  # type: ignore[call-arg]
    phases = method.memory_estimate(ImageCounts((10, 20), (3, 4), (5, 6)), streamed=False).phases
    assert all(phase.endswith("without what Patchcore itself takes") for phase in phases)
    training, scoring = phases.values()
    assert training == (7 + 2 * 4) * 3 * 200, "seven images as bytes, two as float32"
    assert scoring > 6 * 4 * 4 * 200, "six images and maps as float32, and metrics"


def test_progress_counts_the_steps_and_the_record_names_versions(method: Any, images: ArrayImages) -> None:
    counted: list[int] = []

    class Counting(NoProgress):
        def track(self, items: Any, phase: str, total: int | None = None, done: int = 0) -> Any:
            for item in items:
                yield item
                counted.append(item)

    runtime = Runtime(progress=Counting())
    trained(method, images, runtime=runtime)
    assert counted == [0, 1, 2, 3]
    assert runtime.notes["anomalib"]["versions"]["anomalib"] == "2.7.0"
