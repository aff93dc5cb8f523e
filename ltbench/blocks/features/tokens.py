"""Feature maps as tokens: what reconstruction networks read, in training from disk, image by image.

Tokens are stored beside the maps that they were made from, so that a later run reads the few values it needs.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from ltbench.blocks.each_image import Network, at_hand, each_image, gathered
from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.batches import Found, Maps
from ltbench.blocks.features.extractor import FeatureExtractor, Load
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.scratch import reserved
from ltbench.blocks.switches import Precision
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.core import Prediction, sha256_of
from ltbench.errors import SpecError
from ltbench.method import ImageSet, Runtime

A = TypeVar("A", bound=np.generic)

Tokens = tuple[NDArray[np.float32], ...]
"""The tokens of one image: (L, C) for each level, row by row."""

Score = Callable[[list[NDArray[np.float32]]], tuple[float, NDArray[np.float32]]]
"""The score and the map (H, W) of what a network made of one image."""


def grid_of(size: tuple[int, int], stride: int) -> Grid:
    """Return (height, width) in tokens of an image, of `stride` pixels each.

    Raises:
        SpecError: a side that is no multiple of `stride`.
    """
    if size[0] % stride or size[1] % stride:
        raise SpecError(f"Expected image sides that {stride} divides, got {size[0]}x{size[1]}. Change the protocol.")
    return size[0] // stride, size[1] // stride


def aligned(maps: Maps, grid: Grid) -> Tokens:
    """Return the levels concatenated on one grid, as UniAD does: (h * w, sum of C), one level.

    Each level is resized bilinearly, corners on corners, without averaging where it shrinks (torch's
    UpsamplingBilinear2d).

    Args:
        maps: one (C, h, w) map a level.
        grid: (height, width) wanted.
    """
    with torch.inference_mode(), torch_on_one_thread():
        levels = [
            F.interpolate(torch.tensor(level)[None], size=grid, mode="bilinear", align_corners=True)[0]
            for level in maps
        ]
        return (_rows(torch.cat(levels)),)


def pooled(maps: Maps) -> Tokens:
    """Return each level averaged over 3x3 neighbourhoods, zeros outside counted, as RLR does: (h * w, C) a level."""
    with torch.inference_mode(), torch_on_one_thread():
        return tuple(_rows(F.avg_pool2d(torch.tensor(level)[None], 3, stride=1, padding=1)[0]) for level in maps)


def unpooled(maps: Maps) -> Tokens:
    """Return each level as it is, (h * w, C)."""
    return tuple(_rows(torch.from_numpy(level)) for level in maps)


class TokenExtractor(FeatureExtractor):
    """Gives the tokens of images, one image after the other; `extract` yields `Tokens`.

    Args:
        backbone: timm's name.
        layers: indices into timm's list of feature levels, ascending.
        weights: "pretrained", "random" or the path of a checkpoint.
        tokens: makes the tokens of one image from its maps; called from several threads.
        recipe: what `tokens` does, in words that change whenever its result does; part of the stored tokens' name.
        runtime: as for `FeatureExtractor`.
        load: as for `FeatureExtractor`.
        keeps_layers: whether the layers themselves are stored beside the tokens, for methods that make others of them.
        precision: what the backbone computes in.
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[int],
        weights: str,
        *,
        tokens: Callable[[Maps], Tokens],
        recipe: str,
        runtime: Runtime,
        load: Load = load_backbone,
        keeps_layers: bool = True,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(backbone, layers, weights, runtime=runtime, load=load, precision=precision)
        self._tokens, self._recipe, self._keeps_layers = tokens, recipe, keeps_layers

    @cached_property
    def space(self) -> str:
        """The name of these tokens' space in the feature store."""
        return sha256_of({"maps": self.backbone.spaces, "tokens": self._recipe})[:32]

    def on_disk(self, images: ImageSet) -> Tokens:
        """Return the tokens of all images, (N, L, C) for each level, as arrays that stay on disk.

        Raises:
            SpecError: no images.
        """
        if not len(images):
            raise SpecError("Expected images to train on, got none. Check the split.")
        return stack_on_disk(self.extract(images), len(images), self._runtime.checkpoints)

    def _find(self, images: ImageSet, index: int, key: str | None) -> Found:
        store = self._runtime.feature_store
        if store is not None and key is not None and (stored := store.get(self.space, key)) is not None:
            return Found(done=tuple(stored[str(level)] for level in range(len(stored))))
        return super()._find(images, index, key if self._keeps_layers else None)

    def _finish(self, maps: Maps, key: str | None) -> Tokens:
        """Return the tokens of an image, and store them."""
        found = self._tokens(maps)
        store = self._runtime.feature_store
        if store is not None and key is not None:
            store.put(self.space, key, {str(level): tokens for level, tokens in enumerate(found)})
        return found


def predict_images(extractor: TokenExtractor, images: ImageSet, network: Network, score: Score) -> Prediction:
    """Score images, so that none depends on the others or on the number of threads.

    On a CPU they are scored one by one, several at a time. A device that takes batches has them in one shape, the last
    one padded; scores and maps are made on the CPU of what it gives.

    Args:
        extractor: gives the tokens.
        images: what to score.
        network: makes arrays (B, ...) of the tokens (B, L, C) of each level, on their device.
        score: returns the score and the map (H, W) of what the network made of one image; called in several threads,
            as the network is on a CPU, each with one thread of torch and without gradients.
    """
    rows = at_hand(extractor.extract(images))
    results = each_image(rows, repeat(network), lambda made: score(list(made)), extractor.backbone.device)
    return gathered(results, len(images), images.size)


def stack_on_disk(
    rows: Iterable[tuple[NDArray[A], ...]], count: int, folder: Path | None = None
) -> tuple[NDArray[A], ...]:
    """Stack arrays image by image into files that are mapped into memory, and vanish with the process.

    Args:
        rows: `count` tuples of arrays; those at one place of the tuple have one shape and type.
        count: how many.
        folder: where the files lie, unseen; the system's temporary folder by default.

    Returns:
        One (count, ...) array for each place of the tuple.

    Raises:
        LtbenchError: the folder has no room.
    """
    iterator = iter(rows)
    first: tuple[NDArray[A], ...] = next(iterator)
    stacks = tuple(_mapped((count, *one.shape), one.dtype, folder) for one in first)
    for index, arrays in enumerate(chain((first,), iterator)):
        for stack, array in zip(stacks, arrays, strict=True):
            stack[index] = array
    return stacks


def root_mean_square(tokens: NDArray[np.float32]) -> float:
    """Return the root of the mean square of tokens, (N, L, C), read image by image and added in float64."""
    squares = [float(np.square(image, dtype=np.float64).mean()) for image in tokens]
    return float(np.sqrt(np.mean(squares)))


def _mapped(shape: tuple[int, ...], dtype: np.dtype[A], folder: Path | None) -> NDArray[A]:
    advice = "set TMPDIR to a folder on a larger disk" if folder is None else "pass --results on a larger disk"
    size = math.prod(shape) * dtype.itemsize
    with reserved(folder or Path(tempfile.gettempdir()), size, advice) as file:
        return np.memmap(file, dtype, "r+", shape=shape)


def _rows(level: torch.Tensor) -> NDArray[np.float32]:
    """Return (C, h, w) as (h * w, C)."""
    return np.ascontiguousarray(level.flatten(1).T.numpy())
