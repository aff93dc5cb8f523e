"""A network that looks at each image by itself: several at a time on a CPU, in batches on a device that takes them.

What it makes of an image depends on that image alone: neither on the others nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.device import Arrays, Waiting, batch_of, through
from ltbench.blocks.switches import reproducible
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.core import Prediction
from ltbench.cores import in_order, usable_cores
from ltbench.method import ImageSet

T = TypeVar("T")

Row = tuple[NDArray[np.generic], ...]
"""The arrays of one image that a network reads."""

Network = Callable[[list[Tensor]], Sequence[Tensor]]
"""Makes arrays (B, ...) of those at each place of rows, (B, ...), on their device and of each image by itself."""


def readers(
    images: ImageSet,
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.generic]] | None = None,
    places: Iterable[int] | None = None,
) -> Iterator[Callable[[], Row]]:
    """Yield what reads each image, for `each_image`.

    Args:
        images: what to read.
        prepare: makes of an image (H, W, 3) the array that the network reads; it reads the image itself by default.
        places: which images, in which order; all by default.
    """

    def read(place: int) -> Row:
        image = images[place]
        return (image if prepare is None else prepare(image),)

    return (partial(read, place) for place in (range(len(images)) if places is None else places))


def at_hand(rows: Iterable[Row]) -> Iterator[Callable[[], Row]]:
    """Yield what gives arrays that are there already, for `each_image`."""
    return (partial(tuple, row) for row in rows)


def each_image(
    rows: Iterable[Callable[[], Row]],
    networks: Iterable[Network],
    finish: Callable[[Arrays], T],
    device: torch.device,
    *,
    gradients: bool = False,
) -> Iterator[T]:
    """Yield what networks make of each image, in order.

    Args:
        rows: what gives the arrays of each image; called in threads, ahead of the network. Arrays at one place have one
            shape and type.
        networks: of each image; called without gradients. No batch has images of two, so that those of one should
            follow one another.
        finish: makes what is wanted of what a network made of one image; called in threads, each with one thread of
            torch and without gradients.
        device: where the networks are.
        gradients: whether networks leave inference mode and take gradients of their own.
    """

    def alone(network: Network, row: Callable[[], Row]) -> T:
        arrays = row()
        with torch.inference_mode(), reproducible(device, gradients=gradients):
            made = network([torch.tensor(array, device=device)[None] for array in arrays])
            return finish(tuple(array[0].cpu().numpy() for array in made))

    def finished(wait: Waiting) -> T:
        with torch.inference_mode(), torch_on_one_thread():
            return finish(wait())

    if not batch_of(device):
        tasks = (partial(alone, network, row) for row, network in zip(rows, networks, strict=False))
        yield from in_order(tasks, torch.get_num_threads())
        return
    with closing(in_order(rows, usable_cores())) as read:
        groups = groupby(zip(read, networks, strict=False), key=itemgetter(1))
        waits = (
            wait
            for network, group in groups
            for wait in through(map(itemgetter(0), group), network, device, gradients=gradients)
        )
        yield from in_order((partial(finished, wait) for wait in waits), usable_cores())


def gathered(
    results: Iterable[Sequence[float | NDArray[np.float32]]],
    count: int,
    size: tuple[int, int],
    places: Iterable[int] | None = None,
) -> Prediction:
    """Return the prediction that scores, and maps (H, W), of one image after the other make.

    Args:
        results: a score and a map an image.
        count: of the images.
        size: (H, W).
        places: of the images, where they come in another order.
    """
    scores, maps = np.empty(count, np.float32), np.empty((count, *size), np.float32)
    for place, (score, anomaly_map) in zip(range(count) if places is None else places, results, strict=True):
        scores[place], maps[place] = score, anomaly_map
    return Prediction(scores, maps)
