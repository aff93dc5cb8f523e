"""Image-text models whose image branch is a network of maps, ALIGN and the packaged stand-in, as readers.

Their code is an average over the last block's places of what lies in the space of texts, so that a window's code is the
average over its places, and a place's is its own. Unlike CLIP's, a window sees what the network's receptive field does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F  # noqa: N812
import transformers
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.blocks.vision_language.reading import LAST, Grid, Reading, Views
from ltbench.blocks.vision_language.text import TextEncoder
from ltbench.core import sha256_of
from ltbench.errors import SpecError

STRIDE = 32
"""Pixels of the images to a place of the last block's map."""


@dataclass(frozen=True)
class MapReader:
    """A network of maps and a text branch.

    Args:
        name: of the model.
        images: the image branch.
        level: which of its levels is the last block's map.
        cells_of: makes places in the space of texts, (D, h, w), of that map (C, h, w), both on the CPU; linear behind
            its last activation.
        text: the text branch.
        device: "cpu", "cuda" or "cuda:N".
    """

    name: str
    images: Backbone
    level: int
    cells_of: Callable[[Tensor], Tensor]
    text: TextEncoder
    device: str

    @property
    def workers(self) -> int:
        """How many images to give it at once."""
        return self.images.workers

    def grid(self, size: tuple[int, int]) -> Grid:
        """Return (height, width) of the last block's map."""
        if min(size) < STRIDE:
            raise SpecError(f"Expected images of at least {STRIDE} pixels, got {size[0]}x{size[1]}. Set side.")
        return -(-size[0] // STRIDE), -(-size[1] // STRIDE)

    def read(self, image: NDArray[np.uint8], views: Views) -> Reading:
        """Return what is asked about one image.

        Raises:
            SpecError: another block than the last, or windows larger than the grid.
        """
        check_last(views)
        level = torch.tensor(self.images(image)[self.level])
        with torch.inference_mode(), torch_on_one_thread():
            cells = self.cells_of(level)
            grid = (cells.shape[1], cells.shape[2])
            check_windows(views, grid)
            windows = {side: _rows(F.avg_pool2d(cells[None], side, stride=1)[0]) for side in views.windows}
            return Reading(
                grid,
                np.ascontiguousarray(cells.mean(dim=(1, 2)).numpy()),
                windows,
                {LAST: _rows(level)} if views.tokens else {},
                {LAST: _rows(cells)} if views.local else {},
            )

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


def check_last(views: Views) -> None:
    """Raise `SpecError` if another block than the last is asked for."""
    asked = {*views.tokens, *views.local}
    if asked - {LAST}:
        raise SpecError(f"Expected the block {LAST} of this model, got {sorted(asked)}. Use CLIP for other blocks.")


def check_windows(views: Views, grid: Grid) -> None:
    """Raise `SpecError` if a window is larger than the grid."""
    if views.windows and max(views.windows) > min(grid):
        raise SpecError(
            f"Expected windows of at most {min(grid)} patches, got {max(views.windows)}. Raise side or set windows."
        )


def _rows(level: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(level.flatten(1).T.numpy())
