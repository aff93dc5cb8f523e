"""What the decoder is trained on: patches of clean images, read once, and of altered copies, read in each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ltbench.blocks.features.tokens import root_mean_square, stack_on_disk
from ltbench.blocks.pixels import resized
from ltbench.blocks.training.learner import Shard
from ltbench.blocks.vision_language import Reader, Views, readings
from ltbench.method import ImageSet, Runtime

from .decoder import Decoder, Grid, abnormal_logits, layer_loss
from .synthesis import Example


@dataclass(frozen=True)
class Clean:
    """The training images, in files that are mapped into memory.

    Args:
        pixels: (N, S, S, 3).
        tokens: of each block, (N, h * w, width).
        grids: (h, w) of each block.
        blocks: which blocks.
        texts: (N, 2, D): the normal and the abnormal prompt of each image.
    """

    pixels: NDArray[np.uint8]
    tokens: tuple[NDArray[np.float32], ...]
    grids: tuple[Grid, ...]
    blocks: tuple[int, ...]
    texts: Tensor

    @classmethod
    def read(
        cls, images: ImageSet, reader: Reader, blocks: Sequence[int], side: int, texts: Tensor, runtime: Runtime
    ) -> Clean:
        """Read every image once; those of another size are resized bicubically."""
        tracked = runtime.progress.track(images, "images", len(images))
        small = ((resized(image, side, Image.Resampling.BICUBIC),) for image in tracked)
        (pixels,) = stack_on_disk(small, len(images), runtime.checkpoints)
        rows = (
            tuple(reading.tokens[block] for block in blocks)
            for reading in readings(reader, images, Views(tokens=tuple(blocks)), side, runtime)
        )
        tokens = stack_on_disk(rows, len(images), runtime.checkpoints)
        grids = tuple(reader.grid((side, side), block) for block in blocks)
        return cls(pixels, tokens, grids, tuple(blocks), texts)

    @property
    def scales(self) -> tuple[float, ...]:
        """The root mean square of each block's patches."""
        return tuple(root_mean_square(own) for own in self.tokens)


def loss_of(decoder: Decoder, reader: Reader, data: Clean, scales: Sequence[float], shard: Shard) -> Tensor:
    """Return the loss of clean images and their altered copies: focal and Dice, of every block.

    Args:
        decoder: what is trained.
        reader: the frozen model.
        data: the clean images.
        scales: what each block's patches are divided by.
        shard: which images, with an `Example` of each.
    """
    examples = cast(Sequence[Example], shard.prepared)
    altered = torch.from_numpy(np.stack([example.pixels for example in examples])).to(reader.device)
    masks = torch.from_numpy(np.stack([example.mask for example in examples])).to(reader.device).float()
    masks = torch.cat([torch.zeros_like(masks), masks])
    texts = data.texts[shard.indices].to(reader.device).repeat(2, 1, 1)
    with torch.no_grad():
        changed = reader.tokens(altered, data.blocks)
    tokens = [
        torch.cat([torch.tensor(clean[shard.indices], device=reader.device), own.float()]) / scale
        for clean, own, scale in zip(data.tokens, changed, scales, strict=True)
    ]
    size = (masks.shape[1], masks.shape[2])
    losses = [
        layer_loss(abnormal_logits(decoded, texts, grid, size), masks)
        for decoded, grid in zip(decoder(tokens), data.grids, strict=True)
    ]
    return torch.stack(losses).sum()
