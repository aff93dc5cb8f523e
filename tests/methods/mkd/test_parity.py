"""MKD beside the authors' code: layers, losses, scores, gradients, maps and three updates."""

from __future__ import annotations

import json
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ltbench.blocks.maps import smooth
from methods.mkd.localisation import (
    Localisation,
    anomaly_map,
    gradients,
    grey,
    magnitudes_of,
    noise_deviation,
    noisy_grey,
)
from methods.mkd.net import SCORED, Student, discrepancies
from tests.methods.parity import FOLDER
from tests.methods.reference import needs_shared

pytestmark = needs_shared

OWN = FOLDER / "mkd"
RELATIVE = 1e-4


@cache
def _tensors() -> dict[str, Tensor]:
    return load_file(OWN / "tensors.safetensors") | load_file(OWN / "extra.tensors.safetensors")


@cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((OWN / "meta.json").read_text())
    more: dict[str, Any] = json.loads((OWN / "extra.meta.json").read_text())
    return facts | more


def _network(name: str, width: int) -> Student:
    """Return the student, or the teacher, which has the same layout."""
    stored = {
        key.removeprefix(f"{name}."): tensor
        for key, tensor in load_file(OWN / "weights.safetensors").items()
        if key.startswith(name)
    }
    network = Student((8, 12, 16, 16), width)
    network.load_state_dict(stored)
    return network


@pytest.fixture
def student() -> Student:
    return _network("student", 4).eval()


@pytest.fixture
def teacher() -> Student:
    return _network("teacher", 8).eval()


def _score(student: Student, teacher: Student, value_weight: float, guided: bool, images: Tensor) -> Tensor:
    made, wanted = student(images, guided=guided), teacher(images)
    return discrepancies(made[-SCORED:], wanted[-SCORED:], value_weight)


def _near(found: Any, wanted: Tensor, tolerance: float = RELATIVE) -> None:
    difference = torch.as_tensor(found) - wanted
    assert difference.shape == wanted.shape
    assert difference.abs().max() < tolerance * wanted.abs().max()


def test_layers_of_both(student: Student, teacher: Student) -> None:
    images = _tensors()["image"]
    with torch.no_grad():
        made, wanted = student.train()(images), teacher(images)
    for number, one, other in zip((3, 6, 9, 12), made, wanted, strict=True):
        _near(one, _tensors()[f"train.student.{number}"])
        _near(other, _tensors()[f"teacher.{number}"])


def test_losses_of_training(student: Student, teacher: Student) -> None:
    images = _tensors()["image"]
    with torch.no_grad():
        made, wanted = student.train()(images), teacher(images)
    assert discrepancies(made, wanted, 0.5).mean().item() == pytest.approx(
        _facts()["training_loss(lambda 0.5)"], rel=RELATIVE
    )
    assert discrepancies(made, wanted, 0.0).mean().item() == pytest.approx(
        _facts()["direction_only_loss"], rel=RELATIVE
    )


@pytest.mark.parametrize(("name", "weight"), [("lambda_0.5", 0.5), ("lambda_0.01", 0.01), ("direction_only", 0.0)])
def test_image_scores(student: Student, teacher: Student, name: str, weight: float) -> None:
    with torch.no_grad():
        _near(_score(student, teacher, weight, False, _tensors()["image"]), _tensors()[f"image_scores.{name}"])


@pytest.mark.parametrize(
    ("name", "weight", "guided"),
    [
        ("gradient", 0.5, False),
        ("plain.gradient_lambda_0", 0.0, False),
        ("guided.gradient", 0.5, True),
        ("guided.gradient_lambda_0", 0.0, True),
    ],
)
def test_gradients(student: Student, teacher: Student, name: str, weight: float, guided: bool) -> None:
    """At lambda 0 the guided rule changes 60 % of the norm; at 0.5 the teacher's path hides it."""
    found = gradients(partial(_score, student, teacher, weight, guided), _tensors()["image"])
    _near(found, _tensors()[name])
    assert all(parameter.grad is None for parameter in (*student.parameters(), *teacher.parameters()))


def _map(student: Student, teacher: Student, image: Tensor, localisation: Localisation, draws: int = 1) -> Any:
    gradients_of = partial(gradients, partial(_score, student, teacher, 0.5, localisation == "guided"))
    if localisation == "smooth_grad":
        drawn = iter(_tensors()["smooth.noise"])

        def noise(count: int) -> Tensor:
            return torch.stack([next(drawn) for _ in range(count)])

        found = noisy_grey(gradients_of, image, noise, norm="per_image", draws=draws)
    else:
        found = grey(magnitudes_of(gradients_of(image[None]))[0].numpy(), "per_image")
    return anomaly_map(found, localisation=localisation, norm="per_image", sigma=4.0)


@pytest.mark.parametrize(("localisation", "name"), [("gradients", "map.gradients"), ("guided", "map.gbp")])
def test_maps(student: Student, teacher: Student, localisation: Localisation, name: str) -> None:
    for image, wanted in zip(_tensors()["image"], _tensors()[name], strict=True):
        _near(_map(student, teacher, image, localisation), wanted)


def test_the_map_before_smoothing() -> None:
    magnitudes = magnitudes_of(_tensors()["gradient"]).numpy()
    for own, wanted in zip(magnitudes, _tensors()["map.grey"][:, 0], strict=True):
        found = grey(own, "per_image")
        _near(found, wanted)
        assert np.array_equal(smooth(found, 0), found)


def test_smooth_grad(student: Student, teacher: Student) -> None:
    image, fact = _tensors()["image"][0], _facts()["smooth"]
    _near(_map(student, teacher, image, "smooth_grad", fact["draws"]), _tensors()["map.smooth_grad"])
    assert noise_deviation(image, 0.05) == pytest.approx(fact["standard deviation used"], rel=1e-5)


def test_updates(student: Student, teacher: Student) -> None:
    images = _tensors()["image"]
    with torch.no_grad():
        wanted = teacher(images)
    optimiser = torch.optim.Adam(student.train().parameters(), 1e-3, fused=True)
    for update, expected in enumerate(_facts()["loss before each of 4 updates (lambda 0.5, Adam 1e-3)"]):
        loss = discrepancies(student(images), wanted, 0.5).mean()
        assert loss.item() == pytest.approx(expected, rel=RELATIVE)
        if update == 3:
            _near(student.features[36].get_parameter("weight").detach(), _tensors()["after_3.last_conv"], 1e-3)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def test_the_full_student() -> None:
    fact = _facts()["full student"]
    student = Student((128, 256, 512, 512), 16)
    assert sum(parameter.numel() for parameter in student.parameters()) == fact["parameters"]["bias False"] == 343_984
    assert len(student.features) == fact["modules"]
    norms = [module for module in student.features if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == fact["batch norms"]
    collected: list[list[int]] = []
    x = torch.zeros(1, 3, 128, 128)
    for module, following in zip(student.features, [*[*student.features][1:], None], strict=True):
        x = module(x)
        if isinstance(module, torch.nn.MaxPool2d) or (
            isinstance(module, torch.nn.ReLU) and not isinstance(following, torch.nn.MaxPool2d)
        ):
            collected.append(list(x.shape))
    assert collected == fact["output shapes of the 13 collected"]
