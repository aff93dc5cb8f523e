"""Patches in the space of texts, and the probability that one is abnormal (LTAD, section 4.3, equations 4 and 8)."""

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
