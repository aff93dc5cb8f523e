"""How much memory DRAEM takes, from its networks and counts alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ltbench.blocks.device_memory import Room
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.training.estimate import Training, device_phases, kept_bytes, phases
from ltbench.method import ImageCounts, MemoryEstimate

from .net import Draem


def estimated(network: Draem, side: int, batch_size: int, images: ImageCounts, *, per_category: bool) -> MemoryEstimate:
    """Return what features, training and scoring take.

    Args:
        network: both networks, in training mode, on the device "meta".
        side: of the images that they see, in pixels.
        batch_size: images of a step.
        images: how many there are.
        per_category: whether each category has networks of its own.
    """

    def forward(count: int) -> list[Tensor]:
        return list(network(torch.empty(count, 3, side, side)))

    trained = Training([network], [forward], batch_size, "one")
    others = trained.weights * (len(images.train) - 1 if per_category else 0)
    decoded = 3 * (images.size[0] * images.size[1] + side**2)  # one image; all lie in a file
    scoring = torch.get_num_threads() * kept_bytes(lambda: forward(1)) + maps_bytes(images)
    found = phases(others + decoded, trained.step(), scoring, images, batch_size)
    return MemoryEstimate(found, device=device_phases(trained, images, Room(others)))
