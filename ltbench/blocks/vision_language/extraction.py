"""Readings of sets of images and lists of texts: from the feature store where it has them, else from the model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ltbench.blocks.device import groups
from ltbench.blocks.features.extractor import PHASE
from ltbench.blocks.switches import reproducible
from ltbench.blocks.vision_language.reading import Grid, Reader, Reading, Views
from ltbench.core import sha256_of
from ltbench.cores import ahead, in_order, usable_cores
from ltbench.method import ImageSet, Runtime

Pixels = NDArray[np.uint8]


def readings(reader: Reader, images: ImageSet, views: Views, side: int, runtime: Runtime) -> Iterator[Reading]:
    """Yield what a model says of each image, in order: from the runtime's feature store where it has it.

    A device that takes batches gets them in one shape, the last one padded, so that no image depends on those that
    share its batch; while one is looked at, the next is on its way.

    Args:
        reader: the model.
        images: resized to `side` bicubically, as Pillow does, where they have another size.
        views: what is asked.
        side: side in pixels that the model is given; 0 for the images' own.
        runtime: feature store and progress; the seconds waited count as the phase "features".
    """
    size = (side, side) if side else images.size
    grid = reader.grid(size)
    given = {"reading": reader.identity(), "views": asdict(views), "size": size, "from": images.size}
    space = sha256_of(given | {"pillow": PIL.__version__})[:32]
    asked = _Asked(reader, images, views, size, grid, space, runtime)
    progress = runtime.progress
    with closing(in_order(asked.batches() if reader.batch else asked.singles(), reader.workers)) as results:
        for _ in progress.track(range(len(images)), PHASE, total=len(images)):
            with progress.timed(PHASE):
                found = next(results)
            yield found


@dataclass(frozen=True, slots=True)
class _Asked:
    """What `readings` is asked for; `space` names it in the feature store."""

    reader: Reader
    images: ImageSet
    views: Views
    size: Grid
    grid: Grid
    space: str
    runtime: Runtime

    def singles(self) -> Iterator[Callable[[], Reading]]:
        """Yield what is to be done for each image, one by one."""

        def read(waited: Callable[[], Reading | Pixels], key: str | None) -> Reading:
            found = waited()
            return found if isinstance(found, Reading) else self._kept(self.reader.read(found, self.views), key)

        with closing(self._found()) as found:
            for one, key in zip(found, self._keys(), strict=True):
                yield partial(read, one, key)

    def batches(self) -> Iterator[Callable[[], Reading]]:
        """Yield what waits for each image's reading, once the batch behind its own has been sent."""
        keys, last = iter(self._keys()), list[Callable[[], Reading]]()
        for group, error in groups(self._found(), self.reader.batch, lambda one: not isinstance(one, Reading)):
            sent = self._sent([one for one in group if not isinstance(one, Reading)])
            yield from last
            last = [
                partial(_given, one) if isinstance(one, Reading) else partial(self._received, next(sent), key)
                for one, key in zip(group, islice(keys, len(group)), strict=True)
            ]
            if error is not None:
                last.append(partial(_raise, error))
        yield from last

    def _sent(self, images: list[Pixels]) -> Iterator[Callable[[], Reading]]:
        """Send images to the device, padded to a batch, and yield what waits for each one's reading."""
        if not images:
            return iter(())
        padded = np.zeros((self.reader.batch, *images[0].shape), np.uint8)
        np.stack(images, out=padded[: len(images)])
        reading_of = self.reader.send(padded, self.views)
        return (partial(reading_of, place) for place in range(len(images)))

    def _received(self, wait: Callable[[], Reading], key: str | None) -> Reading:
        return self._kept(wait(), key)

    def _found(self) -> Generator[Callable[[], Reading | Pixels], None, None]:
        """Yield what waits for each image's stored reading, or for its pixels; both are read ahead of the model."""
        return ahead((partial(self._find, index, key) for index, key in enumerate(self._keys())), usable_cores())

    def _find(self, index: int, key: str | None) -> Reading | Pixels:
        store = self.runtime.feature_store
        if store is not None and key is not None and (stored := store.get(self.space, key)) is not None:
            return Reading.of(self.grid, stored)
        image = self.images[index]
        if image.shape[:2] != self.size:
            image = np.array(Image.fromarray(image).resize(self.size[::-1], Image.Resampling.BICUBIC))
        return image

    def _kept(self, reading: Reading, key: str | None) -> Reading:
        store = self.runtime.feature_store
        if store is not None and key is not None:
            store.put(self.space, key, reading.arrays)
        return reading

    def _keys(self) -> Sequence[str | None]:
        return [None] * len(self.images) if self.runtime.feature_store is None else self.images.fingerprints


def _given(reading: Reading) -> Reading:
    return reading


def _raise(error: Exception) -> Reading:
    raise error


def text_vectors(reader: Reader, texts: Sequence[str], runtime: Runtime) -> Tensor:
    """Return the vectors of texts, (n, D), float32 on the CPU: from the feature store where it has the list.

    They are kept by the hash of all texts. Equal texts are read once, each by itself.
    """
    space = sha256_of({"texts": reader.identity()})[:32]
    key, store = sha256_of(list(texts)), runtime.feature_store
    if store is not None and (stored := store.get(space, key)) is not None:
        return torch.tensor(stored["vectors"])
    distinct = list(dict.fromkeys(texts))
    with torch.inference_mode(), reproducible(torch.device(reader.device)):
        vectors = reader.text.encode_texts(distinct).float().cpu()
    found = vectors[[distinct.index(text) for text in texts]].numpy().copy()
    if store is not None:
        store.put(space, key, {"vectors": found})
    return torch.tensor(found)
