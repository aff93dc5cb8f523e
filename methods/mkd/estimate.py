"""How much memory multiresolution knowledge distillation takes, from its networks and counts alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ltbench.blocks.features.pyramids import feature_network
from ltbench.blocks.features.room import maps_room
from ltbench.blocks.memory_bank.estimate import maps_bytes, network_bytes
from ltbench.blocks.training.estimate import Training, device_phases, phases
from ltbench.method import ImageCounts, MemoryEstimate

from .net import Student


def estimated(
    student: Student,
    backbone: str,
    layers: tuple[int, ...],
    side: int,
    batch_size: int,
    images: ImageCounts,
    copies: int,
) -> MemoryEstimate:
    """Return what features, training and scoring take; large arrays lie in files in any case.

    Args:
        student: on the device "meta".
        backbone: the teacher's name, as timm has it.
        layers: indices into its feature levels, ascending.
        side: of the images that both see, in pixels.
        batch_size: images of a step.
        images: how many there are.
        copies: noisy ones of one image that gradients are taken of at once; 0 where they are of a batch's images.
    """
    with torch.device("meta"):
        teacher = feature_network(backbone, layers, seed=0).eval().requires_grad_(requires_grad=False)

    def forward(count: int) -> list[Tensor]:
        return list(student(torch.empty(count, 3, side, side)))

    def score(count: int) -> object:
        """Go through both networks and back to the images."""
        seen = torch.empty(copies or count, 3, side, side, requires_grad=True)
        with torch.enable_grad():
            made = [*student(seen), *teacher(seen)]
            return torch.autograd.grad(torch.stack([own.square().mean() for own in made]).sum(), seen)

    trained, room = Training([student], [forward], batch_size, "one"), maps_room(backbone, layers, (side, side))
    features = network_bytes(backbone, layers, (side, side))
    found = phases(features, trained.step(), maps_bytes(images), images, batch_size)
    return MemoryEstimate(found, device=device_phases(trained, images, room, score=score))
