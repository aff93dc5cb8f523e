"""MKD's student, and by how much it differs from its teacher.

Source: section 3 of the paper and the authors' code (rohban-lab/Knowledge_Distillation_AD).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

COMPARED = 4
"""Layers that are compared in training: the outputs of the second to the fifth pool."""

SCORED = 3
"""How many of them, the last ones, make a score."""

STRIDE = 32
"""The student halves its input five times."""

Layers = Sequence[Tensor]
"""(B, C, h, w) of each compared layer."""


class Student(nn.Module):
    """A VGG-like network of 13 convolutions, thin but for the layers that are compared.

    Convolutions are 3x3 without bias. Each is followed by batch normalisation and ReLU, but for the one before each
    pool, which has ReLU alone.

    Args:
        channels: of the four compared layers, those of the teacher; (128, 256, 512, 512) in the paper.
        width: channels of all other layers; 16 in the paper.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        second, *others = channels
        stages = [(width, width), (width, second), *((width, width, count) for count in others)]
        modules: list[nn.Module] = []
        given = 3
        for stage in stages:
            for place, made in enumerate(stage, 1):
                modules.append(nn.Conv2d(given, made, 3, padding=1, bias=False))
                modules += [nn.BatchNorm2d(made)] if place < len(stage) else []
                modules.append(nn.ReLU())
                given = made
            modules.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*modules)

    def forward(self, images: Tensor, *, guided: bool = False) -> Layers:
        """Return the compared layers of images (B, 3, H, W).

        Args:
            images: as the teacher sees them.
            guided: whether gradients pass a ReLU only where they are positive (`GuidedReLU`).
        """
        pools: list[Tensor] = []
        x = images
        for module in self.features:
            x = guided_relu(x) if guided and isinstance(module, nn.ReLU) else module(x)
            if isinstance(module, nn.MaxPool2d):
                pools.append(x)
        return pools[-COMPARED:]

    def draw_weights(self, seed: int) -> None:
        """Draw the convolutions' weights anew, from Glorot's uniform distribution."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, generator=generator)


class GuidedReLU(torch.autograd.Function):
    """ReLU whose gradient passes where both the output and the gradient are positive (Springenberg et al., 2015)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return max(x, 0)."""
        made = x.clamp(min=0)
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient where it and the output are positive, else 0."""
        made: Tensor = ctx.saved_tensors[0]
        return gradient * (made > 0) * (gradient > 0)


def guided_relu(x: Tensor) -> Tensor:
    """Return max(x, 0), with the guided rule for gradients."""
    return cast(Tensor, GuidedReLU.apply(x))


def discrepancies(student: Layers, teacher: Layers, value_weight: float) -> Tensor:
    """Return by how much the student differs on each image, (B): 1 - cosine + lambda x mean square, over layers.

    A layer of an image is one vector: its direction counts by one cosine, its values by their mean squared difference.

    Args:
        student: (B, C, h, w) of each layer.
        teacher: the same.
        value_weight: lambda; 0 leaves directions alone.
    """
    total = torch.zeros(len(student[0]), device=student[0].device)
    for own, wanted in zip(student, teacher, strict=True):
        one, other = own.flatten(1), wanted.flatten(1)
        total = total + (1 - F.cosine_similarity(one, other, dim=1, eps=1e-8))
        if value_weight:
            total = total + value_weight * (one - other).square().mean(dim=1)
    return total
