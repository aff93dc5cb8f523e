"""RLR beside the authors' modules: the same weights and input, the same intermediates, loss, step, map and score."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ltbench.blocks.maps import smooth, upsample
from methods.rlr.net import ReferenceNetwork, differences
from tests.methods.parity import FOLDER, OUTPUT, STEP, parity, renamed
from tests.methods.reference import needs_shared

pytestmark = needs_shared

NAME = "rlr_small_real"
LEVELS = {0: (40, 28, 64, 7), 1: (112, 14, 128, 5)}
"""Level -> channels, side of the grid, width, window."""

NAMES = (
    (r"^ref_mca$", "reference"),
    (r"^embedding\.project_embedding\.project", "token_embedding.project"),
    (r"^ref_mca_embedding\.project_embedding\.project", "reference_embedding.project"),
    (r"^encoder\.encode_layers", "layers"),
    (r"^encoder\.norm", "norm"),
    (r"\.mca\.", ".lca."),
    (r"\.nsa\.", ".mlka."),
    (r"\.ffn\.", "."),
)


def _network(level: int) -> Any:
    channels, side, width, window = LEVELS[level]
    network = ReferenceNetwork(
        channels,
        (side, side),
        width=width,
        depth=2,
        heads=4,
        window=window,
        weights=(2.0, 1.0),
        generator=torch.Generator(),
    )
    weights = renamed(parity(f"{NAME}.level{level}", "weights"), *NAMES)
    for name in weights:
        if name.endswith("project.weight"):
            weights[name] = weights[name].squeeze(2)  # the authors have a convolution of width 1
    network.load_state_dict(weights)
    return network


def _near(found: Tensor, wanted: Tensor, tolerance: float = OUTPUT) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < tolerance


@pytest.mark.parametrize("level", LEVELS)
def test_every_intermediate(level: int) -> None:
    network, wanted = _network(level), parity(f"{NAME}.level{level}", "tensors")
    first = network.layers[0]
    assert torch.equal(first.lca_mask, wanted["lca_mask"])
    assert torch.equal(first.mlka_mask, wanted["mlka_mask"])
    _near(network.token_embedding.position, wanted["pos_embed"].flatten(1).T)
    x, reference = network.token_embedding(wanted["input"]), network.reference_embedding(network.reference)
    _near(x, wanted["embedding"])
    _near(reference, wanted["ref_embedding"])
    _near(first.lca(x, reference, reference, first.lca_mask), wanted["layer0.lca"])
    _near(first.mlka(x, reference, x, first.mlka_mask), wanted["layer0.mlka"])
    for number, layer in enumerate(network.layers):
        x = layer(x, reference)
        _near(x, wanted[f"layer{number}"])
    _near(network.norm(x), wanted["norm"])
    _near(network(wanted["input"]), wanted["output"])


@pytest.mark.parametrize("level", LEVELS)
def test_loss_gradients_and_a_step(level: int) -> None:
    network, wanted = _network(level), parity(f"{NAME}.level{level}", "tensors")
    tokens = wanted["input"]
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    found = differences(network(tokens), tokens)
    _near(found.view(-1), wanted["token_score"].reshape(-1), 1e-4 * found.max().item())
    assert found.mean().item() == pytest.approx(wanted["loss"].item(), abs=OUTPUT)
    by_name = dict(network.named_parameters())
    for name, gradient in zip(by_name, torch.autograd.grad(found.mean(), list(by_name.values())), strict=True):
        by_name[name].grad = gradient
    norms = json.loads((FOLDER / "meta.json").read_text(encoding="utf-8"))[NAME][f"level{level}"]["grad_norms"]
    for name, norm in renamed({name: torch.tensor(norm) for name, norm in norms.items()}, *NAMES).items():
        assert torch.isclose(by_name[name].grad.norm(), norm, rtol=1e-3, atol=1e-5), name
    optimiser.step()
    _near(network(tokens), wanted["output_after_one_step"], STEP)


def test_the_map_and_the_image_score() -> None:
    wanted, maps = parity(f"{NAME}.final", "final"), []
    for level, (_, side, _, _) in LEVELS.items():
        tensors = parity(f"{NAME}.level{level}", "tensors")
        with torch.no_grad():
            found = differences(_network(level)(tensors["input"]), tensors["input"])
        maps.append(upsample(found.view(side, side).numpy(), (224, 224), align_corners=True))
        assert np.abs(maps[-1] - tensors["map_level"].squeeze().numpy()).max() < OUTPUT
    anomaly_map = np.stack(maps).mean(axis=0)
    assert np.abs(anomaly_map - wanted["map"].squeeze().numpy()).max() < OUTPUT
    smoothed = smooth(anomaly_map, 4.0)
    assert np.abs(smoothed - wanted["map_smoothed"].squeeze().numpy()).max() < OUTPUT
    assert smoothed.max() == pytest.approx(wanted["image_score"].item(), abs=OUTPUT)
