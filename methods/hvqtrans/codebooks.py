"""Codebooks of several levels and categories that follow what they are shown by moving averages (EMA).

The rule is that of van den Oord et al., *Neural Discrete Representation Learning*, arXiv:1711.00937, appendix A.1, as
RuiyingLu/HVQ-Trans starts it: counts from zero, sums from the codes. A code without tokens is then blown up by the
first update, about 99,000 times, and takes part again once its average has shrunk back (README.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to every count, relative to their sum (Laplace smoothing)."""


class Codebooks(nn.Module):
    """One codebook for each level and category; they are buffers, which no gradient reaches.

    Args:
        levels: number of levels, V.
        categories: number of categories.
        count: codes of a codebook, K.
        width: channels of a code, D.
        decay: share of a moving average that an update leaves.
        generator: where the codes are drawn from, N(0, 1).

    Attributes:
        codes: (V, categories, K, D).
        sums: moving average of the sum of the tokens of each code, (V, categories, K, D).
        counts: moving average of their number, (V, categories, K).
    """

    codes: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(
        self, levels: int, categories: int, count: int, width: int, decay: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.decay = decay
        codes = torch.randn(levels, categories, count, width, generator=generator)
        self.register_buffer("codes", codes)
        self.register_buffer("sums", codes.clone())
        self.register_buffer("counts", torch.zeros(levels, categories, count))

    def nearest(self, tokens: Tensor, categories: Sequence[int]) -> Tensor:
        """Return the index of each token's nearest code by Euclidean distance, (V, B, L).

        Args:
            tokens: (V, B, L, D).
            categories: of each of the B images.
        """
        codes = self.codes[:, categories]
        # The token's own norm is left out: it is the same for all codes.
        products = torch.matmul(tokens, codes.transpose(2, 3))
        return (codes.square().sum(dim=3)[:, :, None] - 2 * products).argmin(dim=3)

    def look_up(self, indices: Tensor, categories: Sequence[int]) -> Tensor:
        """Return the codes of (V, B, L) indices, (V, B, L, D)."""
        codes = self.codes[:, categories]
        return codes.gather(2, indices[..., None].expand(*indices.shape, codes.shape[3]))

    def follow(self, tokens: Tensor, indices: Tensor, categories: Sequence[int]) -> None:
        """Move the codebooks of several images at once towards their tokens; the images' categories must differ.

        n <- d n + (1 - d) count; m <- d m + (1 - d) sum; code <- m / n', n' = (n + eps) / (S + K eps) S.
        S is the sum of n.

        Args:
            tokens: (V, B, L, D).
            indices: (V, B, L), of `nearest`.
            categories: of each of the B images.
        """
        count = self.codes.shape[2]
        totals, sums = _tokens_by_code(tokens, indices, count)
        counts = self.counts[:, categories] * self.decay + totals * (1 - self.decay)
        sums = self.sums[:, categories] * self.decay + sums * (1 - self.decay)
        size = counts.sum(dim=2, keepdim=True)
        smoothed = (counts + EPSILON) / (size + count * EPSILON) * size
        self.counts[:, categories] = counts
        self.sums[:, categories] = sums
        self.codes[:, categories] = sums / smoothed[..., None]

    def start(self, level: int, category: int, codes: Tensor) -> None:
        """Let a codebook start from codes (K, D), as if each had had one token so far."""
        self.codes[level, category] = codes
        self.sums[level, category] = codes
        self.counts[level, category] = 1.0


def rounds(categories: Sequence[int]) -> list[list[int]]:
    """Return places of images to be learnt from together: no category twice in a round, its images in order.

    Codebooks of different categories know nothing of one another, so that rounds give what one image after the
    other gives.
    """
    result: list[list[int]] = []
    for place, category in enumerate(categories):
        earlier = sum(other == category for other in categories[:place])
        result.extend([[]] if earlier == len(result) else [])
        result[earlier].append(place)
    return result


def clustered(tokens: Tensor, count: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Return `count` of the tokens, or the means of the clusters that they are seeds of (Lloyd's algorithm).

    Args:
        tokens: (N, D); with fewer than `count` some are taken more than once.
        count: K.
        iterations: of Lloyd's algorithm; 0 for the tokens themselves. A cluster without tokens stays where it is.
        generator: which tokens.
    """
    order = torch.randperm(len(tokens), generator=generator).to(tokens.device)
    centres = tokens[order.repeat(-(-count // len(tokens)))[:count]]
    for _ in range(iterations):
        indices = (centres.square().sum(dim=1) - 2 * tokens @ centres.T).argmin(dim=1)
        totals, sums = _tokens_by_code(tokens[None, None], indices[None, None], count)
        filled = totals[0, 0, :, None] > 0
        centres = torch.where(filled, sums[0, 0] / totals[0, 0, :, None].clamp(min=1), centres)
    return centres


def _tokens_by_code(tokens: Tensor, indices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return how many tokens each code has, (V, B, K), and their sum, (V, B, K, D); on a CPU in the tokens' order."""
    levels, images, _, width = tokens.shape
    if tokens.device.type != "cpu":  # adding by index is in no fixed order there
        members = F.one_hot(indices, count).to(tokens.dtype)
        return members.sum(dim=2), members.transpose(2, 3) @ tokens
    books = torch.arange(levels * images).view(levels, images, 1) * count
    places = (indices + books).flatten()
    totals = torch.bincount(places, minlength=levels * images * count).to(tokens.dtype)
    sums = tokens.new_zeros(levels * images * count, width).index_add_(0, places, tokens.flatten(0, 2))
    return totals.view(levels, images, count), sums.view(levels, images, count, width)
