"""UniAD's network (You et al., NeurIPS 2022): an encoder that may not look at neighbours, and a decoder with queries.

A token is rebuilt from tokens outside its neighbourhood, and every decoder layer starts from queries of its own, so
that copying the input through is hard.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ltbench.blocks.networks.attention import Grid, MultiheadAttention, neighbour_mask, xavier_linear
from ltbench.blocks.training.draws import Draws


class Reconstruction(nn.Module):
    """Rebuilds the tokens of a feature map. With the defaults 7,717,392 parameters for 272 channels.

    Args:
        channels: channels of a token.
        grid: (height, width) of the map in tokens.
        width: channels inside.
        layers: layers of the encoder, and of the decoder.
        heads: heads of each attention.
        ffn_width: channels inside the feed-forward blocks.
        dropout: probability of dropout in training, of attention weights and of what each block adds.
        mask_side: side of the neighbourhood that attention may not look at, in tokens.
        seed: seed of the initial weights.

    Raises:
        SpecError: a neighbourhood that leaves no token to look at, or a width that the heads do not divide.
    """

    mask: Tensor

    def __init__(
        self,
        channels: int,
        grid: Grid,
        *,
        width: int = 256,
        layers: int = 4,
        heads: int = 8,
        ffn_width: int = 1024,
        dropout: float = 0.1,
        mask_side: int = 7,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        block = _Settings(width, heads, ffn_width, dropout, grid[0] * grid[1], generator)
        self.input = xavier_linear(channels, width, generator)
        self.output = xavier_linear(width, channels, generator)
        self.position = PositionTable(grid, width, generator)
        # The authors' layers are copies of one, of which only the linear layers are drawn anew.
        self.encoder = nn.ModuleList(_redrawn(EncoderLayer(block), layers, generator))
        self.decoder = nn.ModuleList(_redrawn(DecoderLayer(block), layers, generator))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("mask", neighbour_mask(grid, mask_side), persistent=False)

    def forward(self, tokens: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the tokens rebuilt, (B, L, channels).

        Args:
            tokens: (B, L, channels), row by row.
            draws: where dropout draws from, or None outside training.
        """
        position = self.position()
        memory = self.input(tokens)
        for layer in self.encoder:
            memory = layer(memory, position, self.mask, draws)
        rebuilt = memory
        for layer in self.decoder:
            rebuilt = layer(rebuilt, memory, position, self.mask, draws)
        return self.output(self.norm(rebuilt))  # type: ignore[no-any-return]


class PositionTable(nn.Module):
    """Learnt embeddings of rows and columns: the first half of the channels says the column, the second the row."""

    def __init__(self, grid: Grid, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.rand(grid[0], width - width // 2, generator=generator))
        self.columns = nn.Parameter(torch.rand(grid[1], width // 2, generator=generator))

    def forward(self) -> Tensor:
        """Return the embedding of every place, (h * w, width), row by row."""
        height, width = len(self.rows), len(self.columns)
        columns = self.columns[None].expand(height, -1, -1)
        rows = self.rows[:, None].expand(-1, width, -1)
        return torch.cat([columns, rows], dim=2).flatten(0, 1)


class _Settings:
    """What every layer is made from."""

    def __init__(
        self, width: int, heads: int, ffn_width: int, dropout: float, tokens: int, generator: torch.Generator
    ) -> None:
        self.width, self.ffn_width, self.dropout, self.tokens = width, ffn_width, dropout, tokens
        self.heads, self.generator = heads, generator

    def attention(self) -> MultiheadAttention:
        output = xavier_linear(self.width, self.width, self.generator)
        return MultiheadAttention(self.width, self.heads, self.dropout, output, self.generator)

    def feed_forward(self) -> FeedForward:
        return FeedForward(self.width, self.ffn_width, self.dropout, self.generator)


class FeedForward(nn.Module):
    """Two linear layers with ReLU and dropout between."""

    def __init__(self, width: int, ffn_width: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.linear1 = xavier_linear(width, ffn_width, generator)
        self.linear2 = xavier_linear(ffn_width, width, generator)
        self.dropout = dropout

    def forward(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Return what the block adds to `x`, before the dropout of the sum."""
        return self.linear2(_drop(self.linear1(x).relu(), self.dropout, draws))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Self-attention that may not look at neighbours, then the feed-forward block; normalised after each."""

    def __init__(self, block: _Settings) -> None:
        super().__init__()
        self.attention = block.attention()
        self.ffn = block.feed_forward()
        self.norm1, self.norm2 = nn.LayerNorm(block.width), nn.LayerNorm(block.width)
        self.dropout = block.dropout

    def forward(self, x: Tensor, position: Tensor, mask: Tensor, draws: Draws | None) -> Tensor:
        """Return the tokens after this layer, (B, L, width)."""
        placed = x + position
        x = self.norm1(x + _drop(self.attention(placed, placed, x, mask, draws), self.dropout, draws))
        return self.norm2(x + _drop(self.ffn(x, draws), self.dropout, draws))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Own queries gather from the encoder's tokens, then from the previous layer's; the input itself is never added."""

    def __init__(self, block: _Settings) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(block.tokens, block.width, generator=block.generator))
        self.memory_attention = block.attention()
        self.output_attention = block.attention()
        self.ffn = block.feed_forward()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(block.width) for _ in range(3))
        self.dropout = block.dropout

    def forward(self, previous: Tensor, memory: Tensor, position: Tensor, mask: Tensor, draws: Draws | None) -> Tensor:
        """Return the tokens after this layer, (B, L, width).

        Args:
            previous: what the layer before returned, the encoder's tokens for the first.
            memory: the encoder's tokens.
            position: of `PositionTable`, added to queries and keys.
            mask: added to the scores of attention.
            draws: where dropout draws from, or None.
        """
        queries = self.queries[None]
        gathered = self.memory_attention(queries + position, memory + position, memory, mask, draws)
        x = self.norm1(queries + _drop(gathered, self.dropout, draws))
        gathered = self.output_attention(x + position, previous + position, previous, mask, draws)
        x = self.norm2(x + _drop(gathered, self.dropout, draws))
        return self.norm3(x + _drop(self.ffn(x, draws), self.dropout, draws))  # type: ignore[no-any-return]


def _redrawn(layer: nn.Module, count: int, generator: torch.Generator) -> list[nn.Module]:
    """Return copies of a layer with linear weights of their own."""
    copies = [copy.deepcopy(layer) for _ in range(count)]
    for made in copies:
        for module in made.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
    return copies


def _drop(x: Tensor, probability: float, draws: Draws | None) -> Tensor:
    return x if draws is None else draws.dropout(x, probability)
