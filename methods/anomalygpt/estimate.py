"""How much memory AnomalyGPT's decoder takes while it is trained, and its memory of normal images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ltbench.blocks.device_memory import FLOAT
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.training.estimate import Training, device_phases, phases
from ltbench.blocks.training.loop import SHARD
from ltbench.blocks.vision_language import Views
from ltbench.blocks.vision_language.estimate import reader_bytes, reader_room, reading_phases
from ltbench.blocks.vision_language.shapes import model_shape
from ltbench.method import ImageCounts, MemoryEstimate

from .decoder import AT_ONCE, Decoder, Grid, float32_logits, layer_loss

GRADIENTS = 4
"""Times of a block's decoded patches that their gradients take on the way back through normalisation to length 1."""


def estimated(
    model: str, blocks: tuple[int, ...], side: int, shots: int, batch_size: int, images: ImageCounts
) -> MemoryEstimate:
    """Return what reading, training and scoring take; training images' patches lie in files in any case.

    Args:
        model: name of the image-text model.
        blocks: whose patches are decoded, or kept.
        side: of the images that the model is given, in pixels.
        shots: normal images of a category that test images are compared with; 0 to train the decoder.
        batch_size: clean images of a step.
        images: how many there are.
    """
    size, views = (side, side), Views(tokens=blocks)
    reading, room = reader_bytes(model, size, views), reader_room(model, size, views)
    if shots:
        one, cosines = memory_bytes(model, blocks, size, shots)
        name = f"{max(images.test, default=0):,} maps from {shots} images of a category"
        kept = reading + one * (len(images.train) + 1)  # the last is there twice
        found = {name: kept + torch.get_num_threads() * cosines + maps_bytes(images)}
        return MemoryEstimate(found, device=reading_phases(room, images, kept=one * len(images.train) + 2 * cosines))
    trained = decoder(model, blocks, size, batch_size)
    step = trained.step() + reader_bytes(model, size, views, SHARD) - reading
    at_once = min(torch.get_num_threads() * SHARD, batch_size)
    shape = model_shape(model)
    most = max(shape.block(block, size).places for block in blocks)
    step += GRADIENTS * FLOAT * 2 * at_once * most * shape.dim
    found = phases(reading, step, maps_bytes(images), images, batch_size)
    on_device = device_phases(
        trained,
        images,
        room,
        beside=batch_size * room.image,  # altered copies are read in the step
        score=lambda count: trained.score(-(-count // 2)),  # of two images for each that is asked for
    )
    return MemoryEstimate(found, device=on_device)


def decoder(model: str, blocks: Sequence[int], size: Grid, batch_size: int) -> Training:
    """Return the training of the decoder on the patches of clean images and of an altered copy of each.

    Args:
        model: name of the image-text model.
        blocks: whose patches are decoded.
        size: (height, width) in pixels that the model is given.
        batch_size: clean images of a step.
    """
    shape = model_shape(model)
    patches = [shape.block(block, size) for block in blocks]
    with torch.device("meta"):
        network = Decoder([own.width for own in patches], shape.dim, seed=0)

    def forward(count: int) -> list[Tensor]:
        both, masks = 2 * count, torch.empty(2 * count, *size)
        texts = torch.empty(both, 2, shape.dim)
        tokens = [torch.empty(both, own.places, own.width) for own in patches]
        grids = [(own.height, own.length) for own in patches]
        logits = [float32_logits(one, texts, grid, size) for one, grid in zip(network(tokens), grids, strict=True)]
        return [layer_loss(own, masks) for own in logits]

    return Training([network], [forward], batch_size)


def memory_bytes(model: str, blocks: Sequence[int], size: Grid, images: int) -> tuple[int, int]:
    """Return the bytes of the patches of so many normal images, and of a test image's cosines with one of them.

    Args:
        model: name of the image-text model.
        blocks: whose patches are kept.
        size: (height, width) in pixels that the model is given.
        images: normal images of each category, of each of which there is one memory.
    """
    patches = [model_shape(model).block(block, size) for block in blocks]
    kept = FLOAT * images * sum(own.places * own.width for own in patches)
    rows = images * max(own.places for own in patches)
    return kept, FLOAT * AT_ONCE * rows
