"""RLR's network: parameters, masks, what reaches a token and what does not, its loss and its corruption."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ltbench.blocks.networks.attention import neighbours
from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError
from methods.rlr.method import RLR
from methods.rlr.net import ReferenceNetwork, corrupted_tokens, differences, position_code, window_of

GRID = (8, 8)


def _network(**changes: Any) -> Any:
    settings: dict[str, Any] = {"width": 16, "depth": 2, "heads": 4, "window": 3, "weights": (2.0, 1.0)}
    return ReferenceNetwork(6, GRID, **(settings | changes), generator=torch.Generator().manual_seed(0))


def _tokens(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, 64, 6, generator=torch.Generator().manual_seed(seed))


def _level(channels: int, side: int, width: int, depth: int = 4) -> ReferenceNetwork:
    window, generator = window_of((side, side)), torch.Generator().manual_seed(0)
    return ReferenceNetwork(
        channels, (side, side), width=width, depth=depth, heads=8, window=window, weights=(2, 1), generator=generator
    )


@pytest.mark.parametrize(("channels", "side", "width", "count"), [(72, 32, 256, 4_341_832), (200, 16, 512, 17_172_680)])
def test_parameters_of_a_level(channels: int, side: int, width: int, count: int) -> None:
    network: Any = _level(channels, side, width)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert network.reference.shape == (1, side * side, channels)
    tokens = torch.zeros(2, side * side, channels)
    assert network(tokens).shape == tokens.shape


def test_parameters_of_the_paper() -> None:
    assert RLR().trainable_parameters((256, 256)) == 21_514_512
    assert RLR(depth=3).trainable_parameters((256, 256)) == 16_258_576


def test_masks_are_complements() -> None:
    layer: Any = _level(4, 16, 32, depth=1).layers[0]
    local, beyond = layer.lca_mask == 0, layer.mlka_mask == 0
    assert torch.equal(local, ~beyond)
    assert [int(mask.sum()) for mask in (local, beyond)] == [5_476, 60_060]
    counts = local.sum(dim=1)
    assert (int(counts.min()), int(counts.max())) == (9, 25)


@pytest.mark.parametrize(("side", "least", "most"), [(32, 16, 49), (64, 36, 121)])
def test_windows_by_grid(side: int, least: int, most: int) -> None:
    counts = neighbours((side, side), window_of((side, side))).sum(dim=1)
    assert (int(counts.min()), int(counts.max())) == (least, most)


def test_a_grid_without_a_window_is_an_error() -> None:
    with pytest.raises(SpecError, match="24x24"):
        window_of((24, 24))


def test_there_is_no_way_around_attention() -> None:
    network = _network()
    layer = network.layers[0]
    for attention in (layer.lca, layer.mlka):
        torch.nn.init.zeros_(attention.out_proj.weight)
    reference = network.reference_embedding(network.reference)
    outputs = [layer(network.token_embedding(_tokens(1, seed)), reference) for seed in (0, 1)]
    assert torch.equal(outputs[0], outputs[1])


def test_without_queries_lca_is_a_mean_over_its_window() -> None:
    network = _network()
    layer, reference = network.layers[0], network.reference_embedding(network.reference)
    with torch.no_grad():
        layer.lca.in_proj_weight[:16] = 0
        gathered = layer.lca(network.token_embedding(_tokens()), reference, reference, layer.lca_mask)
        values = reference @ layer.lca.in_proj_weight[32:].T
        near = neighbours(GRID, 3).float()
        wanted = layer.lca.out_proj(near / near.sum(dim=1, keepdim=True) @ values)
    assert torch.allclose(gathered, wanted.expand_as(gathered), atol=1e-5)


def test_what_a_token_and_a_place_of_the_reference_reach() -> None:
    network = _network()
    layer, reference = network.layers[0], network.reference_embedding(network.reference)
    place, near = 3 * 8 + 4, neighbours(GRID, 3)[3 * 8 + 4]
    x = network.token_embedding(_tokens(1))
    changed = x.clone()
    changed[0, place] += 1
    outputs = [layer.mlka(t, reference, t, layer.mlka_mask)[0] for t in (x, changed)]
    same = (outputs[0] == outputs[1]).all(dim=1)
    others = near.clone()
    others[place] = False  # there the query changed
    assert same[others].all()
    assert not same[~near].any()
    moved = reference.clone()
    moved[0, place] += torch.arange(16.0)
    outputs = [layer.lca(x, r, r, layer.lca_mask)[0] for r in (reference, moved)]
    assert torch.equal((outputs[0] == outputs[1]).all(dim=1), ~near)


def test_gradients_reach_the_reference_through_both_attentions() -> None:
    for weights in ((2.0, 0.0), (0.0, 1.0)):
        network = _network(weights=weights)
        (gradient,) = torch.autograd.grad(network(_tokens()).square().mean(), network.reference)
        assert (gradient.abs().sum(dim=2) > 0).all()


def test_positions() -> None:
    code = position_code((3, 5), 8).view(3, 5, 8)
    assert torch.equal(code[0, :, :4], code[2, :, :4])
    assert torch.equal(code[:, 0, 4:], code[:, 4, 4:])
    angle = torch.tensor(2.0)
    wanted = torch.stack([angle.sin(), angle.cos(), (angle / 100).sin(), (angle / 100).cos()])
    assert torch.allclose(code[0, 2, :4], wanted, atol=1e-6)
    assert torch.allclose(code[2, 0, 4:], wanted, atol=1e-6)


def test_the_difference() -> None:
    clean = _tokens()
    mean = clean.square().mean(dim=2)
    assert differences(clean, clean).abs().max() < 1e-6
    assert torch.allclose(differences(0.3 * clean, clean), 0.49 * mean, atol=1e-6)
    assert torch.allclose(differences(-clean, clean), 4 * mean + 2, atol=1e-5)


def test_corruption_keeps_a_share_of_each_image() -> None:
    assert corrupted_tokens((3, 64), 0, Draws(0)).all()
    some = corrupted_tokens((3, 64), 44, Draws(0))[..., 0]
    assert (some == 0).sum(dim=1).tolist() == [44] * 3
    assert not torch.equal(some[0], some[1])


def test_the_seed_is_all_that_weights_depend_on() -> None:
    before = torch.get_rng_state()
    one, other = _network().state_dict(), _network().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())
