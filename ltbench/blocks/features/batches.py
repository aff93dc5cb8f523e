"""Batches of one shape through a backbone, and through what follows it on the same device."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.device import Waiting, download, groups, upload
from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.switches import reproducible

Maps = tuple[NDArray[np.float32], ...]
"""The features of one image: a map (C, h, w), or tokens (T, C), for each layer."""

Then = Callable[[list[Tensor]], Sequence[Tensor]]
"""Makes of a batch's levels, (B, ...) each, what a method wants of every image, (B, ...) each, on the same device."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of an image before the backbone sees it: one of three.

    Args:
        image: (H, W, 3), to be computed.
        stored: its levels, from the feature store.
        done: all that is wanted of it.
        spaces: those of the levels that the store lacks.
    """

    image: NDArray[np.uint8] | None = None
    stored: Maps = ()
    done: Maps | None = None
    spaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch on its way: its images in order, and where each lies in what is waited for.

    Args:
        found: the images; those that are done have no place.
        waiting: gives the levels, if they were asked for, then what followed.
        levels: how many arrays in front are levels.
    """

    found: list[Found]
    waiting: Waiting | None
    levels: int
    places: list[int] = field(default_factory=list)

    def of(self, number: int) -> tuple[Maps, Maps]:
        """Return the levels and what followed of one of the images; waits for them."""
        assert self.waiting is not None
        arrays = tuple(array[self.places[number]] for array in self.waiting())
        return arrays[: self.levels], arrays[self.levels :]


def batches(
    backbone: Backbone, images: Generator[Callable[[], Found], None, None], then: Then | None
) -> Generator[Batch, None, None]:
    """Yield batches in order; while one is looked at, the next is on its way.

    What finding an image raises is raised behind the images before it.

    Args:
        backbone: on a device that takes batches.
        images: gives each image, or waits for it.
        then: what follows; None where the levels themselves are wanted.
    """
    last: Batch | None = None
    for found, error in groups(images, backbone.batch, lambda one: one.done is None):
        batch = _launch(backbone, found, then) if found else None
        if last is not None:
            yield last
        last = batch
        if error is not None:
            if last is not None:
                yield last
            raise error
    if last is not None:
        yield last


def _launch(backbone: Backbone, found: list[Found], then: Then | None) -> Batch:
    """Send a batch to the device; nothing here waits for it."""
    slots = [one for one in found if one.done is None]
    places, used = [], 0
    for one in found:
        places.append(used)
        used += one.done is None
    if not slots:
        return Batch(found, None, 0, places)
    keeps = then is None or any(one.spaces for one in slots)
    with torch.inference_mode():
        levels = _levels(backbone, slots)
        with reproducible(backbone.device):
            follows = [] if then is None else list(then(levels))
        sent = [*levels, *follows] if keeps else follows
        return Batch(found, download(sent), len(levels) if keeps else 0, places)


def _levels(backbone: Backbone, slots: list[Found]) -> list[Tensor]:
    """Return the levels of images, (B, ...) each: computed, or brought from the store; the rest is padding."""
    count = backbone.batch
    computed = [(place, one.image) for place, one in enumerate(slots) if one.image is not None]
    if computed:
        pixels = np.zeros((count, *computed[0][1].shape), np.uint8)
        for place, image in computed:
            pixels[place] = image
        # In one order of memory, as stored ones come: what follows adds up in that order.
        levels = [level.contiguous() for level in backbone.levels(upload(pixels, backbone.device))]
    else:
        levels = [torch.zeros(count, *level.shape, device=backbone.device) for level in slots[0].stored]
    for number, level in enumerate(levels):
        brought = [(place, one.stored[number]) for place, one in enumerate(slots) if one.image is None]
        if brought:
            rows = upload(np.stack([array for _, array in brought]), backbone.device)
            for row, (place, _) in zip(rows, brought, strict=True):
                level[place] = row
    return levels
