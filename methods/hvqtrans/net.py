"""HVQ-Trans's network (Lu et al., NeurIPS 2023): encoder, quantisers on every level, decoder, a head a category.

The decoder sees codes alone, so that what is no code of the image's category cannot be rebuilt.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.networks.attention import Grid, default_attention, default_linear
from ltbench.blocks.networks.linear import Linear
from ltbench.blocks.networks.reconstruction import PositionTable
from ltbench.blocks.training.draws import Draws

from .codebooks import Codebooks, rounds


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What the network is made from; README.md and `hyper_parameters.py` say what each is."""

    width: int = 256
    depth: int = 4
    heads: int = 8
    ffn_width: int = 1024
    dropout: float = 0.1
    codes: int = 512
    decay: float = 0.99


@dataclass(frozen=True, slots=True)
class Quantised:
    """What the quantisers make of an image's levels.

    Args:
        memories: what each decoder layer looks at, deepest level first, (B, L, 2 * width) each.
        latent: mean squared distance of tokens and codes, summed over the levels; a scalar.
        lowest: what the quantiser of level 0 was given, (B, L, 2 * width).
        indices: code of each token, of the deepest level (1, B, L) and of the others (depth, B, L), level 0 first.
    """

    memories: list[Tensor]
    latent: Tensor
    lowest: Tensor
    indices: tuple[Tensor, Tensor]


class HVQNetwork(nn.Module):
    """Rebuilds tokens from codes. With the defaults, 272 channels and 15 categories 18,014,192 parameters.

    Args:
        channels: channels of a token.
        grid: (height, width) of the map in tokens.
        categories: number of categories.
        settings: everything else.
        seed: seed of the initial weights and codes.
    """

    def __init__(self, channels: int, grid: Grid, categories: int, settings: NetworkSettings, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        width, count, decay = settings.width, settings.codes, settings.decay
        self.input = default_linear(channels, width, generator, Linear)  # the authors' convolution of 1x1
        self.position = PositionTable(grid, width, generator)
        encoder, decoder = EncoderLayer(settings, generator), DecoderLayer(settings, generator)
        # As in the authors' code, the layers are copies of one and stay so: they start from equal weights.
        self.encoder = nn.ModuleList(copy.deepcopy(encoder) for _ in range(settings.depth))
        self.decoder = nn.ModuleList(copy.deepcopy(decoder) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(2 * width)
        self.heads = nn.ModuleList(default_linear(2 * width, channels, generator, Linear) for _ in range(categories))
        self.unused = default_linear(channels, width, generator, Linear)  # `input_proj`, which nothing reads
        self.top = Codebooks(1, categories, count, width, decay, generator)
        self.lower = Codebooks(settings.depth, categories, count, 2 * width, decay, generator)

    def forward(
        self,
        tokens: Tensor,
        categories: Sequence[int],
        draws: Draws | None = None,
        turn: AbstractContextManager[None] | None = None,
    ) -> tuple[Tensor, Quantised]:
        """Return the tokens rebuilt, (B, L, channels), and what the quantisers made of them.

        Args:
            tokens: (B, L, channels), row by row.
            categories: of each image, as an index.
            draws: where dropout draws from, or None outside training.
            turn: entered while the codebooks are looked at and moved, image by image; None leaves them as they are.
        """
        quantised = self.quantise(self.encode(tokens, draws), categories, turn)
        return self.rebuild(self.decode(quantised.memories, draws), categories), quantised

    def encode(self, tokens: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the levels: the projected tokens and what each layer makes of them, (depth + 1, B, L, width)."""
        position, levels = self.position(), [self.input(tokens)]
        for layer in self.encoder:
            levels.append(layer(levels[-1], position, draws))
        return torch.stack([level.float() for level in levels])

    def quantise(
        self, levels: Tensor, categories: Sequence[int], turn: AbstractContextManager[None] | None = None
    ) -> Quantised:
        """Quantise the deepest level, then each other level beside the quantised deepest one.

        Gradients pass straight through from codes to tokens.

        Args:
            levels: (depth + 1, B, L, width), of `encode`.
            categories: as for `forward`.
            turn: as for `forward`.
        """
        with torch.autocast(levels.device.type, enabled=False):
            with turn or nullcontext(), torch.no_grad():
                top, lower, indices = self._codes(levels.detach(), categories, learn=turn is not None)
            deepest = _straight(levels[-1:], top)
            given = _beside(levels[:-1], deepest)
            passed = _straight(given, lower)
            latent = (top - levels[-1:]).square().mean() + (lower - given).square().mean(dim=(1, 2, 3)).sum()
        return Quantised(list(passed.flip(0)), latent, given[0], indices)

    def decode(self, memories: Sequence[Tensor], draws: Draws | None = None) -> Tensor:
        """Return what the decoder makes of the memories, the first of which it starts from, (B, L, 2 * width)."""
        position = self.position()
        position, x = torch.cat([position, position], dim=1), memories[0]
        for layer, memory in zip(self.decoder, memories, strict=True):
            x = layer(x, memory, position, draws)
        return self.norm(x)  # type: ignore[no-any-return]

    def rebuild(self, decoded: Tensor, categories: Sequence[int]) -> Tensor:
        """Return each image's tokens by the head of its category, (B, L, channels)."""
        return torch.stack([self.heads[category](x) for x, category in zip(decoded, categories, strict=True)])

    def prototype_scores(self, lowest: Tensor, categories: Sequence[int]) -> Tensor:
        """Return how unlike the codes of level 0 tokens are, from 0 to 2, (B, L): the authors' "OT" score.

        The mean of 1 - cosine(x, e_j) over the codes e_j, weighted by the softmax of x e_j / K, K codes.

        Args:
            lowest: (B, L, 2 * width), of `Quantised`.
            categories: as for `forward`.
        """
        codes = self.lower.codes[0, categories]
        weights = (lowest @ codes.transpose(1, 2) / codes.shape[1]).softmax(dim=2)  # torch takes the maximum off
        cosines = F.normalize(lowest, dim=2) @ F.normalize(codes, dim=2).transpose(1, 2)
        return ((1 - cosines) * weights).sum(dim=2)

    def _codes(
        self, levels: Tensor, categories: Sequence[int], *, learn: bool
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return the codes of the deepest level and of the others, and their indices; move them only then."""
        depth, images, length, width = len(levels) - 1, *levels.shape[1:]
        top, lower = levels.new_empty(1, images, length, width), levels.new_empty(depth, images, length, 2 * width)
        indices = torch.empty(depth + 1, images, length, dtype=torch.int64, device=levels.device)
        for places in rounds(categories) if learn else [list(range(images))]:
            chosen = [categories[place] for place in places]
            own = levels[:, places]
            found, top[:, places] = _quantised(self.top, own[-1:], chosen, learn=learn)
            given = _beside(own[:-1], top[:, places])
            others, lower[:, places] = _quantised(self.lower, given, chosen, learn=learn)
            indices[:, places] = torch.cat([others, found])
        return top, lower, (indices[-1:], indices[:-1])


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward block; normalised after each."""

    def __init__(self, settings: NetworkSettings, generator: torch.Generator) -> None:
        super().__init__()
        width, self.dropout = settings.width, settings.dropout
        self.attention = default_attention(width, settings.heads, generator, dropout=self.dropout, kind=Linear)
        self.ffn = FeedForward(width, settings, generator)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor, draws: Draws | None) -> Tensor:
        """Return the tokens after this layer, (B, L, width)."""
        placed = x + position
        x = self.norm1(x + _drop(self.attention(placed, placed, x, None, draws), self.dropout, draws))
        return self.norm2(x + _drop(self.ffn(x, draws), self.dropout, draws))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Self-attention, attention to a level's codes, then the feed-forward block; normalised after each."""

    def __init__(self, settings: NetworkSettings, generator: torch.Generator) -> None:
        super().__init__()
        width, self.dropout = 2 * settings.width, settings.dropout
        self.attention = default_attention(width, settings.heads, generator, dropout=self.dropout, kind=Linear)
        self.memory_attention = default_attention(width, settings.heads, generator, dropout=self.dropout, kind=Linear)
        self.ffn = FeedForward(width, settings, generator)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, position: Tensor, draws: Draws | None) -> Tensor:
        """Return the tokens after this layer, (B, L, 2 * width)."""
        placed = x + position
        x = self.norm1(x + _drop(self.attention(placed, placed, x, None, draws), self.dropout, draws))
        gathered = self.memory_attention(x + position, memory + position, memory, None, draws)
        x = self.norm2(x + _drop(gathered, self.dropout, draws))
        return self.norm3(x + _drop(self.ffn(x, draws), self.dropout, draws))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two linear layers with ReLU and dropout between."""

    def __init__(self, width: int, settings: NetworkSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.linear1 = default_linear(width, settings.ffn_width, generator, Linear)
        self.linear2 = default_linear(settings.ffn_width, width, generator, Linear)
        self.dropout = settings.dropout

    def forward(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Return what the block adds to `x`, before the dropout of the sum."""
        return self.linear2(_drop(self.linear1(x).relu(), self.dropout, draws))  # type: ignore[no-any-return]


def _quantised(
    codebooks: Codebooks, tokens: Tensor, categories: Sequence[int], *, learn: bool
) -> tuple[Tensor, Tensor]:
    """Return the indices and the codes of tokens as the codebooks are; then, with `learn`, move these."""
    indices = codebooks.nearest(tokens, categories)
    found = codebooks.look_up(indices, categories)
    if learn:
        codebooks.follow(tokens, indices, categories)
    return indices, found


def _straight(tokens: Tensor, codes: Tensor) -> Tensor:
    """Return the codes, to the last bit, with the gradient of the tokens (straight-through estimator)."""
    return codes + (tokens - tokens.detach())


def _beside(levels: Tensor, deepest: Tensor) -> Tensor:
    """Return each level's channels and, behind them, the deepest level's, (depth, B, L, 2 * width)."""
    return torch.cat([levels, deepest.expand(len(levels), -1, -1, -1)], dim=3)


def _drop(x: Tensor, probability: float, draws: Draws | None) -> Tensor:
    return x if draws is None else draws.dropout(x, probability)
