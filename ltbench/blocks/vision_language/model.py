"""What an image-text model gives a method: maps and a code of an image, and a vector in the code's space of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.features.extractor import FeatureExtractor, Maps
from ltbench.blocks.vision_language.text import TextEncoder
from ltbench.method import ImageSet, Runtime

Code = NDArray[np.float32]


class ImageFeatures(NamedTuple):
    """What the image branch says of one image.

    Args:
        maps: one (C, h, w) map a layer.
        code: (D,), the pooled vector in the space that texts share.
    """

    maps: Maps
    code: Code


class Stage(NamedTuple):
    """Blocks of the image branch that share a resolution and a width.

    Args:
        channels: of its maps.
        repeats: number of blocks.
        kernel: side of its convolutions.
        stride: of its first block.
    """

    channels: int
    repeats: int
    kernel: int
    stride: int


class LoadedExtractor(FeatureExtractor):
    """Gives the maps of a backbone that is there already."""

    def __init__(self, backbone: Backbone, *, runtime: Runtime) -> None:
        super().__init__(backbone.name, backbone.layers, runtime=runtime)
        self._loaded = backbone

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone."""
        return self._loaded


@dataclass(frozen=True)
class VisionLanguage:
    """A frozen image branch and a frozen text branch with a space in common.

    Args:
        name: as given to `load_vision_language`.
        layers: the image blocks whose maps are taken, counted from 0.
        images: the image branch; its last level is what the code is made of, the others are the maps.
        code_of: makes the code, (D,), of the last level.
        text: the text branch.
        stages: the image branch's stages, in order.
        last: which of the levels is the last block's map.
        cells_of: makes places in the space of texts, (D, h, w), of that map (C, h, w); their mean is the code.
    """

    name: str
    layers: tuple[int, ...]
    images: Backbone
    code_of: Callable[[NDArray[np.float32]], Code]
    text: TextEncoder
    stages: tuple[Stage, ...]
    last: int
    cells_of: Callable[[Tensor], Tensor]

    @property
    def layer_stages(self) -> tuple[int, ...]:
        """The stage of each layer, counted from 0."""
        ends = np.cumsum([stage.repeats for stage in self.stages])
        return tuple(int(np.searchsorted(ends, layer, side="right")) for layer in self.layers)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each layer's map."""
        return self.images.channels[:-1]

    @property
    def code_dim(self) -> int:
        """Length of a code and of a text's vector."""
        return self.text.dim

    def extract(self, images: ImageSet, runtime: Runtime) -> Iterator[ImageFeatures]:
        """Yield the features of each image, in order: from the runtime's feature store where it has them."""
        for *maps, last in LoadedExtractor(self.images, runtime=runtime).extract(images):
            yield ImageFeatures(tuple(maps), self.code_of(last))

    def facts(self) -> dict[str, Any]:
        """Return what a run's record says of the model."""
        return {
            "name": self.name,
            "layers": list(self.layers),
            "image_weights_sha256": self.images.weights_sha256,
            "text_weights_sha256": self.text.weights_sha256,
        }
