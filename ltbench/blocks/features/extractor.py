"""The feature maps of a set of images: from the store where they are there, else from the backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.features.backbones import PRETRAINED, Backbone, load_backbone
from ltbench.cores import ahead, in_order, usable_cores
from ltbench.method import FeatureStore, ImageSet, Runtime

Maps = tuple[NDArray[np.float32], ...]
"""The features of one image: a map (C, h, w), or tokens (T, C), for each layer."""

Load = Callable[[str, Sequence[int], str, str, int], Backbone]
"""Builds a backbone from its name, layers, weights, device and seed, as `load_backbone` does."""

PHASE = "features"
_ARRAY = "map"


class FeatureExtractor:
    """Gives the feature maps of images, one image after the other.

    Each layer of each image is stored by itself, so that a method with layers 2 and 3 and one with 2, 3 and 4 share
    what they have in common. Maps from the store equal computed ones bit for bit. The seconds that a caller waits for
    maps count as the phase "features"; while the caller works on one image, the next ones are on their way. Images are
    decoded, and stored maps read, in threads of their own, ahead of the network.

    Args:
        backbone: timm's name.
        layers: indices into timm's list of feature levels, ascending.
        weights: "pretrained", "random" or the path of a checkpoint; see `load_backbone`.
        runtime: device, seed of random weights, feature store (written to from several threads) and progress.
        load: builds the backbone, of whichever kind: `load_backbone`, or `load_transformer`.
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[int],
        weights: str = PRETRAINED,
        *,
        runtime: Runtime,
        load: Load = load_backbone,
    ) -> None:
        self._name, self._layers, self._weights = backbone, tuple(layers), weights
        self._runtime, self._load = runtime, load

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone, loaded when first asked for; `runtime.notes["backbone"]` then says which it is."""
        runtime = self._runtime
        backbone = self._load(self._name, self._layers, self._weights, runtime.device, runtime.seed)
        runtime.notes["backbone"] = {
            "name": self._name,
            "layers": list(self._layers),
            "weights": self._weights,
            "weights_sha256": backbone.weights_sha256,
        }
        return backbone

    def extract(self, images: ImageSet) -> Iterator[Maps]:
        """Yield the feature maps of each image, in order.

        Only images that the store does not have are decoded.

        Args:
            images: the images.

        Yields:
            One map (C, h, w), or the tokens (T, C), a layer.
        """
        progress = self._runtime.progress
        with progress.timed(PHASE):
            workers = self.backbone.workers
        with closing(in_order(self._tasks(images), workers)) as results:
            for _ in progress.track(range(len(images)), PHASE, total=len(images)):
                with progress.timed(PHASE):
                    maps = next(results)
                yield maps

    def _tasks(self, images: ImageSet) -> Iterator[Callable[[], Maps]]:
        """Yield what is to be done for each image once its task is found; it returns the image's maps."""
        keys = [None] * len(images) if self._runtime.feature_store is None else images.fingerprints
        searches = (partial(self._task, images, index, key) for index, key in enumerate(keys))
        with closing(ahead(searches, usable_cores())) as tasks:
            for task in tasks:
                yield partial(_done, task)

    def _task(self, images: ImageSet, index: int, key: str | None) -> Callable[[], Maps]:
        """Return what is to be done for one image, which is decoded unless the store has its maps.

        Args:
            images: where it comes from.
            index: its place there.
            key: its fingerprint, or None without a feature store.
        """
        store, backbone = self._runtime.feature_store, self.backbone
        if store is None or key is None:
            return partial(backbone, images[index])
        stored = [store.get(space, key) for space in backbone.spaces]
        maps = tuple(arrays[_ARRAY] for arrays in stored if arrays is not None)
        if len(maps) == len(stored):
            return partial(tuple, maps)
        spaces = [space for space, arrays in zip(backbone.spaces, stored, strict=True) if arrays is None]
        return partial(self._compute, images[index], store, spaces, key)

    def _compute(self, image: NDArray[np.uint8], store: FeatureStore, spaces: Sequence[str], key: str) -> Maps:
        """Return the maps of an image, and store those of `spaces`."""
        maps = self.backbone(image)
        for space, level in zip(self.backbone.spaces, maps, strict=True):
            if space in spaces:
                store.put(space, key, {_ARRAY: level})
        return maps


def _done(task: Callable[[], Callable[[], Maps]]) -> Maps:
    """Wait for what is to be done, and do it."""
    return task()()
