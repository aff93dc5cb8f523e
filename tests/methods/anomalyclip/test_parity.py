"""AnomalyCLIP's networks, losses and one step of its training against the authors' code, with their weights."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ltbench.blocks.training.losses import dice, focal
from ltbench.blocks.vision_language.clip_network import Clip, ClipShape, TowerShape
from ltbench.blocks.vision_language.clip_weights import build
from methods.anomalyclip.losses import image_loss, map_loss, probabilities, upsampled
from tests.methods.parity import FOLDER, OUTPUT, STEP
from tests.methods.reference import needs_shared

SHAPE = ClipShape(TowerShape(6, 128, 2), TowerShape(4, 64, 4), 32, 8, 48, quick_gelu=True, context=20, vocabulary=60)
TAU, VALUE_BLOCKS = 0.07, 3


def test_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, texts = torch.randn(3, 16, 8, generator=generator), torch.randn(2, 8, generator=generator)
    found = probabilities(vectors, texts, TAU)
    assert torch.allclose(found.sum(dim=-1), torch.ones(3, 16))
    assert torch.allclose(probabilities(5 * vectors, texts, TAU), found, atol=1e-6), "only directions matter"
    maps = upsampled(found, (4, 4), (20, 20))
    assert torch.allclose(maps.sum(dim=1), torch.ones(3, 20, 20), atol=1e-6)
    assert ((maps >= 0) & (maps <= 1)).all()
    labels = torch.tensor([0, 1, 1])
    wanted = -found[:, 0].log().gather(1, labels[:, None]).mean()
    assert torch.allclose(image_loss(vectors[:, 0], texts, labels, TAU), wanted)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(FOLDER / "anomalyclip" / "tensors.safetensors")


@pytest.fixture(scope="module")
def network() -> Clip:
    return (
        build(SHAPE, load_file(FOLDER / "anomalyclip" / "weights.safetensors"), "parity").eval().requires_grad_(False)
    )


def near(found: Tensor, wanted: Tensor, tolerance: float = OUTPUT) -> None:
    assert torch.allclose(found, wanted, atol=tolerance), (found - wanted).abs().max()


def patches_of(network: Clip, pixels: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
    """Return the codes and the patches of blocks 2, 4 and 6 in the space of texts."""
    tower = network.visual
    with torch.inference_mode():
        states = tower.states(tower.embed(pixels))
        streams = dict(enumerate(states)) | dict(enumerate(tower.local(states, VALUE_BLOCKS), start=4))
        code = tower.code(states[-1], normalised=False)
        return code.clone(), {block: tower.aligned(streams[block]).clone() for block in (2, 4, 6)}


@needs_shared
def test_image_branch(network: Clip, tensors: dict[str, Tensor]) -> None:
    near(network.visual.positions((5, 5)), tensors["positions_at_40"])
    code, patches = patches_of(network, tensors["image"])
    near(code, tensors["image_feature"])
    for block, found in patches.items():
        near(found, tensors[f"patch_tokens.block{block}"][:, 1:])


def leaves(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[name].clone().requires_grad_() for name in ("prompts", "deep0", "deep1")}


def texts_of(network: Clip, learnt: dict[str, Tensor], ends: Tensor) -> Tensor:
    """Return the prompts' vectors; the released code rounds deep tokens to half precision on their way."""
    deep = [learnt[name].half().float() for name in ("deep0", "deep1")]
    return network.text(learnt["prompts"], ends.long(), deep)


@needs_shared
def test_losses_and_a_step(network: Clip, tensors: dict[str, Tensor]) -> None:
    wanted: dict[str, Any] = json.loads((FOLDER / "anomalyclip" / "meta.json").read_text(encoding="utf-8"))
    code, patches = patches_of(network, tensors["image"])
    learnt, ends = leaves(tensors), tensors["end_position"]
    texts = texts_of(network, learnt, ends)
    near(texts, tensors["text_features"])
    near(probabilities(code, texts, TAU), tensors["image_probabilities"])
    total = first = image_loss(code, texts, torch.tensor([0, 1]), TAU)
    assert first.item() == pytest.approx(wanted["image_loss"], abs=OUTPUT)
    mask, summed = tensors["mask"], torch.zeros(2, 40, 40)
    for (block, found), losses in zip(
        patches.items(), wanted["focal, dice abnormal, dice normal by block"], strict=True
    ):
        maps = upsampled(probabilities(found, texts, TAU), (5, 5), (40, 40))
        near(maps, tensors[f"map.block{block}"])
        own = [focal(maps, mask), dice(maps[:, 1], mask), dice(maps[:, 0], 1 - mask)]
        assert [loss.item() for loss in own] == pytest.approx(losses, abs=OUTPUT)
        total = total + 4 * map_loss(maps, mask)
        summed = summed + maps[:, 1]
    near(summed, tensors["anomaly_map"])
    assert total.item() == pytest.approx(wanted["total_with_lambda_4"], rel=OUTPUT)
    optimiser = torch.optim.Adam(learnt.values(), lr=1e-3, betas=(0.5, 0.999))
    gradients = torch.autograd.grad(total, list(learnt.values()))
    for (name, leaf), gradient in zip(learnt.items(), gradients, strict=True):
        leaf.grad = gradient
        if name in ("prompts", "deep0"):
            largest = tensors[f"gradient.{name}"].abs().max().item()
            near(gradient, tensors[f"gradient.{name}"], STEP * largest)
    optimiser.step()
    near(learnt["prompts"], tensors["after.prompts"], STEP)
    near(learnt["deep0"], tensors["after.deep0"], STEP)
    near(texts_of(network, learnt, ends), tensors["after.text_features"], STEP)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert math.isfinite(total.item())
