"""Codebooks that start from the training images instead of from N(0, 1): ours, for trainings of few updates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.switches import reproducible

from .codebooks import clustered
from .net import HVQNetwork

IMAGES = 16
"""Images of a category that codes start from: 196 tokens each are several times the usual number of codes."""

ITERATIONS = 10
"""Of Lloyd's algorithm with codebook_start=kmeans."""


def start_from_tokens(
    network: HVQNetwork,
    tokens: NDArray[np.float32],
    scale: float,
    categories: Sequence[int],
    *,
    iterations: int,
    seed: int,
) -> None:
    """Let each codebook start from what the untrained encoder makes of some of its category's images.

    The deepest level goes first, since the others are quantised beside its codes.

    Args:
        network: untrained.
        tokens: (N, L, C), of all training images.
        scale: what they are divided by.
        categories: of each of them, as an index.
        iterations: of Lloyd's algorithm.
        seed: which images and tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    device = network.norm.weight.device
    count = network.lower.codes.shape[2]
    for category in sorted(set(categories)):
        members = np.flatnonzero(np.asarray(categories) == category)
        chosen = members[torch.randperm(len(members), generator=generator)[:IMAGES].sort().values.numpy()]
        with torch.no_grad(), reproducible(device):
            levels = network.encode(torch.tensor(tokens[chosen], device=device) / scale)
            network.top.start(0, category, _codes(levels[-1], count, iterations, generator))
            own = [category] * len(chosen)
            found = network.top.look_up(network.top.nearest(levels[-1:], own), own)
            for level, given in enumerate(levels[:-1]):
                given = torch.cat([given, found[0]], dim=2)
                network.lower.start(level, category, _codes(given, count, iterations, generator))


def _codes(tokens: Tensor, count: int, iterations: int, generator: torch.Generator) -> Tensor:
    return clustered(tokens.flatten(0, 1), count, iterations, generator)
