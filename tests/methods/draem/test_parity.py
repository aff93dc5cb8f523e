"""DRAEM beside the authors' code: networks, losses, a step, noise, composition and operations on textures."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ltbench.blocks.training.losses import focal
from methods.draem import losses, operations, perlin
from methods.draem.net import Draem, image_score
from methods.draem.synthesis import pasted
from tests.methods.parity import FOLDER, OUTPUT, STEP
from tests.methods.reference import needs_shared

pytestmark = needs_shared

OWN = FOLDER / "draem"


@cache
def _tensors() -> dict[str, Tensor]:
    return load_file(OWN / "tensors.safetensors") | load_file(OWN / "extra.tensors.safetensors")


@cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((OWN / "meta.json").read_text())
    more: dict[str, Any] = json.loads((OWN / "extra.meta.json").read_text())
    return facts | more


def _name(theirs: str) -> str:
    """Return our name of one of the authors' weights."""
    name = re.sub(r"\.(encoder|encoder_segment)\.block(\d)", lambda match: f".down.{int(match[2]) - 1}", theirs)
    name = re.sub(r"\.decoder\.up(\d)", lambda match: f".up.{int(match[1]) - 1}", name)
    name = re.sub(r"\.decoder\.db(\d)", lambda match: f".merge.{int(match[1]) - 1}", name)
    name = re.sub(r"\.decoder_segment\.up_?(\w)", lambda match: f".up.{match[1].replace('b', '0')}", name)
    name = re.sub(r"\.decoder_segment\.db_?(\w)", lambda match: f".merge.{match[1].replace('b', '0')}", name)
    return re.sub(r"\.decoder(_segment)?\.fin_out(\.0)?", ".output", name)


def _network() -> Draem:
    network = Draem(8, 8)
    network.load_state_dict({_name(name): tensor for name, tensor in load_file(OWN / "weights.safetensors").items()})
    return network


def _near(found: Tensor, wanted: str, tolerance: float = OUTPUT) -> None:
    assert found.shape == _tensors()[wanted].shape
    assert (found - _tensors()[wanted]).abs().max() < tolerance


def _compare(network: Draem, prefix: str) -> None:
    """Compare all outputs in evaluation mode; numbers may be small, so the tolerance is relative to the largest."""
    network.eval()
    seen = _tensors()["augmented"]
    with torch.no_grad():
        rebuilt, logits = network(seen)
        abnormal = logits.softmax(dim=1)[:, 1]
        found = {"reconstruction": rebuilt, "logits": logits, "bottleneck": network.reconstructive.encode(seen)}
        found["image_score"] = image_score(abnormal, 21)
    for name, tensor in found.items():
        _near(tensor, f"{prefix}.{name}", OUTPUT * min(1.0, _tensors()[f"{prefix}.{name}"].abs().max().item()))


def test_both_networks_with_stored_statistics() -> None:
    _compare(_network(), "eval")


def test_both_networks_with_statistics_of_a_batch() -> None:
    network = _network().train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        rebuilt, logits = network(_tensors()["augmented"])
    _near(rebuilt, "train.reconstruction")
    _near(logits, "train.logits")
    _compare(network, "warm")


@pytest.mark.parametrize(
    ("ssim_range", "prefix", "row"),
    [
        ("inferred", "", "losses before each of 4 updates, SSIM range as released (L2, SSIM, focal, sum)"),
        ("one", "L1.", "losses before each of 4 updates with L = 1 (L2, SSIM, focal, sum)"),
    ],
)
def test_two_updates(ssim_range: losses.SsimRange, prefix: str, row: str) -> None:
    network, tensors = _network(), _tensors()
    optimiser = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
    for update, wanted in enumerate(_facts()[row][:2]):
        network.train()
        rebuilt, logits = network(tensors["augmented"])
        loss = losses.total_loss(rebuilt, logits, tensors["image"], tensors["mask"][:, 0], ssim_range)
        assert loss.item() == pytest.approx(wanted[3], abs=1e-5)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if update == 0:
            network.eval()
            with torch.no_grad():
                rebuilt, logits = network(tensors["augmented"])
            _near(rebuilt, f"{prefix}after_step.reconstruction", STEP)
            _near(logits, f"{prefix}after_step.logits", STEP)


def test_the_focal_loss_trains_the_first_network_too() -> None:
    network, tensors = _network().train(), _tensors()
    _, logits = network(tensors["augmented"])
    loss = focal(logits.softmax(dim=1), tensors["mask"][:, 0])
    weights = [weight for weight in network.reconstructive.parameters() if weight.ndim == 4]
    norm = math.hypot(*(gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)))
    assert norm == pytest.approx(
        _facts()["gradient norms at the first update"]["reconstructive from the focal loss alone"], rel=1e-3
    )


def test_each_loss_on_plain_inputs() -> None:
    tensors, facts = _tensors(), _facts()
    assert 1 - losses.ssim(tensors["ssim.a"], tensors["ssim.b"], 1.0).item() == pytest.approx(
        facts["ssim_loss(a,b)"], abs=1e-6
    )
    own = focal(tensors["focal.probabilities"], tensors["focal.mask"][:, 0]).item()
    assert own == pytest.approx(facts["focal_loss"], abs=1e-6)
    below, usual = tensors["ssim.below_minus_half"], tensors["ssim.a"]
    for first, second, name in (
        (below, usual, "first argument reaching below -0.5, second ssim.a"),
        (usual, below, "arguments exchanged"),
    ):
        found = 1 - losses.ssim(first, second, losses.dynamic_range(first, "inferred")).item()
        assert found == pytest.approx(facts["ssim"][name], abs=1e-6)


def _noise(side: int, seed: int, rows: int, columns: int) -> perlin.Plane:
    return perlin.noise(side, 2 * math.pi * np.random.RandomState(seed).rand(rows + 1, columns + 1))


def test_noise() -> None:
    noise = _noise(64, 7, 4, 8)
    assert np.abs(noise - _tensors()["perlin.noise_64_4x8_seed7"].numpy()).max() < 1e-5
    assert (noise > 0.5).mean() == _facts()["perlin_share_above_0.5"]


@pytest.mark.parametrize("angle", ["-90", "-37", "12.5", "45"])
def test_turned_noise(angle: str) -> None:
    found = perlin.turned(_tensors()["perlin.noise_64_4x8_seed7"].numpy(), float(angle))
    assert np.abs(found - _tensors()[f"perlin.rotated {angle}"].numpy()).max() < 0.01, "fixed point there"
    assert ((found > 0.5) != _tensors()[f"perlin.mask_rotated {angle}"].numpy()).sum() <= 2


@pytest.mark.parametrize("draw", range(4))
def test_composition(draw: int) -> None:
    tensors, fact = _tensors(), _facts()["synthesis"][draw]
    image, texture = (
        tensors[f"synthesis.{name}"].numpy().astype(np.float32) / np.float32(255) for name in ("image", "texture")
    )
    mask = _noise(96, fact["numpy legacy seed of the gradient angles"], *fact["scales rows, columns"]) > 0.5
    found = pasted(image, texture, mask & (not fact["clean"]), fact["beta"])
    assert np.array_equal(mask & (not fact["clean"]), tensors[f"synthesis.{draw}.mask"].numpy() > 0)
    assert np.abs(found - tensors[f"synthesis.{draw}.altered"].numpy()).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "operation", "tolerance"),
    [
        ("solarise 64", lambda pixels: operations.solarise(pixels, 64), 0),
        ("posterise 3 bits", lambda pixels: operations.posterise(pixels, 3), 0),
        ("invert", lambda pixels: 255 - pixels, 0),
        ("equalise", operations.equalise, 0),
        ("sharpness 0", lambda pixels: operations.sharpen(pixels, 0), 0),
        ("sharpness 2", lambda pixels: operations.sharpen(pixels, 2), 0),
        ("gamma 0.6", lambda pixels: operations.gamma_contrast(pixels, np.array([0.6] * 3)), 0),
        ("hue 20", lambda pixels: operations.shift_hue_and_saturation(pixels, 20, 0), 1),
        ("saturation -30", lambda pixels: operations.shift_hue_and_saturation(pixels, 0, -30), 1),
    ],
)
def test_operations_on_textures(name: str, operation: Any, tolerance: int) -> None:
    found = operation(_tensors()["texture.input"].numpy())
    wanted = _tensors()[f"texture.{name}"].numpy()
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted).max() <= tolerance


def test_a_turned_texture_but_for_its_rim() -> None:
    """imgaug and Pillow fill the rim in other ways."""
    found = operations.turn(_tensors()["texture.input"].numpy(), 30).astype(int)
    assert np.abs(found - _tensors()["texture.rotate 30"].numpy())[8:-8, 8:-8].max() <= 1
