"""UniAD's network: parameters, initial weights, what may and may not reach a token, and the authors' own outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ltbench.blocks.networks.attention import neighbours
from ltbench.blocks.networks.reconstruction import PositionTable, Reconstruction
from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError

GRID = (6, 6)


def _network(dropout: float = 0.1) -> Any:
    return Reconstruction(12, GRID, width=16, layers=2, heads=4, ffn_width=32, dropout=dropout, mask_side=3, seed=1)


def _tokens(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, 36, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("channels", "count"), [(272, 7_717_392), (384, 7_774_848)])
def test_parameters_of_the_paper(channels: int, count: int) -> None:
    network: Any = Reconstruction(channels, (14, 14))
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert sum(parameter.numel() for parameter in network.encoder[0].parameters()) == 789_760
    assert sum(parameter.numel() for parameter in network.decoder[0].parameters()) == 1_103_616
    assert sum(parameter.numel() for parameter in network.position.parameters()) == 3_584


def test_layers_start_as_the_authors_do() -> None:
    """Copies of one layer: in_proj and queries are shared at first, linear layers are drawn anew; biases are zero."""
    network = _network()
    for first, second, attentions in (
        (*network.encoder, ["attention"]),
        (*network.decoder, ["memory_attention", "output_attention"]),
    ):
        for name in attentions:
            one, other = getattr(first, name), getattr(second, name)
            assert torch.equal(one.in_proj_weight, other.in_proj_weight)
            assert not torch.equal(one.out_proj.weight, other.out_proj.weight)
        assert not torch.equal(first.ffn.linear1.weight, second.ffn.linear1.weight)
        assert first.ffn.linear1.bias.abs().max() == 0
    first, second = network.decoder
    assert torch.equal(first.queries, second.queries)
    assert not torch.equal(first.memory_attention.in_proj_weight, first.output_attention.in_proj_weight)
    assert 0 <= network.position.rows.min() <= network.position.rows.max() < 1


def test_the_seed_is_all_that_weights_depend_on() -> None:
    before = torch.get_rng_state()
    states = [_network().state_dict() for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(before, torch.get_rng_state())


def test_positions_say_column_then_row() -> None:
    table = PositionTable((3, 5), 8, torch.Generator().manual_seed(0))().view(3, 5, 8)
    assert torch.equal(table[0, :, :4], table[2, :, :4])
    assert torch.equal(table[:, 0, 4:], table[:, 4, 4:])
    assert torch.equal(table[1, 2], torch.cat([table[0, 2, :4], table[1, 0, 4:]]))


def test_a_token_does_not_reach_its_neighbours_through_the_first_attention() -> None:
    network = _network()
    layer = network.encoder[0]
    x = network.input(_tokens(1))
    changed = x.clone()
    place = 2 * 6 + 3
    changed[0, place] += 1.0
    before, after = (
        layer.attention(t + network.position(), t + network.position(), t, network.mask) for t in (x, changed)
    )
    same = (before == after).all(dim=-1)[0]
    near = neighbours(GRID, 3)[place]
    near[place] = False  # there the query changed
    assert same[near].all()
    far = ~neighbours(GRID, 3)[place]
    assert not same[far].any()


def test_the_decoder_sees_the_input_through_the_memory_alone() -> None:
    network = _network()
    memory = network.input(_tokens(1)).expand(3, -1, -1)
    position = network.position()
    first = network.decoder[0](memory, memory, position, network.mask, None)
    assert (first[0] - first[1]).abs().max() == 0
    # No attention weight, no trace of the input: what is left are the queries.
    layer = network.decoder[0]
    for attention in (layer.memory_attention, layer.output_attention):
        torch.nn.init.zeros_(attention.out_proj.weight)
    outputs = [layer(m, m, position, network.mask, None) for m in (network.input(_tokens(1, s)) for s in (1, 2))]
    assert torch.equal(outputs[0].expand(1, -1, -1), outputs[1].expand(1, -1, -1))


def test_dropout_only_in_training() -> None:
    network, tokens = _network(), _tokens()
    assert torch.equal(network(tokens), network(tokens))
    assert torch.equal(network(tokens, Draws(0)), network(tokens, Draws(0)))
    assert not torch.equal(network(tokens, Draws(0)), network(tokens, Draws(1)))
    plain = _network(dropout=0.0)
    assert torch.allclose(plain(tokens, Draws(0)), plain(tokens), atol=1e-6)


def test_a_mask_that_hides_the_whole_grid_is_refused() -> None:
    with pytest.raises(SpecError, match="open key"):
        Reconstruction(12, (4, 4), width=16, heads=4, mask_side=7)
