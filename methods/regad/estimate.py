"""How much memory RegAD takes, from its networks and counts alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ltbench.blocks.device_memory import FLOAT, Room
from ltbench.blocks.features.room import maps_room
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.training.estimate import Training, device_phases, phases
from ltbench.method import ImageCounts, MemoryEstimate

from .augmentation import VERSIONS
from .gaussians import CHUNK
from .net import Registration

LEVELS = (1, 2, 3)
"""The trunk's stages among timm's levels."""

_FACTORS = 6
"""Copies in float64 of the samples of some places, and of what whitens them, while they are factorised."""


def estimated(
    network: Registration,
    backbone: str,
    supports: int,
    batch_size: int,
    images: ImageCounts,
    *,
    group: int,
    apart: bool,
) -> MemoryEstimate:
    """Return what training and the Gaussians of a category take; nothing of it lies in files.

    Args:
        network: what is trained, on the device "meta".
        backbone: timm's name.
        supports: images of a category that its Gaussians are made of.
        batch_size: images of a step.
        images: how many there are.
        group: augmented supports that go through the network at once.
        apart: whether each category has a network of its own.
    """
    height, width = images.size

    def forward(count: int) -> list[Tensor]:
        queries = torch.empty(count, 3, height, width)
        return [network.loss(queries, torch.empty(count, supports, 3, height, width))]

    trained = Training([network], [forward], min(batch_size, max(images.train)), "one", "sgd")
    weights = FLOAT * sum(parameter.numel() for parameter in network.parameters())
    networks = weights * (len(images.train) - 1 if apart else 0)
    held, step = networks + 3 * height * width * sum(images.train), trained.step()
    room = maps_room(backbone, LEVELS, images.size)
    shown, values = VERSIONS * supports, sum(network.channels)
    places = (height // 4) * (width // 4)
    samples = FLOAT * shown * values * places
    at_once = torch.get_num_threads() * group * room.image
    gaussians = 3 * samples + FLOAT * 3 * shown * height * width + max(at_once, 2 * samples)
    name = f"Gaussians of {shown} versions"
    found = phases(held, step, maps_bytes(images), images, batch_size)
    # what training gave back the allocator keeps, in pieces that are too small
    found[name] = held + step + gaussians + maps_bytes(images)

    def score(count: int) -> object:
        """Let images through, with the Gaussians of their category, and measure distances."""
        there = torch.empty(places, shown + 1, values)
        with torch.no_grad():
            features = network.features(torch.empty(count, 3, height, width)).flatten(2).transpose(1, 2).contiguous()
            offset = features - there[:, 0]
            return torch.bmm(offset.transpose(0, 1), there[:, 1:].transpose(1, 2)).square(), offset.square()

    on_device = device_phases(trained, images, Room(networks), score=score)
    if images.batch:
        factors = 2 * FLOAT * _FACTORS * CHUNK * shown * values
        fitting = 3 * samples + 2 * FLOAT * 3 * shown * height * width + max(group * room.image, factors)
        on_device[name] = Room(networks + weights).of(0) + fitting
    return MemoryEstimate(found, device=on_device)
