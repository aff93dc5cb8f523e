"""How much memory AnomalyGPT's decoder takes while it is trained, and its memory of normal images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ltbench.blocks.training.estimate import FLOAT, training_bytes
from ltbench.blocks.training.loop import SHARD
from ltbench.blocks.vision_language import Views
from ltbench.blocks.vision_language.estimate import reader_bytes
from ltbench.blocks.vision_language.shapes import model_shape

from .decoder import AT_ONCE, Decoder, Grid, float32_logits, layer_loss

GRADIENTS = 4
"""Times of a block's decoded patches that their gradients take on the way back through normalisation to length 1."""


def decoder_bytes(model: str, blocks: Sequence[int], size: Grid, batch_size: int) -> int:
    """Return the bytes of a training step beside those of a model that reads one image a thread.

    Clean images come with an altered copy each, which the model reads in the step.

    Args:
        model: name of the image-text model.
        blocks: whose patches are decoded.
        size: (height, width) in pixels that the model is given.
        batch_size: clean images of a step.
    """
    shape = model_shape(model)
    patches = [shape.block(block, size) for block in blocks]
    with torch.device("meta"):
        decoder = Decoder([own.width for own in patches], shape.dim, seed=0)

    def forward(count: int) -> list[Tensor]:
        both, masks = 2 * count, torch.empty(2 * count, *size)
        texts = torch.empty(both, 2, shape.dim)
        tokens = [torch.empty(both, own.places, own.width) for own in patches]
        grids = [(own.height, own.length) for own in patches]
        logits = [float32_logits(one, texts, grid, size) for one, grid in zip(decoder(tokens), grids, strict=True)]
        return [layer_loss(own, masks) for own in logits]

    views = Views(tokens=tuple(blocks))
    more = reader_bytes(model, size, views, SHARD) - reader_bytes(model, size, views)
    at_once = min(torch.get_num_threads() * SHARD, batch_size)
    gradients = GRADIENTS * FLOAT * 2 * at_once * max(own.places for own in patches) * shape.dim
    return more + training_bytes([decoder], [forward], batch_size) + gradients


def memory_bytes(model: str, blocks: Sequence[int], size: Grid, images: int) -> tuple[int, int]:
    """Return the bytes of the patches of so many normal images, and of the cosines of test images with one of them.

    Args:
        model: name of the image-text model.
        blocks: whose patches are kept.
        size: (height, width) in pixels that the model is given.
        images: normal images of each category, of each of which there is one memory.
    """
    patches = [model_shape(model).block(block, size) for block in blocks]
    kept = FLOAT * images * sum(own.places * own.width for own in patches)
    rows = images * max(own.places for own in patches)
    return kept, FLOAT * torch.get_num_threads() * AT_ONCE * rows
