"""Masks by position (UniAD and RLR, by their published counts), and attention beside torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ltbench.blocks.networks.attention import MultiheadAttention, blocking, neighbour_mask, neighbours, xavier_linear
from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError


@pytest.mark.parametrize(
    ("side_of_grid", "side", "count"),
    [
        (14, 7, 7_396),
        (16, 5, 5_476),
        (16, 7, 10_000),
        (16, 8, 15_376),
        (32, 7, 44_944),
        (64, 11, 454_276),
        (14, 1, 196),
    ],
)
def test_numbers_of_neighbours(side_of_grid: int, side: int, count: int) -> None:
    assert neighbours((side_of_grid, side_of_grid), side).sum() == count


def test_neighbours_of_a_place() -> None:
    near = neighbours((14, 14), 7)
    counts = near.sum(dim=1).view(14, 14)
    assert [counts[place].item() for place in ((0, 0), (0, 7), (7, 7))] == [16, 28, 49]
    assert torch.equal(near, near.T)
    assert near.diagonal().all()
    assert (~near).sum(dim=1).min() >= 147


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 9))
def test_an_even_side_is_the_next_odd_one(height: int, width: int, half: int) -> None:
    assert torch.equal(neighbours((height, width), 2 * half), neighbours((height, width), 2 * half + 1))


def test_the_mask_is_additive() -> None:
    mask = neighbour_mask((14, 14), 7)
    assert torch.equal(mask == -torch.inf, neighbours((14, 14), 7))
    assert set(mask[mask > -torch.inf].tolist()) == {0.0}
    assert torch.equal(neighbour_mask((5, 5), 1) == -torch.inf, torch.eye(25, dtype=torch.bool))


def test_a_mask_that_blocks_everything_is_refused() -> None:
    with pytest.raises(SpecError, match="open key"):
        neighbour_mask((4, 4), 7)
    with pytest.raises(SpecError, match="open key"):
        blocking(torch.ones(2, 2, dtype=torch.bool))


def _attention(dropout: float = 0.0) -> MultiheadAttention:
    generator = torch.Generator().manual_seed(0)
    return MultiheadAttention(16, 4, dropout, xavier_linear(16, 16, generator), generator)


def test_attention_is_torchs() -> None:
    ours = _attention()
    torchs = nn.MultiheadAttention(16, 4, batch_first=True)
    torchs.load_state_dict(ours.state_dict())
    query, key, value = torch.rand(3, 2, 9, 16, generator=torch.Generator().manual_seed(1))
    mask = neighbour_mask((3, 3), 1)
    wanted, _ = torchs(query, key, value, attn_mask=mask)
    assert (ours(query, key, value, mask) - wanted).abs().max() < 1e-6
    # The path that dropout takes, with as good as none.
    ours.dropout = 1e-12
    assert (ours(query, key, value, mask, Draws(0)) - wanted).abs().max() < 1e-6
    shared = ours(query[:1], key, value, mask)
    assert (shared[1] - torchs(query[:1], key[1:], value[1:], attn_mask=mask)[0]).abs().max() < 1e-6


def test_dropout_is_drawn_from_its_generator() -> None:
    attention, x, mask = _attention(0.5), torch.ones(2, 9, 16), torch.zeros(9, 9)
    assert torch.equal(attention(x, x, x, mask, Draws(0)), attention(x, x, x, mask, Draws(0)))
    assert not torch.equal(attention(x, x, x, mask, Draws(0)), attention(x, x, x, mask, Draws(1)))
    assert torch.equal(attention(x, x, x, mask), attention(x, x, x, mask))


def test_heads_divide_the_width() -> None:
    generator = torch.Generator()
    with pytest.raises(SpecError, match="3 heads"):
        MultiheadAttention(16, 3, 0.0, xavier_linear(16, 16, generator), generator)
