"""The feature maps of a set of images: from the store where they are there, else from the backbone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import cached_property, partial

from ltbench.blocks.features.backbones import PRETRAINED, Backbone, load_backbone
from ltbench.blocks.features.batches import Batch, Found, Then, batches
from ltbench.blocks.features.batches import Maps as Maps
from ltbench.blocks.features.room import check_room
from ltbench.blocks.switches import Precision
from ltbench.cores import ahead, in_order, usable_cores
from ltbench.method import ImageSet, Runtime

Load = Callable[[str, Sequence[int], str, str, int, Precision], Backbone]
"""Builds a backbone from its name, layers, weights, device, seed and precision, as `load_backbone` does."""

PHASE = "features"
_ARRAY = "map"


class FeatureExtractor:
    """Gives the feature maps of images, one image after the other.

    Each layer of each image is stored by itself, so that a method with layers 2 and 3 and one with 2, 3 and 4 share
    what they have in common. Maps from the store equal computed ones bit for bit. The seconds that a caller waits for
    maps count as the phase "features"; while the caller works on one image, the next ones are on their way. Images are
    decoded, and stored maps read, in threads of their own, ahead of the network. A device that takes batches gets them
    in one shape, so that no image depends on those that share its batch.

    Args:
        backbone: timm's name.
        layers: indices into timm's list of feature levels, ascending.
        weights: "pretrained", "random" or the path of a checkpoint; see `load_backbone`.
        runtime: device, seed of random weights, feature store (written to from several threads) and progress.
        load: builds the backbone, of whichever kind: `load_backbone`, or `load_transformer`.
        precision: what the backbone computes in.
    """

    def __init__(
        self,
        backbone: str,
        layers: Sequence[int],
        weights: str = PRETRAINED,
        *,
        runtime: Runtime,
        load: Load = load_backbone,
        precision: Precision = "float32",
    ) -> None:
        self._name, self._layers, self._weights, self._precision = backbone, tuple(layers), weights, precision
        self._runtime, self._load = runtime, load

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone, loaded when first asked for; `runtime.notes["backbone"]` then says which it is."""
        runtime = self._runtime
        backbone = self._load(self._name, self._layers, self._weights, runtime.device, runtime.seed, self._precision)
        runtime.notes["backbone"] = {
            "name": self._name,
            "layers": list(self._layers),
            "weights": self._weights,
            "weights_sha256": backbone.weights_sha256,
            **({"batch": backbone.batch} if backbone.batch else {}),
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
            backbone = self.backbone
        if backbone.batch:
            yield from self._counted(images, self._batched(images, None))
        else:
            yield from self._counted(images, in_order(self._tasks(images), backbone.workers))

    def extract_with(self, images: ImageSet, then: Then) -> Iterator[Maps]:
        """Yield what `then` makes of each image's levels, in order: batch by batch, without their leaving the device.

        Args:
            images: the images.
            then: makes (B, ...) arrays of a batch's levels, on the device, of each image by itself.

        Yields:
            The arrays of one image, in `then`'s order.
        """
        yield from self._counted(images, self._batched(images, then))

    def _counted(self, images: ImageSet, results: Generator[Maps, None, None]) -> Iterator[Maps]:
        """Yield a result an image; the seconds that it was waited for count as features."""
        progress = self._runtime.progress
        with closing(results):
            for _ in progress.track(range(len(images)), PHASE, total=len(images)):
                with progress.timed(PHASE):
                    found = next(results)
                yield found

    def _tasks(self, images: ImageSet) -> Iterator[Callable[[], Maps]]:
        """Yield what is to be done for each image once it is found; it returns the image's maps."""
        with closing(self._found(images)) as found:
            for key, one in zip(self._keys(images), found, strict=True):
                yield partial(self._compute, one, key)

    def _batched(self, images: ImageSet, then: Then | None) -> Generator[Maps, None, None]:
        """Yield the maps of each image, or what `then` makes of them, in order, by batches."""
        check_room(self.backbone, images.size)

        def tasks() -> Iterator[Callable[[], Maps]]:
            keys = iter(self._keys(images))
            try:
                with closing(batches(self.backbone, self._found(images), then)) as ready:
                    for batch in ready:
                        for number, one in enumerate(batch.found):
                            yield partial(self._receive, batch, number, one, next(keys), then is not None)
            except Exception as error:  # noqa: BLE001 - raised behind the images that are on their way
                yield partial(_raise, error)

        return in_order(tasks(), usable_cores())

    def _keys(self, images: ImageSet) -> Sequence[str | None]:
        return [None] * len(images) if self._runtime.feature_store is None else images.fingerprints

    def _found(self, images: ImageSet) -> Generator[Callable[[], Found], None, None]:
        """Yield, in order, what waits for an image or for what is stored of it; they are read ahead, in threads."""
        searches = (partial(self._find, images, index, key) for index, key in enumerate(self._keys(images)))
        return ahead(searches, usable_cores())

    def _find(self, images: ImageSet, index: int, key: str | None) -> Found:
        """Return an image's stored maps, or the image, decoded.

        Args:
            images: where it comes from.
            index: its place there.
            key: its fingerprint, or None without a feature store.
        """
        store, spaces = self._runtime.feature_store, self.backbone.spaces
        if store is None or key is None:
            return Found(images[index])
        stored = [store.get(space, key) for space in spaces]
        maps = tuple(arrays[_ARRAY] for arrays in stored if arrays is not None)
        if len(maps) == len(stored):
            return Found(stored=maps)
        lacking = tuple(space for space, arrays in zip(spaces, stored, strict=True) if arrays is None)
        return Found(images[index], spaces=lacking)

    def _compute(self, found: Callable[[], Found], key: str | None) -> Maps:
        """Wait for an image, and return its maps."""
        one = found()
        if one.done is not None:
            return one.done
        maps = one.stored if one.image is None else self.backbone(one.image)
        self._store(maps, one.spaces, key)
        return self._finish(maps, key)

    def _receive(self, batch: Batch, number: int, one: Found, key: str | None, follows: bool) -> Maps:
        """Return an image's part of a batch: what follows its levels, or its maps."""
        if one.done is not None:
            return one.done
        maps, made = batch.of(number)
        self._store(maps, one.spaces, key)
        return made if follows else self._finish(maps, key)

    def _store(self, maps: Maps, spaces: Sequence[str], key: str | None) -> None:
        store = self._runtime.feature_store
        if store is None or key is None:
            return
        for space, level in zip(self.backbone.spaces, maps, strict=False):  # a batch without news keeps its levels
            if space in spaces:
                store.put(space, key, {_ARRAY: level})

    def _finish(self, maps: Maps, key: str | None) -> Maps:
        """Return what is made of an image's maps on the host: here, themselves."""
        return maps


def _raise(error: Exception) -> Maps:
    raise error
