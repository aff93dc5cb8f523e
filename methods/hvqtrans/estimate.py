"""How much memory HVQ-Trans takes, from its networks and counts alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ltbench.blocks.features.room import maps_room
from ltbench.blocks.memory_bank.estimate import maps_bytes, network_bytes
from ltbench.blocks.training.estimate import UNDRAWN, Training, device_phases, phases
from ltbench.method import ImageCounts, MemoryEstimate

from .live import live_bytes
from .net import HVQNetwork


def estimated(
    network: HVQNetwork,
    tokens: tuple[int, int],
    backbone: str,
    layers: tuple[int, ...],
    batch_size: int,
    images: ImageCounts,
    *,
    live: bool,
) -> MemoryEstimate:
    """Return what features, training and scoring take.

    Args:
        network: what is trained, on the device "meta".
        tokens: of an image, and values of each.
        backbone: timm's name.
        layers: indices into its feature levels, ascending.
        batch_size: images of a step.
        images: how many there are.
        live: whether another backbone reads each batch in training mode.
    """

    def forward(count: int) -> list[Tensor]:
        levels = network.encode(torch.empty(count, *tokens), UNDRAWN)
        memories = list(torch.cat([levels, levels], dim=3)[1:])
        return [*memories, network.rebuild(network.decode(memories, UNDRAWN), [0] * count)]

    trained = Training([network], [forward], batch_size, "coupled")
    features, step = network_bytes(backbone, layers, images.size), trained.step()
    room, batch = maps_room(backbone, layers, images.size), 0
    if live:
        loaded, batch = live_bytes(backbone, layers, images.size, batch_size)
        features, step = features + loaded, step + batch
        room = room._replace(weights=2 * room.weights)
    found = phases(features, step, maps_bytes(images), images, batch_size)
    return MemoryEstimate(found, device=device_phases(trained, images, room, beside=batch))
