"""Feature jitter: the noise that a reconstruction network learns to take away (UniAD, section 3.4)."""

from __future__ import annotations

from torch import Tensor

from ltbench.blocks.training.draws import Draws


def jitter(tokens: Tensor, scale: float, draws: Draws) -> Tensor:
    """Return tokens with Gaussian noise whose deviation is the token's norm, times `scale`, over the channels' number.

    The noise's norm is then scale / sqrt(C) of the token's on average; a zero token stays zero.

    Args:
        tokens: (B, L, C).
        scale: alpha of the paper, from 0.
        draws: where the noise comes from.
    """
    norms: Tensor = tokens.square().sum(dim=-1, keepdim=True).sqrt()
    return tokens + draws.normal(tokens.shape) * (norms * (scale / tokens.shape[-1]))
