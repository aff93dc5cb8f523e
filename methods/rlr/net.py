"""RLR's network for one feature level: tokens are rebuilt from a learnt reference of the same size.

There is no way around attention: a layer never adds its input to its output.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.networks.attention import Grid, blocking, default_attention, default_linear, neighbours
from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError

WINDOWS = {14: 5, 16: 5, 28: 7, 32: 7, 64: 11}
"""Side of the local window by side of the grid: 16, 32 and 64 are the authors', 14 and 28 lie between them."""

PERIOD = 10_000.0
"""Of the position code, as in "Attention is all you need"."""


def window_of(grid: Grid) -> int:
    """Return the side of the local window for a grid.

    Raises:
        SpecError: a grid that the authors' code does not know.
    """
    if grid[0] != grid[1] or grid[0] not in WINDOWS:
        raise SpecError(
            f"Expected a square grid of side {', '.join(map(str, WINDOWS))}, got {grid[0]}x{grid[1]}. "
            "Give the windows' sides: -p windows=[7,5]."
        )
    return WINDOWS[grid[0]]


def position_code(grid: Grid, width: int) -> Tensor:
    """Return sines and cosines of columns, then of rows, (h * w, width): in each half they take turns.

    Args:
        grid: (height, width) in tokens; positions are whole numbers from 0.
        width: channels, a multiple of 4.

    Raises:
        SpecError: another width.
    """
    if width % 4:
        raise SpecError(f"Expected a width that 4 divides, got {width}. Change the width.")
    half = width // 2
    frequencies = torch.exp(torch.arange(0, half, 2) * (-math.log(PERIOD) / half))

    def code(length: int) -> Tensor:
        angles = torch.arange(length)[:, None] * frequencies
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)

    columns = code(grid[1])[None].expand(grid[0], -1, -1)
    rows = code(grid[0])[:, None].expand(-1, grid[1], -1)
    return torch.cat([columns, rows], dim=2).flatten(0, 1)


class ReferenceNetwork(nn.Module):
    """Rebuilds the tokens of one level. For 72 channels on 32x32 with width 256 and 4 layers 4,341,832 parameters.

    Args:
        channels: channels of a token.
        grid: (height, width) of the level in tokens.
        width: channels inside, a multiple of 4 and of `heads`.
        depth: layers.
        heads: heads of each attention.
        window: side of the local window in tokens.
        weights: factors of the two attentions, local over the reference and beyond the window.
        generator: where the initial weights are drawn from.
    """

    def __init__(
        self,
        channels: int,
        grid: Grid,
        *,
        width: int,
        depth: int,
        heads: int,
        window: int,
        weights: tuple[float, float],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.reference = nn.Parameter(torch.randn(1, grid[0] * grid[1], channels, generator=generator))
        self.token_embedding = Embedding(channels, width, grid, generator)
        self.reference_embedding = Embedding(channels, width, grid, generator)
        self.layers = nn.ModuleList(
            ReferenceLayer(width, heads, neighbours(grid, window), weights, generator) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = default_linear(width, channels, generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens rebuilt, (B, L, channels), from (B, L, channels), row by row."""
        reference = self.reference_embedding(self.reference)
        x = self.token_embedding(tokens)
        for layer in self.layers:
            x = layer(x, reference)
        return self.projection(self.norm(x))  # type: ignore[no-any-return]


class Embedding(nn.Module):
    """A linear map of each token, plus the code of its position."""

    position: Tensor

    def __init__(self, channels: int, width: int, grid: Grid, generator: torch.Generator) -> None:
        super().__init__()
        self.project = default_linear(channels, width, generator)
        nn.init.normal_(self.project.weight, std=math.sqrt(2 / channels), generator=generator)  # Kaiming, fan in
        self.register_buffer("position", position_code(grid, width), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, L, width) from (B, L, channels)."""
        return self.project(tokens) + self.position  # type: ignore[no-any-return]


class ReferenceLayer(nn.Module):
    """Attention to the reference near each token (LCA), and to the other tokens by the reference's keys (MLKA).

    Args:
        width: channels.
        heads: heads of each attention.
        near: (L, L) which places are in one another's window.
        weights: factors of LCA and MLKA.
        generator: where the initial weights are drawn from.
    """

    lca_mask: Tensor
    mlka_mask: Tensor

    def __init__(
        self, width: int, heads: int, near: Tensor, weights: tuple[float, float], generator: torch.Generator
    ) -> None:
        super().__init__()
        self.weights = weights
        self.lca, self.mlka = (default_attention(width, heads, generator) for _ in range(2))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1 = default_linear(width, 4 * width, generator)
        self.fc2 = default_linear(4 * width, width, generator)
        self.register_buffer("lca_mask", blocking(~near), persistent=False)
        self.register_buffer("mlka_mask", blocking(near), persistent=False)

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """Return the tokens after this layer, (B, L, width).

        Args:
            x: (B, L, width).
            reference: (1, L, width), embedded.
        """
        local = self.lca(x, reference, reference, self.lca_mask)
        beyond = self.mlka(x, reference, x, self.mlka_mask)
        y = self.norm1(self.weights[0] * local + self.weights[1] * beyond)
        return self.norm2(y + self.fc2(F.gelu(self.fc1(y))))  # type: ignore[no-any-return]


def differences(rebuilt: Tensor, clean: Tensor) -> Tensor:
    """Return each token's mean squared difference plus one minus its cosine, (B, L): the loss and the score."""
    squared = (rebuilt - clean).square().mean(dim=2)
    return squared + 1 - F.cosine_similarity(rebuilt, clean, dim=2)


def corrupted_tokens(shape: tuple[int, int], kept: int, draws: Draws) -> Tensor:
    """Return which tokens are corrupted, (B, L, 1) ones and zeros: all but `kept` of each image."""
    images, tokens = shape
    corrupted = torch.ones(images, tokens, 1, device=draws.device)
    for image in corrupted if kept else ():
        image[draws.subset(tokens, kept)] = 0
    return corrupted
