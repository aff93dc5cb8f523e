"""What Dinomaly minimises: a cosine over a whole image, with small gradients where points are rebuilt well already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""The tokens of patches that are to be rebuilt, and what was rebuilt, (B, N, C) each."""


def distances(target: Tensor, rebuilt: Tensor) -> Tensor:
    """Return 1 - cosine of each token, (B, N), in [0, 2]."""
    return 1 - F.cosine_similarity(target, rebuilt, dim=-1)


def mining_share(step: int, final: float, steps: int) -> float:
    """Return p of a step: from 0 in a straight line to `final` over `steps` steps, then there."""
    return min(final * step / steps, final) if steps else final


def loose_loss(
    pairs: Sequence[Pair], share: float, factor: float, gather: Callable[[Tensor], Tensor] = lambda values: values
) -> Tensor:
    """Return the mean over pairs and images of 1 - cosine, each over all tokens and channels of an image at once.

    In each pair, points nearer than the k-th largest distance of the whole batch, k = int(n (1 - share)) of n and at
    least 1, give `factor` of their gradient; the value is the same. (Dinomaly, section 3.4, and its code.)

    Args:
        pairs: of a shard of the batch.
        share: p, in [0, 1).
        factor: what is left of the gradient of such points.
        gather: returns the values (n, ...) of all shards of the batch, stacked.
    """
    with torch.no_grad():
        points = [distances(target, rebuilt.detach()) for target, rebuilt in pairs]
        everywhere = gather(torch.stack([point.flatten() for point in points], dim=1))
        hardest = max(int(len(everywhere) * (1 - share)), 1)
        thresholds = everywhere.topk(hardest, dim=0).values[-1]
    losses = []
    for (target, rebuilt), point, threshold in zip(pairs, points, thresholds, strict=True):
        scale = torch.where(point < threshold, factor, 1.0)[..., None]
        if rebuilt.requires_grad:
            rebuilt.register_hook(partial(torch.mul, scale))  # type: ignore[no-untyped-call]
        losses.append(distances(target.flatten(1), rebuilt.flatten(1)).mean())
    return torch.stack(losses).mean()
