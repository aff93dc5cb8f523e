"""Whether batches fit on a device, known before the first image is decoded."""

from __future__ import annotations

from ltbench.blocks.device import VARIABLE
from ltbench.blocks.device_memory import FLOAT, Room, free_bytes
from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.features.pyramids import map_shapes
from ltbench.blocks.features.transformers import MLP, TokenBackbone, token_shape
from ltbench.errors import SpecError, UnknownNameError


def maps_room(name: str, layers: tuple[int, ...], size: tuple[int, int]) -> Room:
    """Return an upper estimate of what a network of maps takes on a device, from its name.

    An image takes some copies of its largest map, and of the maps that are asked for, as `network_bytes` counts them.

    Args:
        name: timm's.
        layers: indices into its feature levels, ascending.
        size: (height, width) of the images.
    """
    shapes = map_shapes(name, layers, size)
    maps = sum(channels * height * width for channels, height, width in shapes.maps)
    return Room(FLOAT * shapes.parameter_count, FLOAT * (4 * shapes.largest + 6 * maps))


def tokens_room(name: str, layers: tuple[int, ...], size: tuple[int, int]) -> Room:
    """Return what `maps_room` does for a vision transformer, of whose tokens there are some copies."""
    shape = token_shape(name, layers)
    tokens = shape.prefix + (size[0] // shape.patch) * (size[1] // shape.patch)
    values = tokens * shape.width * (2 * len(layers) + 2 * MLP + 4) + tokens * tokens * shape.heads
    return Room(FLOAT * shape.parameters, FLOAT * values)


def backbone_room(backbone: Backbone, size: tuple[int, int]) -> Room | None:
    """Return what `maps_room` or `tokens_room` does for a backbone with weights; None for a network of one's own."""
    try:
        by_name = tokens_room if isinstance(backbone, TokenBackbone) else maps_room
        return by_name(backbone.name, backbone.layers, size)
    except (UnknownNameError, SpecError):
        return None


def check_room(backbone: Backbone, size: tuple[int, int]) -> None:
    """Raise SpecError if a device that has memory of its own has too little for a batch.

    Batches do not shrink by themselves: their shape is part of a result.
    """
    if backbone.device.type != "cuda":
        return
    # the backbone's own weights lie there already, and its room counts them
    free = free_bytes(backbone.device) + FLOAT * backbone.parameter_count
    if refusal := why_no_room(backbone, size, free):
        raise SpecError(refusal)


def why_no_room(backbone: Backbone, size: tuple[int, int], free: int) -> str:
    """Return why a batch does not fit in so many bytes and what does, or "" if it fits."""
    room = backbone_room(backbone, size)
    if room is None or room.of(backbone.batch) <= free:
        return ""
    fitting = backbone.batch
    while fitting and room.of(fitting) > free:
        fitting //= 2
    advice = f"Set {VARIABLE}={fitting}, or pass --device cpu" if fitting else "Pass --device cpu"
    return (
        f"Expected {room.of(backbone.batch) / 2**30:.1f} GiB free on {backbone.device} for batches of "
        f"{backbone.batch} images in {backbone.name}, got {free / 2**30:.1f} GiB. {advice}."
    )
