"""Dinomaly beside the authors' code: the same weights and tokens, the same maps, losses and steps."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ltbench.blocks.maps import upsample
from ltbench.blocks.training.learner import Learner
from ltbench.blocks.training.rates import Cosine
from ltbench.blocks.training.stable_adamw import StableAdamW
from methods.dinomaly.loss import distances, loose_loss, mining_share
from methods.dinomaly.method import group_means
from methods.dinomaly.net import LooseDecoder
from methods.dinomaly.scores import kernel, mean_map, smoothed, top_mean
from tests.methods.parity import FOLDER, OUTPUT, STEP
from tests.methods.reference import needs_shared

pytestmark = needs_shared

PREFIX, GRID = 5, (7, 7)


@cache
def _wanted() -> dict[str, Tensor]:
    return load_file(FOLDER / "dinomaly" / "tensors.safetensors")


@cache
def _meta() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dinomaly" / "meta.json").read_text(encoding="utf-8"))
    return found


def _network() -> LooseDecoder:
    network = LooseDecoder(48, 4, 8, dropout=0.0, seed=0)
    weights = load_file(FOLDER / "dinomaly" / "weights.safetensors")
    network.load_state_dict({name.replace("bottleneck.0", "bottleneck"): tensor for name, tensor in weights.items()})
    return network


def _targets() -> list[Tensor]:
    blocks = [_wanted()[f"block{number}"] for number in range(2, 10)]
    images = [group_means(tuple(block[image].numpy() for block in blocks)) for image in range(2)]
    return [torch.from_numpy(np.stack(groups)) for groups in zip(*images, strict=True)]


def _picture(tokens: Tensor) -> Tensor:
    return tokens[:, PREFIX:].transpose(1, 2).reshape(len(tokens), -1, *GRID)


def _near(found: Tensor, wanted: Tensor, tolerance: float = OUTPUT) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < tolerance


def test_every_intermediate() -> None:
    network, wanted, targets = _network(), _wanted(), _targets()
    with torch.no_grad():
        inside = network.bottleneck((targets[0] + targets[1]) / 2)
        _near(inside, wanted["eval.bottleneck"])
        first = network.decoder[0]
        assert isinstance(first, torch.nn.Module)
        _near(first.attn(first.norm1(inside)), wanted["eval.attn0"])  # type: ignore[operator]
        _near(first(inside), wanted["eval.decoder0"])
        rebuilt = network((targets[0] + targets[1]) / 2)
    for number in (0, 1):
        _near(_picture(targets[number]), wanted[f"encoder_group{number}"])
        _near(_picture(rebuilt[number]), wanted[f"eval.decoder_group{number}"])


def test_the_map_and_the_image_score() -> None:
    wanted, targets = _wanted(), _targets()
    with torch.no_grad():
        rebuilt = _network()((targets[0] + targets[1]) / 2)
    found = [distances(t[:, PREFIX:], r[:, PREFIX:]).view(2, *GRID).numpy() for t, r in zip(targets, rebuilt)]  # noqa: B905
    assert np.abs(np.outer(kernel(4.0), kernel(4.0)) - wanted["smoothing_kernel"][0, 0].numpy()).max() < 1e-6
    for image in range(2):
        whole = mean_map([grids[image] for grids in found], (98, 98))
        assert np.abs(whole - wanted["eval.map_98"][image, 0].numpy()).max() < OUTPUT
        small = smoothed(upsample(whole, (64, 64)), 4.0)
        assert np.abs(small - wanted["eval.map_64_smoothed"][image, 0].numpy()).max() < OUTPUT
        assert top_mean(small, 0.01) == pytest.approx(wanted["eval.image_score"][image].item(), abs=OUTPUT)


def test_three_steps() -> None:
    network, wanted, targets = _network(), _wanted(), _targets()
    optimiser = StableAdamW(network.parameters(), 2e-3)
    learner = Learner("dinomaly", network, lambda shard: torch.zeros(()), optimiser, clip_norm=0.1)
    rate = Cosine(100, 0.1)
    for number, step in enumerate(_meta()["steps"]):
        share = mining_share(step["iteration"], 0.9, 1000)
        assert share == pytest.approx(step["p"], rel=1e-12)
        learner.set_lr(rate.factor(step["iteration"], 226, 10_000))
        assert optimiser.param_groups[0]["lr"] == pytest.approx(step["lr"], rel=1e-12)
        rebuilt = network((targets[0] + targets[1]) / 2)
        pairs = [(t[:, PREFIX:], r[:, PREFIX:]) for t, r in zip(targets, rebuilt, strict=True)]
        loss = loose_loss(pairs, share, 0.1)
        norm = learner.clip(torch.autograd.grad(loss, learner.parameters))
        learner.step()
        assert loss.item() == pytest.approx(step["loss"], abs=OUTPUT if number == 0 else STEP)
        assert norm == pytest.approx(step["gradient_norm_before_clipping"], abs=OUTPUT if number == 0 else STEP)
        if number == 0:
            for name in ("decoder.0.attn.qkv.weight", "bottleneck.0.fc1.weight"):
                own = network.get_parameter(name.replace("bottleneck.0", "bottleneck"))
                _near(own.detach(), wanted[f"first_step.{name}"], OUTPUT)
    with torch.no_grad():
        rebuilt = network((targets[0] + targets[1]) / 2)
    for number in (0, 1):
        _near(_picture(rebuilt[number]), wanted[f"after.decoder_group{number}"], STEP)
