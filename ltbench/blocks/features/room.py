"""Whether a batch fits on a device, known before the first image is decoded."""

from __future__ import annotations

import torch

from ltbench.blocks.device import VARIABLE
from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.features.pyramids import map_shapes
from ltbench.blocks.features.transformers import MLP, TokenBackbone
from ltbench.errors import SpecError, UnknownNameError

FLOAT = 4
"""Bytes of a float32."""

WORKSPACE = 2**29
"""Bytes beside the tensors: the context, the libraries' kernels and cuDNN's work areas."""


def device_bytes(backbone: Backbone, size: tuple[int, int], batch: int) -> int | None:
    """Return an upper estimate of what a batch takes on a device, weights included; None for a network of one's own.

    Of a network of maps an image takes some copies of its largest map; of a vision transformer, those of its tokens,
    as `network_bytes` and `transformer_bytes` count them on a CPU.

    Args:
        backbone: with its weights.
        size: (height, width) of the images.
        batch: how many go together.
    """
    if isinstance(backbone, TokenBackbone):
        tokens = backbone.prefix + (size[0] // backbone.patch) * (size[1] // backbone.patch)
        width, taken = backbone.channels[0], len(backbone.layers)
        attention = tokens * tokens * backbone.heads
        image = tokens * width * (2 * taken + 2 * MLP + 4) + attention
    else:
        try:
            shapes = map_shapes(backbone.name, backbone.layers, size)
        except (UnknownNameError, SpecError):
            return None
        image = 4 * shapes.largest + 6 * sum(channels * height * width for channels, height, width in shapes.maps)
    return WORKSPACE + FLOAT * (backbone.parameter_count + batch * image)


def check_room(backbone: Backbone, size: tuple[int, int]) -> None:
    """Raise SpecError if a device that has memory of its own has too little for a batch.

    Batches do not shrink by themselves: their shape is part of a result.
    """
    if backbone.device.type != "cuda":
        return
    device = backbone.device
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    # the backbone's own weights lie there already, and `device_bytes` counts them
    free = torch.cuda.mem_get_info(device)[0] + unused + FLOAT * backbone.parameter_count
    if refusal := why_no_room(backbone, size, free):
        raise SpecError(refusal)


def why_no_room(backbone: Backbone, size: tuple[int, int], free: int) -> str:
    """Return why a batch does not fit in so many bytes and what does, or "" if it fits."""
    needed = device_bytes(backbone, size, backbone.batch)
    if needed is None or needed <= free:
        return ""
    fitting = backbone.batch
    while fitting and (device_bytes(backbone, size, fitting) or 0) > free:
        fitting //= 2
    advice = f"Set {VARIABLE}={fitting}, or pass --device cpu" if fitting else "Pass --device cpu"
    return (
        f"Expected {needed / 2**30:.1f} GiB free on {backbone.device} for batches of {backbone.batch} images in "
        f"{backbone.name}, got {free / 2**30:.1f} GiB. {advice}."
    )
