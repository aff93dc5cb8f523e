"""Patches in the space of texts, and the probability that one is abnormal (LTAD, section 4, equations 4 and 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Projection = Literal["layers", "joint"]
Pooling = Literal["max", "mean"]


class SemanticProjections(nn.Module):
    """Linear maps of patches into the space of texts. 248,320 parameters for ALIGN's four layers.

    Args:
        channels: channels of each layer in a patch.
        dim: length of a text's vector.
        projection: "layers" maps each layer's part by itself and pools what comes of it; "joint" maps the whole patch.
        pooling: how the layers' vectors are joined, value by value.
    """

    def __init__(
        self, channels: Sequence[int], dim: int, projection: Projection = "layers", pooling: Pooling = "max"
    ) -> None:
        super().__init__()
        self.channels = list(channels) if projection == "layers" else [sum(channels)]
        self.pooling = pooling
        self.maps = nn.ModuleList(nn.Linear(count, dim) for count in self.channels)

    def forward(self, patches: Tensor) -> Tensor:
        """Return patches (B, N, sum of channels) in the space of texts, (B, N, dim)."""
        parts = torch.split(patches, self.channels, dim=-1)
        vectors = torch.stack([project(part) for project, part in zip(self.maps, parts, strict=True)])
        return vectors.amax(dim=0) if self.pooling == "max" else vectors.mean(dim=0)


class LearntTexts(nn.Module):
    """The vectors of "normal" and "abnormal" of each category as parameters, in place of a text encoder (row 8.2).

    Each category's are a parameter of its own: an optimiser leaves those that a step does not see as they are.

    Args:
        categories: how many.
        dim: length of a vector.
        seed: of the values before training, Gaussian with the deviation dim^-1/2; the paper does not say.
    """

    def __init__(self, categories: int, dim: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(categories, 2, dim, generator=generator) * dim**-0.5
        self.vectors = nn.ParameterList([nn.Parameter(pair.clone()) for pair in drawn])

    def forward(self, categories: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the normal and the abnormal vectors of some categories, (len(categories), dim) each."""
        pairs = torch.stack([self.vectors[category] for category in categories])
        return pairs[:, 0], pairs[:, 1]


def abnormal_logits(vectors: Tensor, normal: Tensor, abnormal: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the logits of "abnormal", (B, N): a softmax over two texts is a sigmoid of their difference.

    Args:
        vectors: patches in the space of texts, (B, N, D).
        normal: the normal text of each image, (B, D).
        abnormal: the abnormal text of each image, (B, D).
        temperature: tau.
    """
    return torch.einsum("bnd,bd->bn", vectors, abnormal - normal) / temperature


def semantic_loss(clean: Tensor, noised: Tensor) -> Tensor:
    """Return the binary cross-entropy of logits, the mean over clean patches (label 0) and noised ones (label 1).

    The paper's equation 8 has the second half only, which a constant would minimise; its text says "binary cross
    entropy".
    """
    return 0.5 * (nn.functional.softplus(clean).mean() + nn.functional.softplus(-noised).mean())
