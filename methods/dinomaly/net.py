"""Dinomaly's trainable part: a noisy bottleneck and a decoder whose attention is linear (sections 3.2 and 3.3)."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.networks.attention import undrawn_linear
from ltbench.blocks.networks.linear import Linear
from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError

STD, CUT = 0.01, 0.03
"""Linear weights come from a normal distribution of deviation STD, cut off at +-CUT (the authors' code)."""

DECODER_EPS = 1e-8
"""Of the decoder's layer norms (the authors' code)."""

RATIO = 4
"""Channels inside an MLP, by those outside."""


class MLP(nn.Module):
    """Linear, GELU, linear.

    Args:
        width: channels outside.
        generator: where the weights are drawn from.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.fc1 = _linear(width, RATIO * width, generator)
        self.fc2 = _linear(RATIO * width, width, generator)

    def forward(self, x: Tensor, dropout: float = 0.0, draws: Draws | None = None) -> Tensor:
        """Return (B, T, width); with `draws`, dropout before, between and behind the two layers."""
        if draws is None:
            return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]
        inside = F.gelu(self.fc1(draws.dropout(x, dropout)))
        return draws.dropout(self.fc2(draws.dropout(inside, dropout)), dropout)


class LinearAttention(nn.Module):
    """Attention whose weights are phi(q) . phi(k) over their sum, phi = elu + 1.

    No matrix of tokens by tokens is formed (Katharopoulos et al., 2020, arXiv:2006.16236).

    Args:
        width: channels.
        heads: they share the channels out.
        generator: where the weights are drawn from.
    """

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        if width % heads:
            raise SpecError(f"Expected heads that divide the tokens' width {width}, got {heads}. Set another number.")
        self.heads = heads
        self.qkv = _linear(width, 3 * width, generator)
        self.proj = _linear(width, width, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each token gathers, (B, T, width) of (B, T, width)."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = _phi(q), _phi(k)
        gathered = q @ (k.transpose(-2, -1) @ v)
        weight = q @ k.sum(dim=-2, keepdim=True).transpose(-2, -1)
        return self.proj((gathered / weight).transpose(1, 2).reshape(batch, tokens, width))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Linear attention, then an MLP, each behind a norm and beside the identity.

    Args:
        width: channels.
        heads: of the attention.
        generator: where the weights are drawn from.
    """

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=DECODER_EPS)
        self.attn = LinearAttention(width, heads, generator)
        self.norm2 = nn.LayerNorm(width, eps=DECODER_EPS)
        self.mlp = MLP(width, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, width)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class LooseDecoder(nn.Module):
    """Rebuilds two groups of tokens from the mean of both.

    Args:
        width: channels of a token.
        heads: of each attention.
        depth: blocks of the decoder, an even number.
        dropout: probability of dropout in the bottleneck.
        seed: of the initial weights.
    """

    def __init__(self, width: int, heads: int, depth: int, dropout: float, seed: int) -> None:
        super().__init__()
        if depth < 2 or depth % 2:
            raise SpecError(f"Expected an even depth, for two groups of blocks, got {depth}. Set 2, 4, ...")
        generator = torch.Generator().manual_seed(seed)
        self.dropout = dropout
        self.bottleneck = MLP(width, generator)
        self.decoder = nn.ModuleList(Block(width, heads, generator) for _ in range(depth))

    def forward(self, tokens: Tensor, draws: Draws | None = None) -> tuple[Tensor, Tensor]:
        """Return what stands for the shallow and for the deep group, (B, T, width) each.

        The decoder's order is that of the encoder reversed: the mean of its last half of blocks rebuilds the shallow
        group, that of its first half the deep one.

        Args:
            tokens: (B, T, width), the mean of all layers taken from the backbone.
            draws: where dropout draws from, or None outside training.
        """
        x = self.bottleneck(tokens, self.dropout, draws)
        outputs = []
        for block in self.decoder:
            x = block(x)
            outputs.append(x)
        half = len(outputs) // 2
        first, last = (torch.stack(part).mean(dim=0) for part in (outputs[:half], outputs[half:]))
        return last, first


class _Phi(torch.autograd.Function):
    """elu(x) + 1, of which the result alone is kept; torch's elu takes ten times as long, as expm1 is slow on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        phi = F.relu(x) + x.clamp(max=0).exp()
        ctx.save_for_backward(phi)
        return phi

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (phi,) = ctx.saved_tensors
        return cast(Tensor, gradients[0] * phi.clamp(max=1))  # the slope: 1 above 0, e^x = phi below


def _phi(x: Tensor) -> Tensor:
    """Return elu(x) + 1."""
    return cast(Tensor, _Phi.apply(x))


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    layer = undrawn_linear(inputs, outputs, Linear)
    if layer.weight.device.type != "meta":  # where only shapes are asked for there is nothing to draw
        nn.init.trunc_normal_(layer.weight, std=STD, a=-CUT, b=CUT, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
