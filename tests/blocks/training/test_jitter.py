"""Feature jitter has the paper's strength."""

from __future__ import annotations

import torch

from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.jitter import jitter


def test_the_strength_of_the_noise() -> None:
    """E ||noise||^2 / ||f||^2 is alpha^2 / C: 1.4706 for UniAD's 20 and 272 channels."""
    tokens = torch.randn(8, 196, 272, generator=torch.Generator().manual_seed(0)) * 3
    noise = jitter(tokens, 20, Draws(0)) - tokens
    ratio = noise.square().sum(dim=-1) / tokens.square().sum(dim=-1)
    assert abs(ratio.mean().item() - 20**2 / 272) < 0.02


def test_zero_tokens_and_zero_scale() -> None:
    tokens = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    tokens[0, 1] = 0
    assert jitter(tokens, 20, Draws(0))[0, 1].abs().max() == 0
    assert torch.equal(jitter(tokens, 0, Draws(0)), tokens)
