"""Attention with masks by position on a grid, and dropout that draws from a generator of its own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.networks.linear import Linear, trained_linear
from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError

Grid = tuple[int, int]


def neighbours(grid: Grid, side: int) -> Tensor:
    """Return which places of a grid are neighbours: at most side // 2 rows and columns apart, themselves included.

    An even side counts like the next odd one, as in UniAD's code.

    Args:
        grid: (height, width) in places.
        side: side of the square neighbourhood, in places, at least 1.

    Returns:
        (h * w, h * w) truths, symmetric; places are counted row by row.
    """
    height, width = grid
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    near_rows = (rows[:, None] - rows).abs() <= side // 2
    near_columns = (columns[:, None] - columns).abs() <= side // 2
    return near_rows & near_columns


def blocking(blocked: Tensor) -> Tensor:
    """Return the additive mask of attention, 0 where open and -inf where blocked, float32.

    Args:
        blocked: (queries, keys) truths.

    Raises:
        SpecError: a query without an open key, whose attention would be undefined.
    """
    if blocked.all(dim=1).any():
        raise SpecError("Expected an open key for every query, got a mask that blocks all of them. Lower its side.")
    return torch.zeros(blocked.shape).masked_fill(blocked, -math.inf)


def neighbour_mask(grid: Grid, side: int) -> Tensor:
    """Return the additive mask that hides each place's neighbourhood, itself included, from it (UniAD, section 3.3)."""
    return blocking(neighbours(grid, side))


def undrawn_linear(inputs: int, outputs: int, kind: type[nn.Linear] = nn.Linear) -> nn.Linear:
    """Return a linear layer without values, on the default device: torch would draw them from the global generator."""
    device = torch.get_default_device()
    layer: nn.Linear = nn.utils.skip_init(kind, inputs, outputs, device=device)  # type: ignore[no-untyped-call]
    return layer


def xavier_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with Xavier-uniform weights and zero biases, drawn from `generator`."""
    layer = undrawn_linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def default_linear(
    inputs: int, outputs: int, generator: torch.Generator, kind: type[nn.Linear] = nn.Linear
) -> nn.Linear:
    """Return a linear layer with torch's initial values, U(-1/sqrt(inputs), 1/sqrt(inputs)), from `generator`."""
    layer = undrawn_linear(inputs, outputs, kind)
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
    return layer


def default_attention(
    width: int, heads: int, generator: torch.Generator, *, dropout: float = 0.0, kind: type[nn.Linear] = nn.Linear
) -> MultiheadAttention:
    """Return attention with the initial values of torch.nn.MultiheadAttention, from `generator`."""
    output = default_linear(width, width, generator, kind)
    nn.init.zeros_(output.bias)
    return MultiheadAttention(width, heads, dropout, output, generator)


class MultiheadAttention(nn.Module):
    """Multi-head attention as torch.nn.MultiheadAttention computes it, with the same parameters, batch first.

    Args:
        width: channels of queries, keys, values and output.
        heads: number of heads; they share the channels out.
        dropout: probability with which a weight of attention is dropped in training.
        output: the last linear layer; the other projections are computed as it is.
        generator: where the other weights are drawn from (Xavier-uniform over the stacked matrix, as torch's).
    """

    def __init__(self, width: int, heads: int, dropout: float, output: nn.Linear, generator: torch.Generator) -> None:
        super().__init__()
        if width % heads:
            raise SpecError(f"Expected a width that {heads} heads divide, got {width}. Change one of them.")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = output
        nn.init.xavier_uniform_(self.in_proj_weight, generator=generator)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, draws: Draws | None = None
    ) -> Tensor:
        """Return what each query gathers.

        Args:
            query: (B, L, width), or (1, L, width) for the same queries in all images.
            key: (B, S, width), or (1, S, width).
            value: (B, S, width), or (1, S, width).
            mask: (L, S), added to the scores; or None.
            draws: where dropout draws from, or None outside training.

        Returns:
            (B, L, width).
        """
        batch = max(len(query), len(key), len(value))
        project = trained_linear if isinstance(self.out_proj, Linear) else F.linear
        projected = (
            project(x, self.in_proj_weight[part], self.in_proj_bias[part])
            for x, part in zip((query, key, value), self._parts, strict=True)
        )
        q, k, v = (self._split(x).expand(batch, -1, -1, -1) for x in projected)
        if draws is None or self.dropout == 0:
            added = None if mask is None else mask.to(q.dtype)
            gathered = F.scaled_dot_product_attention(q, k, v, attn_mask=added)
        else:
            gathered = self._gathered(q, k, v, mask, draws)
        return self.out_proj(gathered.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _gathered(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, draws: Draws) -> Tensor:
        """Return attention with dropout on its weights, (B, heads, L, width / heads)."""
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        added = q.new_zeros(()) if mask is None else mask.to(q.dtype)
        scores = torch.baddbmm(added, q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)
        weights = draws.dropout(scores.softmax(dim=-1), self.dropout)
        gathered = torch.bmm(weights.to(v.dtype), v)
        return gathered.view(-1, self.heads, *gathered.shape[1:])

    def _split(self, x: Tensor) -> Tensor:
        """Return (B, L, width) as (B, heads, L, width / heads)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    @property
    def _parts(self) -> tuple[slice, slice, slice]:
        return slice(self.width), slice(self.width, 2 * self.width), slice(2 * self.width, None)
