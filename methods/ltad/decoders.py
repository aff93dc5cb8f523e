"""From a vector to feature maps: decoders that give what an image encoder's layers would (LTAD, section 4).

The paper calls its decoder "the mirror copy of E" and says no more. Normalisation is by groups of channels, since
training sees a few images at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.vision_language import Stage
from ltbench.errors import SpecError

NARROWEST = 32
"""Channels that a resolution of the light decoder has at least."""


class Shape(NamedTuple):
    """A feature map's channels, height and width."""

    channels: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return (self.height, self.width)


@dataclass(frozen=True)
class Branch:
    """The image branch of which a decoder makes the maps.

    Args:
        stages: in its order.
        taps: the stage of each layer whose map is taken.
        channels: of each such map.
        shapes: of the maps, finest first; none where the decoder makes patches.
        grid: (height, width) in patches.
    """

    stages: Sequence[Stage]
    taps: Sequence[int]
    channels: Sequence[int]
    shapes: Sequence[Shape]
    grid: Grid


class LightDecoder(nn.Module):
    """A linear layer onto a small map, then residual blocks and a map at each resolution, from coarse to fine.

    Args:
        inputs: length of the vector.
        shapes: the maps wanted, finest first.
        width: most channels inside.
        blocks: residual blocks a resolution.
    """

    def __init__(self, inputs: int, shapes: Sequence[Shape], width: int = 256, blocks: int = 2) -> None:
        super().__init__()
        self.shapes = tuple(reversed(shapes))
        self.start = Shape(width, ceil(self.shapes[0].height / 2), ceil(self.shapes[0].width / 2))
        self.opening = nn.Linear(inputs, width * self.start.height * self.start.width)
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList()
        channels = width
        for shape in self.shapes:
            own = _grouped(max(NARROWEST, min(width, shape.channels)))
            blocks_here = [Residual(own) for _ in range(blocks)]
            self.stages.append(nn.Sequential(nn.Conv2d(channels, own, 1), *blocks_here))
            self.heads.append(nn.Conv2d(own, shape.channels, 1))
            channels = own

    def forward(self, vectors: Tensor) -> list[Tensor]:
        """Return the maps (B, C, h, w), finest first, of vectors (B, inputs)."""
        state = self.opening(vectors).unflatten(1, self.start)
        maps = []
        for shape, stage, head in zip(self.shapes, self.stages, self.heads, strict=True):
            state = stage(F.interpolate(state, size=shape.size, mode="bilinear"))
            maps.append(head(state))
        return maps[::-1]


class MirrorDecoder(nn.Module):
    """The encoder's stages in reverse order, each step down in resolution become a step up.

    Args:
        inputs: length of the vector.
        stages: the encoder's stages, in its order.
        taps: the stages that give a map, in its order: the places of `shapes` among the stages.
        shapes: the maps wanted, finest first.

    Raises:
        SpecError: two maps of one stage.
    """

    def __init__(self, inputs: int, stages: Sequence[Stage], taps: Sequence[int], shapes: Sequence[Shape]) -> None:
        super().__init__()
        if len(set(taps)) < len(taps):
            raise SpecError(
                f"Expected layers of different stages with decoder=mirror, got stages {list(taps)}. Use decoder=light."
            )
        sizes = _sizes(stages, taps, shapes)
        self.sizes = sizes[::-1]
        self.taps = {len(stages) - 1 - tap: place for place, tap in enumerate(taps)}
        first = stages[-1].channels
        self.opening = nn.Linear(inputs, first)
        # Without it all places would start alike, and only the borders could tell them apart.
        self.places = nn.Parameter(torch.zeros(first, *sizes[-1]))
        nn.init.trunc_normal_(self.places, std=0.02)
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList(nn.Identity() for _ in shapes)
        channels = first
        for number, stage in enumerate(reversed(stages)):
            widths = [channels, *[stage.channels] * stage.repeats]
            blocks = [InvertedResidual(one, other, stage.kernel) for one, other in pairwise(widths)]
            self.stages.append(nn.Sequential(*blocks))
            if number in self.taps:
                place = self.taps[number]
                self.heads[place] = nn.Conv2d(stage.channels, shapes[place].channels, 1)
            channels = stage.channels

    def forward(self, vectors: Tensor) -> list[Tensor]:
        """Return the maps (B, C, h, w), finest first, of vectors (B, inputs)."""
        state = self.opening(vectors)[:, :, None, None] + self.places
        maps: list[Tensor | None] = [None] * len(self.heads)
        for number, stage in enumerate(self.stages):
            if state.shape[2:] != self.sizes[number]:
                state = F.interpolate(state, size=self.sizes[number], mode="nearest")
            state = stage(state)
            if number in self.taps:
                place = self.taps[number]
                maps[place] = self.heads[place](state)
        return cast(list[Tensor], maps)


class Residual(nn.Module):
    """Two 3x3 convolutions, each after normalisation and SiLU, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [_norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        self.body = nn.Sequential(*layers, _norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, state: Tensor) -> Tensor:
        """Return a state of the same shape."""
        return state + cast(Tensor, self.body(state))


class InvertedResidual(nn.Module):
    """EfficientNet's block: six times wider, a convolution a channel, squeeze and excitation, and back."""

    def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int = 6, squeeze: float = 0.25) -> None:
        super().__init__()
        wide, narrow = inputs * expansion, max(1, int(inputs * squeeze))
        depthwise = nn.Conv2d(wide, wide, kernel, padding=kernel // 2, groups=wide, bias=False)
        self.widen = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), _norm(wide), nn.SiLU())
        self.spread = nn.Sequential(depthwise, _norm(wide), nn.SiLU())
        self.excite = nn.Sequential(nn.Conv2d(wide, narrow, 1), nn.SiLU(), nn.Conv2d(narrow, wide, 1), nn.Sigmoid())
        self.narrow = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), _norm(outputs))
        self.adds = inputs == outputs

    def forward(self, state: Tensor) -> Tensor:
        """Return a state with the block's channels."""
        wide = self.spread(self.widen(state))
        narrow: Tensor = self.narrow(wide * self.excite(wide.mean(dim=(2, 3), keepdim=True)))
        return state + narrow if self.adds else narrow


def _sizes(stages: Sequence[Stage], taps: Sequence[int], shapes: Sequence[Shape]) -> list[tuple[int, int]]:
    """Return the (height, width) of every stage of the encoder: the maps' where known, else half of the one before."""
    strides, stride = [], 2  # before the first stage, images are halved once
    for stage in stages:
        stride *= stage.stride
        strides.append(stride)
    known = {strides[tap]: shape.size for tap, shape in zip(taps, shapes, strict=True)}
    sizes = []
    for stride in strides:
        if stride not in known:
            nearest = max((other for other in known if other < stride), default=min(known))
            factor = stride / nearest
            known[stride] = (ceil(known[nearest][0] / factor), ceil(known[nearest][1] / factor))
        sizes.append(known[stride])
    return sizes


def _grouped(channels: int) -> int:
    """Return the nearest multiple of 8 from above: channels are normalised in 8 groups."""
    return 8 * ceil(channels / 8)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8 if channels % 8 == 0 else 1, channels)
