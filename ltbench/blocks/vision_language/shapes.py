"""What an image-text model is made of, from its name alone: nothing is computed, no weights are needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from transformers import AlignConfig, AlignVisionModel

from ltbench.blocks.networks.timm_alone import timm
from ltbench.blocks.vision_language import align, packaged
from ltbench.blocks.vision_language.clip_network import ClipShape, TowerShape
from ltbench.blocks.vision_language.clip_weights import CLIPS, TINY_SHAPE
from ltbench.blocks.vision_language.clip_weights import TINY as TINY_CLIP
from ltbench.blocks.vision_language.loading import PACKAGED, TINY
from ltbench.blocks.vision_language.maps import STEM
from ltbench.blocks.vision_language.model import Stage
from ltbench.blocks.vision_language.reading import LAST

MINILM = TowerShape(layers=6, width=384, heads=12)
"""all-MiniLM-L6-v2."""


class BlockShape(NamedTuple):
    """Patches of an image behind some block.

    Args:
        width: values of each.
        height: rows of the grid.
        length: columns of the grid.
    """

    width: int
    height: int
    length: int

    @property
    def places(self) -> int:
        """How many patches there are."""
        return self.height * self.length


@dataclass(frozen=True)
class ModelShape:
    """A model's branches.

    Args:
        text: the text branch.
        dim: length of a code and of a text's vector.
        stages: of an image branch that is a network of maps; none of a CLIP.
        clip: a CLIP's shape, or None.
    """

    text: TowerShape
    dim: int
    stages: tuple[Stage, ...] = ()
    clip: ClipShape | None = None

    def block(self, number: int, size: tuple[int, int]) -> BlockShape:
        """Return the patches of an image of `size` behind a block, counted from 1, or `LAST`."""
        if self.clip is not None:
            return BlockShape(self.clip.vision.width, size[0] // self.clip.patch, size[1] // self.clip.patch)
        stage = len(self.stages) - 1 if number == LAST else self.stage_of(number - 1)
        stride = STEM * math.prod(own.stride for own in self.stages[: stage + 1])
        return BlockShape(self.stages[stage].channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))

    def stage_of(self, layer: int) -> int:
        """Return the stage of a block of a network of maps, both counted from 0; behind the last it is the last."""
        ends = [sum(own.repeats for own in self.stages[: place + 1]) for place in range(len(self.stages) - 1)]
        return sum(end <= layer for end in ends)


@cache
def model_shape(name: str) -> ModelShape:
    """Return what a model is made of.

    Args:
        name: as `load_reader` takes it; a folder, or another repository of the hub, counts as ALIGN.
    """
    if (clip := clip_shape(name)) is not None:
        return ModelShape(clip.text, clip.dim, clip=clip)
    with torch.device("meta"):
        if name in PACKAGED:
            return ModelShape(MINILM, MINILM.width, packaged.stages_of(timm.create_model(PACKAGED[name])))
        config: Any = align.tiny_config() if name == TINY else AlignConfig()
        text = config.text_config
        tower = TowerShape(text.num_hidden_layers, text.hidden_size, text.num_attention_heads)
        return ModelShape(tower, config.projection_dim, align.stages_of(AlignVisionModel(config.vision_config)))


def clip_shape(name: str) -> ClipShape | None:
    """Return the shape of a CLIP, or None where the name is of no CLIP; tags of weights make no difference."""
    if name == TINY_CLIP:
        return TINY_SHAPE
    by_model = {known.partition("/")[0]: model.shape for known, model in CLIPS.items()}
    return by_model.get(name.partition("/")[0])
