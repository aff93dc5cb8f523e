"""MKD's invariants: student and teacher, scores, maps, settings, resuming and independence of threads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.blocks import device, switches
from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.learner import Shard
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import Runtime
from methods.mkd.localisation import gradients, grey, magnitudes_of, noise_deviation, stretched
from methods.mkd.method import MKD
from methods.mkd.net import GuidedReLU, Student, discrepancies
from tests.methods.trained import noise_images, predicted

CHECK: dict[str, Any] = resolve(MKD, presets(MKD)["check"].parameters) | {"weights": "random"}


def _predict(threads: int, **values: Any) -> Prediction:
    return predicted(MKD, CHECK | values, threads)


def test_parameters_of_the_paper() -> None:
    assert MKD().trainable_parameters((256, 256)) == 343_984


def test_layers_of_the_paper() -> None:
    """The teacher's four pools at 128 pixels, and the student's beside them."""
    method = MKD(weights="random")
    method._lend(Runtime())
    assert method._backbone.parameter_count == 14_714_688
    with torch.inference_mode():
        teacher = method._teacher(torch.rand(1, 3, 128, 128))
        student = method._student().eval()(torch.rand(1, 3, 128, 128))
    wanted = [(1, 128, 32, 32), (1, 256, 16, 16), (1, 512, 8, 8), (1, 512, 4, 4)]
    assert [tuple(layer.shape) for layer in teacher] == [tuple(layer.shape) for layer in student] == wanted
    assert all(layer.min() >= 0 for layer in (*teacher, *student))


def test_layers_of_the_packaged_teacher() -> None:
    method = MKD(**(CHECK | {"side": 128}))
    method._lend(Runtime())
    with torch.inference_mode():
        layers = method._teacher(torch.rand(1, 3, 128, 128))
    assert [tuple(layer.shape[1:]) for layer in layers] == [(24, 32, 32), (40, 16, 16), (112, 8, 8), (320, 4, 4)]
    assert all(layer.min() == 0 for layer in layers), "negative values are taken as 0"


def test_initial_weights() -> None:
    student = Student((128, 256, 512, 512), 16)
    student.draw_weights(0)
    weight = student.features[36].get_parameter("weight")
    bound = (6 / (9 * (16 + 512))) ** 0.5
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_a_student_that_is_the_teacher_has_nothing_to_learn() -> None:
    network = Student((8, 12, 16, 16), 4).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        layers = network(images)
    assert discrepancies(layers, layers, 0.5).abs().max() < 1e-5

    def score(seen: torch.Tensor) -> torch.Tensor:
        return discrepancies(network(seen)[-3:], network(seen)[-3:], 0.5)

    found = gradients(score, images)
    assert found.abs().max() < 1e-5
    for norm in ("per_image", "none"):
        assert np.isfinite(grey(magnitudes_of(found * 0)[0].numpy(), norm)).all()


def test_the_direction_ignores_the_scale_and_the_value_does_not() -> None:
    one, other = ([torch.rand(2, 5, 4, 4)] for _ in range(2))
    direction = discrepancies(one, other, 0.0)
    assert (direction >= 0).all() and (direction <= 1).all()
    doubled = [2 * layer for layer in one]
    assert torch.allclose(discrepancies(doubled, other, 0.0), direction, atol=1e-6)
    wanted = direction + 0.3 * (doubled[0] - other[0]).square().mean(dim=(1, 2, 3))
    assert torch.allclose(discrepancies(doubled, other, 0.3), wanted, atol=1e-6)


def test_the_guided_rule() -> None:
    x = torch.tensor([-1.0, -1.0, 2.0, 2.0], requires_grad=True)
    upstream = torch.tensor([3.0, -3.0, 3.0, -3.0])
    made = GuidedReLU.apply(x)
    (found,) = torch.autograd.grad(made, x, upstream)
    assert made.tolist() == [0, 0, 2, 2]
    assert found.tolist() == [0, 0, 3, 0]
    positive = upstream.abs()
    (guided,) = torch.autograd.grad(GuidedReLU.apply(x), x, positive)
    (plain,) = torch.autograd.grad(x.relu(), x, positive)
    assert torch.equal(guided, plain)


def test_grey_maps() -> None:
    gradient = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    magnitudes = magnitudes_of(gradient)[0].numpy()
    assert magnitudes[4, 5] == pytest.approx(gradient[0, :, 4, 5].abs().sum().item())
    found = grey(magnitudes, "per_image")
    assert found.min() == 0 and found.max() == 1
    assert (found == 1).mean() == pytest.approx(0.01, abs=0.002)
    assert np.allclose(grey(magnitudes * 7, "per_image"), found, atol=1e-5), "whatever the score's scale"
    assert np.allclose(grey(magnitudes * 7, "none"), 7 * magnitudes, rtol=1e-5)
    assert not grey(np.zeros((8, 8), np.float32), "per_image").any()
    assert not stretched(np.full((4, 4), 3.0, np.float32)).any()
    assert stretched(np.array([[1.0, 3.0]], np.float32)).tolist() == [[0, 1]]


def test_noise_shrinks_with_the_square_of_the_range() -> None:
    assert noise_deviation(torch.tensor([0.0, 1.0]), 0.05) == pytest.approx(0.0025)
    assert noise_deviation(torch.tensor([0.0, 0.5]), 0.05) == pytest.approx(0.01)
    assert noise_deviation(torch.ones(4), 0.05) == 0


def test_scores_take_the_last_three_layers_and_training_takes_four(monkeypatch: pytest.MonkeyPatch) -> None:
    method = MKD(**CHECK).fit(noise_images(5, 0), Runtime())
    image = noise_images(1, 1)
    images, layers = method._taught(noise_images(4, 0), Runtime())
    shard = Shard(np.arange(4), Draws(0), Draws(0))
    loss = method._loss(images, layers, shard).item()
    changed = [layers[0] + 1, *layers[1:]]
    assert method._loss(images, changed, shard).item() != pytest.approx(loss)
    usual, before = method._teacher, method.predict(image).scores  # a loss moves the running statistics
    monkeypatch.setattr(method, "_teacher", lambda seen: [usual(seen)[0] + 1, *usual(seen)[1:]])
    assert method.predict(image).scores == before
    monkeypatch.setattr(method, "_teacher", lambda seen: [usual(seen)[0], usual(seen)[1] + 1, *usual(seen)[2:]])
    assert method.predict(image).scores != before


def test_the_teacher_is_left_as_it_was_and_scoring_leaves_the_student() -> None:
    method = MKD(**CHECK).fit(noise_images(4, 0), Runtime())
    network = method._backbone._network
    student = {name: tensor.clone() for name, tensor in method.student_.state_dict().items()}
    method.predict(noise_images(3, 1))
    assert all(torch.equal(tensor, student[name]) for name, tensor in method.student_.state_dict().items())
    assert all(parameter.grad is None for parameter in (*network.parameters(), *method.student_.parameters()))
    fresh = load_backbone(CHECK["backbone"], CHECK["layers"], "random")._network.state_dict()
    assert all(torch.equal(fresh[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("localisation", ["gradients", "guided", "smooth_grad"])
@pytest.mark.parametrize("batched", [(), ("cpu",)])
def test_gradients_are_reproducible_ones(
    localisation: str, batched: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def noted(where: torch.device, *, gradients: bool = False) -> AbstractContextManager[None]:
        asked.append(gradients)
        return switches.reproducible(where, gradients=gradients)

    method = MKD(**(CHECK | {"localisation": localisation})).fit(noise_images(3, 0), Runtime())
    monkeypatch.setattr(device, "BATCHED", batched)
    for module in ("ltbench.blocks.device", "ltbench.blocks.each_image", "methods.mkd.method"):
        monkeypatch.setattr(f"{module}.reproducible", noted)
    method.predict(noise_images(2, 1))
    assert asked == [True] * (1 if batched and localisation != "smooth_grad" else 2)


@pytest.mark.parametrize("localisation", ["gradients", "guided", "smooth_grad"])
@pytest.mark.parametrize("norm", ["per_image", "none"])
def test_every_map(localisation: str, norm: str) -> None:
    """Noise goes with the image, so that no map depends on what stands beside it."""
    values = {"localisation": localisation, "map_norm": norm, "smoothing_sigma": 0.0, "iterations": 2}
    method = MKD(**(CHECK | values)).fit(noise_images(3, 0), Runtime())
    images = noise_images(3, 1)
    found = method.predict(images)
    assert found.maps.min() >= 0
    if norm == "per_image":
        assert found.maps.max(axis=(1, 2)) == pytest.approx([1, 1, 1])
    alone = method.predict(ArrayImages(images.images[2:]))
    assert np.array_equal(alone.maps[0], found.maps[2])
    assert np.isfinite(method.predict(ArrayImages(np.full((1, 64, 64, 3), 90, np.uint8))).maps).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    one, other = _predict(1), _predict(threads)
    assert np.array_equal(one.maps, other.maps)
    assert np.array_equal(one.scores, other.scores)


def test_maps_have_the_images_size() -> None:
    assert MKD(**CHECK).fit(noise_images(3, 0, 80), Runtime()).predict(noise_images(2, 1, 80)).maps.shape == (2, 80, 80)


def test_the_loss_falls_and_layers_are_scaled_to_a_mean_square_of_one() -> None:
    runtime = Runtime()
    method = MKD(**(CHECK | {"iterations": 12})).fit(noise_images(8, 0), runtime)
    losses = runtime.notes["losses"]["train"]["mkd"]
    assert losses[-1] < losses[0]
    assert runtime.notes["backbone"]["name"] == "tf_efficientnet_lite0"
    _, layers = method._taught(noise_images(8, 0), Runtime())
    for layer, scale in zip(layers, method.scales_, strict=True):
        assert np.square(layer / scale).mean() == pytest.approx(1, rel=1e-4)
    assert MKD(**(CHECK | {"scale": False})).fit(noise_images(3, 0), Runtime()).scales_ == (1.0,) * 4


@pytest.mark.parametrize(
    ("backbone", "layers", "text"),
    [
        ("tf_efficientnet_lite0", (1, 2, 3), "Expected 4 layers, got"),
        ("vgg11", (0, 1, 2, 3), r"Expected levels of \[16, 8, 4, 2\] places a side or of twice as many, got \[64"),
    ],
)
def test_layers_that_do_not_fit(backbone: str, layers: tuple[int, ...], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        MKD(**(CHECK | {"backbone": backbone, "layers": layers})).fit(noise_images(3, 0), Runtime())


def test_presets_follow_the_split() -> None:
    for split, name, weight in (("mvtec_step100", "paper_mvtec", 0.5), ("visa_exp200", "paper_other", 0.01)):
        preset = choose_preset(MKD, None, split)
        assert (preset.name, resolve(MKD, preset.parameters)["value_weight"]) == (name, weight)
    assert resolve(MKD, presets(MKD)["paper_mvtec"].parameters) == resolve(MKD)
