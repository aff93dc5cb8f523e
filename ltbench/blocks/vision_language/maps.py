"""Image-text models whose image branch is a network of maps, ALIGN and the packaged stand-in, as readers.

Their code is an average over the last block's places of what lies in the space of texts, so that a window's code is the
average over its places, and a place's is its own. Unlike CLIP's, a window sees what the network's receptive field does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import transformers
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.device import download, upload
from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.networks.timm_alone import timm
from ltbench.blocks.switches import CPU, reproducible
from ltbench.blocks.vision_language.model import VisionLanguage
from ltbench.blocks.vision_language.reading import LAST, Grid, Reading, Views
from ltbench.blocks.vision_language.text import TextEncoder
from ltbench.core import sha256_of
from ltbench.cores import usable_cores
from ltbench.errors import SpecError

STEM = 2
"""Stride of what lies before the first stage: both EfficientNets begin with one convolution."""


class Level(NamedTuple):
    """A block's map.

    Args:
        place: among the levels of the image branch.
        stride: pixels of the images to a place of the map.
    """

    place: int
    stride: int


@dataclass(frozen=True)
class MapReader:
    """A network of maps and a text branch.

    Args:
        name: of the model.
        images: the image branch.
        levels: the blocks whose maps it gives, from 1, and `LAST`.
        cells_of: makes places in the space of texts, (D, h, w), of that map (C, h, w), both on the CPU; linear behind
            its last activation.
        text: the text branch.
        device: "cpu", "cuda" or "cuda:N".
    """

    name: str
    images: Backbone
    levels: Mapping[int, Level]
    cells_of: Callable[[Tensor], Tensor]
    text: TextEncoder
    device: str

    @property
    def workers(self) -> int:
        """How many images to work on at once, each in a thread of its own."""
        return usable_cores() if self.batch else self.images.workers

    @property
    def batch(self) -> int:
        """How many images its device takes together, 0 where it takes one after the other."""
        return self.images.batch

    def grid(self, size: tuple[int, int], block: int = LAST) -> Grid:
        """Return (height, width) of a block's map."""
        if min(size) < (least := self.levels[LAST].stride):
            raise SpecError(f"Expected images of at least {least} pixels, got {size[0]}x{size[1]}. Set side.")
        stride = self._level(block).stride
        return -(-size[0] // stride), -(-size[1] // stride)

    def read(self, image: NDArray[np.uint8], views: Views) -> Reading:
        """Return what is asked about one image.

        Raises:
            SpecError: a block whose map it does not give, or windows larger than the grid.
        """
        self._check(views)
        return self._reading(self.images(image), views)

    def send(self, images: NDArray[np.uint8], views: Views) -> Callable[[int], Reading]:
        """Send `batch` images, (batch, H, W, 3), to the device, and return what waits for the reading of each.

        What follows the maps is made on the CPU by whoever waits.

        Raises:
            SpecError: a block whose map it does not give.
        """
        self._check(views)
        with torch.inference_mode():
            wait = download(self.images.levels(upload(images, self.images.device)))
        return lambda place: self._reading([level[place] for level in wait()], views)

    def _check(self, views: Views) -> None:
        for block in views.tokens:
            self._level(block)
        if set(views.local) - {LAST}:
            raise SpecError(f"Expected the block {LAST} of this model, got {views.local}. Use CLIP for other blocks.")

    def _reading(self, found: Sequence[NDArray[np.float32]], views: Views) -> Reading:
        """Return what is asked about an image whose levels (C, h, w) were found."""
        with torch.inference_mode(), reproducible(CPU):
            cells = self.cells_of(torch.tensor(found[self.levels[LAST].place]))
            grid = (cells.shape[1], cells.shape[2])
            check_windows(views, grid)
            windows = {side: _rows(F.avg_pool2d(cells[None], side, stride=1)[0]) for side in views.windows}
            return Reading(
                grid,
                np.ascontiguousarray(cells.mean(dim=(1, 2)).numpy()),
                windows,
                {block: _rows(torch.tensor(found[self._level(block).place])) for block in views.tokens},
                {LAST: _rows(cells)} if views.local else {},
            )

    def tokens(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Return the places of some blocks' maps of a batch of images, (B, h * w, channels) each."""
        places = [self._level(block).place for block in blocks]
        mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (self.images.mean, self.images.std))
        pixels = (images.permute(0, 3, 1, 2) / 255 - mean) / std
        found = self.images.network(pixels.contiguous(memory_format=torch.channels_last))
        return [found[place].flatten(2).transpose(1, 2) for place in places]

    def _level(self, block: int) -> Level:
        if block not in self.levels:
            raise SpecError(
                f"Expected the block {LAST} of this model, or one of {sorted(set(self.levels) - {LAST})}, got {block}. "
                "Choose another, or CLIP for any."
            )
        return self.levels[block]

    def facts(self) -> dict[str, Any]:
        """Return what a run's record says of the model."""
        return {
            "name": self.name,
            "image_weights_sha256": self.images.weights_sha256,
            "text_weights_sha256": self.text.weights_sha256,
        }

    def identity(self) -> str:
        """Return a name of all that can change a bit of a reading."""
        versions = (timm.__version__, transformers.__version__)
        return sha256_of({"maps": 1, "facts": self.facts(), "spaces": self.images.spaces, "versions": versions})


def map_reader(model: VisionLanguage, device: str) -> MapReader:
    """Make a reader of an image-text model whose image branch is a network of maps, of its layers and last block."""
    strides = [STEM * math.prod(stage.stride for stage in model.stages[: index + 1]) for index in model.layer_stages]
    levels = {
        layer + 1: Level(place, stride) for place, (layer, stride) in enumerate(zip(model.layers, strides, strict=True))
    }
    last = Level(model.last, STEM * math.prod(stage.stride for stage in model.stages))
    return MapReader(model.name, model.images, levels | {LAST: last}, model.cells_of, model.text, device)


def check_windows(views: Views, grid: Grid) -> None:
    """Raise `SpecError` if a window is larger than the grid."""
    if views.windows and max(views.windows) > min(grid):
        raise SpecError(
            f"Expected windows of at most {min(grid)} patches, got {max(views.windows)}. Raise side or set windows."
        )


def _rows(level: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(level.flatten(1).T.numpy())
