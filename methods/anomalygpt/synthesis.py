"""Simulated anomalies: pieces of one training image, blended into another (NSA's way, in AnomalyGPT's code).

As in the code the piece may come from an image of any category, and where it comes from is judged by the background of
the image that it goes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from .categories import Simulation
from .poisson import FEWEST, blended, box_of

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice]

TRIES = 200
"""How often a place is drawn before a piece is given up."""

LEAST, SHAPE, SCALE = 0.03, 2.0, 0.05
"""Of half a side, as shares of the image's: what is added, and shape and scale of the Gamma distribution."""

SPREAD = 0.5
"""Standard deviation of the factor by which a piece is resized; its mean is 1."""

ON_OBJECT = 0.25
"""More than this share of a piece's object must fall on the image's."""

RADIUS = 5
"""Pixels of the disk in which a change is told by its median."""

_SQUARE = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
_DISK = _SQUARE[:, np.hypot(*_SQUARE) <= RADIUS]
"""Rows and columns of the 81 pixels of a disk, (2, 81), from its middle."""


class Altered(NamedTuple):
    """An image with simulated anomalies.

    Args:
        pixels: (S, S, 3).
        label: (S, S) in [0, 1], soft: how anomalous each pixel is.
    """

    pixels: Pixels
    label: NDArray[np.float64]


class Example(NamedTuple):
    """What a training step adds to a clean image.

    Args:
        pixels: (S, S, 3), the altered image.
        mask: (S, S), where it is anomalous.
    """

    pixels: Pixels
    mask: Mask


class Piece(NamedTuple):
    """What is cut out of one image, and where it goes in another.

    Args:
        pixels: (h, w, 3).
        box: rows and columns of the other image.
        region: (h, w), what of it counts as anomalous where it changes something.
    """

    pixels: Pixels
    box: Box
    region: Mask


@dataclass(frozen=True)
class Synthesis:
    """Makes an altered copy of a training image.

    Args:
        images: (N, S, S, 3), the training images.
        simulations: of each image.
        threshold: of the soft label, above which a pixel is anomalous.
    """

    images: Pixels
    simulations: Sequence[Simulation]
    threshold: float

    def draw(self, index: int, rng: np.random.Generator) -> Example:
        """Return the altered copy of an image; pieces come from another one, if there is another."""
        others = len(self.images) - 1
        source = (index + 1 + int(rng.integers(others))) % len(self.images) if others else index
        found = altered(np.asarray(self.images[index]), np.asarray(self.images[source]), self.simulations[index], rng)
        return Example(found.pixels, found.label > self.threshold)


def altered(image: Pixels, source: Pixels, how: Simulation, rng: np.random.Generator) -> Altered:
    """Return an image with one or two pieces of another one in it, as often one as two."""
    pixels, region = image, np.zeros(image.shape[:2], np.bool_)
    objects = (object_of(image, how), object_of(source, how))
    for number in range(2):
        if number and not rng.integers(2):
            break
        piece = cut(source, objects, how, rng)
        if piece is not None and (changed := pasted(pixels, piece)) is not None:
            pixels, region[piece.box] = changed, piece.region
    return Altered(pixels, soft_label(image, pixels, region, how))


def object_of(image: Pixels, how: Simulation) -> Mask:
    """Return where the object is, (S, S): far from the background's brightness, specks taken away."""
    if how.background is None:
        return np.ones(image.shape[:2], np.bool_)
    brightness, difference = how.background
    return _majority(np.abs(image.mean(axis=2) - brightness) > difference, 7)


def cut(source: Pixels, objects: tuple[Mask, Mask], how: Simulation, rng: np.random.Generator) -> Piece | None:
    """Draw a piece of an image, its size and its place in another; None where no place is found for it.

    Args:
        source: (S, S, 3).
        objects: where the object is in the image that it goes to, and in the source.
        how: the category's.
        rng: random numbers.
    """
    side = len(source)
    bounds = [(round(low * side), round(high * side)) for low, high in (how.rows, how.columns)]
    halves = [int(np.clip((LEAST + rng.gamma(SHAPE, SCALE)) * side, low, high)) for low, high in bounds]
    for _ in range(TRIES):
        centre = [int(rng.integers(low, side - low)) for low, _ in bounds]
        box = tuple(slice(max(c - half, 0), min(c + half, side)) for c, half in zip(centre, halves, strict=True))
        if objects[1][box].any():
            break
    else:
        return None
    rows, columns = box
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    size = _size(shape, bounds, float(np.clip(rng.normal(1, SPREAD), *how.resizing)))
    pixels = _resized(source[box], size).astype(np.uint8)
    own = _resized(objects[1][box][..., None], size)[..., 0] > 0
    place = _place(own, objects[0], how, rng)
    if place is None:
        return None
    return Piece(pixels, place, own | objects[0][place])


def pasted(image: Pixels, piece: Piece) -> Pixels | None:
    """Return an image with a piece blended in, or None where too little of it counts."""
    mask = np.ones(piece.region.shape, np.bool_)  # with a background, what is background in both counts as well
    mask[[0, -1]] = mask[:, [0, -1]] = False
    if mask.sum() < FEWEST:
        return None
    rows, columns = piece.box
    height, width = len(mask), len(mask.T)
    return blended(piece.pixels, mask, image, (rows.start + height // 2, columns.stop - width // 2))


def soft_label(image: Pixels, changed: Pixels, region: Mask, how: Simulation) -> NDArray[np.float64]:
    """Return how anomalous pixels are, (S, S): 0 outside the region, and where less than a grey level changed.

    Elsewhere it is a logistic function of the median change in a disk, in grey levels.
    """
    label = np.zeros(region.shape)
    if not region.any():
        return label
    box = box_of(region, margin=RADIUS + 3)
    change = np.abs(image[box].astype(np.int32) - changed[box]).sum(axis=2)
    moved = _majority((change > 3) & region[box], 5)
    label[box][moved] = 1 / (1 + np.exp(-how.slope * (disk_median(np.where(moved, change, 0), moved) / 3 - how.middle)))
    return label


def _size(shape: tuple[int, int], bounds: list[tuple[int, int]], factor: float) -> tuple[int, int]:
    """Return (height, width) of a piece resized by a factor: its aspect is kept as far as the bounds let it."""
    height, width = shape
    (low, high), across = bounds
    wanted = np.clip(factor * height, low, high)
    new = int(np.clip(int(wanted / height * width), *across))
    return int(np.clip(int(new / width * height), low, high)), new


def _place(own: Mask, target: Mask, how: Simulation, rng: np.random.Generator) -> Box | None:
    """Draw the rows and columns where a piece goes; with a background, its object must lie on the image's."""
    side, (height, width) = len(target), own.shape
    for _ in range(TRIES):
        row, column = (int(rng.integers(length // 2 + 1, side - length // 2 - 1)) for length in (height, width))
        top, left = row - height // 2, column - width // 2
        box = (slice(top, top + height), slice(left, left + width))
        if how.background is None or (own.any() and (own & target[box]).sum() > ON_OBJECT * own.sum()):
            return box
    return None


def _resized(values: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return values (h, w, C) of another size, bilinear without averaging, rounded."""
    planes = torch.from_numpy(values.transpose(2, 0, 1).astype(np.float32))[None]
    found: NDArray[np.float32] = F.interpolate(planes, size=size, mode="bilinear")[0].permute(1, 2, 0).numpy()
    return np.rint(found)


def disk_median(values: NDArray[np.int32], wanted: Mask) -> NDArray[np.int32]:
    """Return the median of a plane (h, w) in a disk around each of the pixels wanted, its border repeated: (n,)."""
    rows, columns = (places[:, None] + RADIUS for places in np.nonzero(wanted))
    near = np.pad(values, RADIUS, mode="edge")[rows + _DISK[0], columns + _DISK[1]]
    middle = _DISK.shape[1] // 2
    return np.partition(near, middle, axis=1)[:, middle]


def _majority(mask: Mask, side: int) -> Mask:
    """Return the median of a mask in squares, its border repeated."""
    return uniform_filter(mask.astype(np.float64), side, mode="nearest") > 0.5
