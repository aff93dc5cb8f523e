"""How much memory an image-text model takes, from its name and the images' size: nothing is computed or loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ltbench.blocks.device_memory import FLOAT, Room
from ltbench.blocks.features.room import maps_room
from ltbench.blocks.vision_language.clip_network import Clip, Transformer
from ltbench.blocks.vision_language.clip_weights import TINY_SHAPE
from ltbench.blocks.vision_language.loading import PACKAGED, TINY
from ltbench.blocks.vision_language.reading import Views
from ltbench.blocks.vision_language.shapes import ModelShape, clip_shape
from ltbench.method import ImageCounts

MINILM = 22_713_216
"""Parameters of all-MiniLM-L6-v2."""

ALIGN = ("tf_efficientnet_b7", (0, 1, 2, 3, 4), 110_000_000)
"""ALIGN's image branch as timm has it, its levels, and the parameters of its text branch, a BERT base with its head."""

_BLOCK = 11
"""Values a token and unit of width that a block has at once: what came, its norm, three projections, four of the
perceptron, and two results."""

TINY_BYTES = 2**20
"""More than the miniature for tests takes."""


def reader_bytes(name: str, size: tuple[int, int], views: Views, images: int = 1) -> int:
    """Return the bytes of a model, its weights as they are read and as they are used, and of the images in it.

    Args:
        name: as `load_reader` takes it; a folder, or another repository of the hub, counts as ALIGN.
        size: (height, width) in pixels that it is given.
        views: what is asked about an image.
        images: how many each thread has in it at once.
    """
    if name == TINY:
        return TINY_BYTES
    room = _room(name, size, views)
    return 2 * room.weights + images * torch.get_num_threads() * room.image


def reader_room(name: str, size: tuple[int, int], views: Views) -> Room:
    """Return what `reader_bytes` does for a device: a CLIP's attentions take room there, too."""
    if name == TINY:
        return Room(TINY_BYTES, TINY_BYTES)
    room = _room(name, size, views)
    if (clip := clip_shape(name)) is None:
        return room
    tokens = 1 + (size[0] // clip.patch) * (size[1] // clip.patch)
    return room._replace(image=room.image + FLOAT * clip.vision.heads * tokens**2)


def reading_phases(room: Room, images: ImageCounts, kept: int = 0) -> dict[str, int]:
    """Return what a model takes on a device that reads test images and scores them, as a `MemoryEstimate` has it.

    Args:
        room: of the model.
        images: how many there are, and how many go together; on a CPU nothing is returned.
        kept: bytes of what else lies there.
    """
    if not images.batch:
        return {}
    name = f"maps of {max(images.test, default=0):,} images in batches of {images.batch}"
    return {name: room.of(images.batch) + kept}


def _room(name: str, size: tuple[int, int], views: Views) -> Room:
    """Return the bytes of a model's weights and of an image in it.

    Of a CLIP these are all states of the whole image, and a block of the most tokens at once.
    """
    if (clip := clip_shape(name)) is None:
        network, levels, texts = (PACKAGED[name], (0, 1, 2, 3, 4), MINILM) if name in PACKAGED else ALIGN
        room = maps_room(network, levels, size)
        return room._replace(weights=room.weights + FLOAT * texts)
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in Clip(clip).parameters())
    height, width = size[0] // clip.patch, size[1] // clip.patch
    tokens = 1 + height * width
    windows = [(height - side + 1) * (width - side + 1) * (side * side + 1) for side in views.windows]
    values = (clip.vision.layers + 1 + views.value_blocks) * tokens + _BLOCK * max(tokens, *windows, 0)
    return Room(FLOAT * weights, FLOAT * clip.vision.width * values)


def text_reader(shape: ModelShape) -> Callable[[int, int], Tensor]:
    """Return what takes numbers of texts and of their tokens to the texts' vectors (n, dim), on the device "meta".

    Gradients pass through it, so that what a training of word vectors keeps can be counted. A BERT counts as CLIP's
    text tower of its size, and frozen layers as if they were trained: an upper estimate.
    """
    own = shape.clip or replace(TINY_SHAPE, quick_gelu=False)
    with torch.device("meta"):
        blocks = Transformer(shape.text, own).blocks
        head = nn.Linear(shape.text.width, shape.dim)

    def read(texts: int, tokens: int) -> Tensor:
        states = torch.empty(texts, tokens, shape.text.width, device="meta")
        for block in blocks:
            states = block(states)
        vectors: Tensor = head(states[:, 0])
        return vectors

    return read
