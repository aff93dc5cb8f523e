"""The images that CutPaste tells apart: pieces of an image pasted elsewhere in it, and turned strips (scars).

What is drawn and what is done with it are apart, so that given numbers make a given image. Sizes and ranges are those
of Li et al., CVPR 2021, as Runinho/pytorch-cutpaste (10d8bf7) has them; images are square there, here rows go with the
height and columns with the width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from ltbench.blocks.training.draws import Draws

Jitter = Callable[[Image.Image], Image.Image]
"""Changes the colours of a piece."""

AREA = (0.02, 0.15)
"""Share of the image that a patch covers."""
ASPECT = (0.3, 1 / 0.3)
"""Width over height of a patch, drawn evenly on a logarithmic scale."""
SCAR_WIDTH, SCAR_HEIGHT, SCAR_ANGLE = (2.0, 16.0), (10.0, 25.0), (-45.0, 45.0)
"""Pixels of a strip at a side of `SIDE`, and degrees by which it is turned, counter-clockwise."""
SIDE = 256
"""The side for which sizes of strips are given."""
SMALLEST_SCAR = (1.0, 2.0)
"""Fewest pixels of a strip, width and height, in smaller images."""


@dataclass(frozen=True, slots=True)
class Patch:
    """What is drawn for a patch; places are real numbers whose whole part counts.

    Args:
        area: share of the image.
        aspect: width over height.
        source: row and column of its upper left corner, as a share of what its size leaves, in [0, 1).
        target: where it goes, likewise.
    """

    area: float
    aspect: float
    source: tuple[float, float]
    target: tuple[float, float]

    @classmethod
    def draw(cls, draws: Draws) -> Patch:
        """Draw one: area, aspect, source row and column, target row and column."""
        area = _between(draws, *AREA)
        aspect = math.exp(_between(draws, math.log(ASPECT[0]), math.log(ASPECT[1])))
        return cls(area, aspect, (draws.uniform(), draws.uniform()), (draws.uniform(), draws.uniform()))

    def size(self, image: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the patch in an image of that (height, width), in pixels."""
        area = self.area * image[0] * image[1]
        height, width = round(math.sqrt(area / self.aspect)), round(math.sqrt(area * self.aspect))
        return min(max(height, 1), image[0]), min(max(width, 1), image[1])


@dataclass(frozen=True, slots=True)
class Scar:
    """What is drawn for a strip.

    Args:
        height: of the strip in pixels.
        width: of the strip in pixels.
        source: row and column of its upper left corner, as a share of what its size leaves, in [0, 1).
        angle: degrees, counter-clockwise.
        target: where the box around the turned strip goes, likewise.
    """

    height: float
    width: float
    source: tuple[float, float]
    angle: float
    target: tuple[float, float]

    @classmethod
    def draw(cls, draws: Draws, side: int) -> Scar:
        """Draw one for an image whose shorter side is `side`: width, height, row, column, angle, row, column."""
        scale = side / SIDE
        width = max(scale * _between(draws, *SCAR_WIDTH), SMALLEST_SCAR[0])
        height = max(scale * _between(draws, *SCAR_HEIGHT), SMALLEST_SCAR[1])
        source = draws.uniform(), draws.uniform()
        angle = _between(draws, *SCAR_ANGLE)
        return cls(height, width, source, angle, (draws.uniform(), draws.uniform()))


def with_patch(image: NDArray[np.uint8], patch: Patch, jitter: Jitter) -> NDArray[np.uint8]:
    """Return an image with a patch of itself pasted over it, without blending.

    Args:
        image: (H, W, 3) RGB.
        patch: which piece, and where it goes.
        jitter: changes the piece's colours.
    """
    height, width = patch.size(image.shape[:2])
    row, column = _place(patch.source, image.shape[0] - height, image.shape[1] - width)
    piece = jitter(Image.fromarray(image[row : row + height, column : column + width]))
    row, column = _place(patch.target, image.shape[0] - height, image.shape[1] - width)
    result = image.copy()
    result[row : row + height, column : column + width] = np.asarray(piece)
    return result


def with_scar(image: NDArray[np.uint8], scar: Scar, jitter: Jitter, *, overhang: bool = False) -> NDArray[np.uint8]:
    """Return an image with a strip of itself turned and pasted over it; the corners around it stay.

    Args:
        image: (H, W, 3) RGB.
        scar: which strip, and where it goes.
        jitter: changes the strip's colours.
        overhang: as in the public code: the row is drawn by the width of the turned strip and the column by its height,
            so that an upright strip can hang over the lower edge, where it is cut.
    """
    rows, columns = image.shape[:2]
    top, left = _place(scar.source, rows - scar.height, columns - scar.width)
    strip = image[top : round(top + scar.height), left : round(left + scar.width)]
    turned = jitter(Image.fromarray(strip)).convert("RGBA").rotate(scar.angle, expand=True)
    height, width = (turned.width, turned.height) if overhang else (turned.height, turned.width)
    row, column = _place(scar.target, rows - height, columns - width)
    canvas = Image.fromarray(image)
    canvas.paste(turned, (column, row), mask=turned.getchannel("A"))
    return np.asarray(canvas)


def jittered(image: Image.Image, strength: float, draws: Draws) -> Image.Image:
    """Return an image with brightness, contrast, saturation and hue changed, in an order that is drawn.

    It is torchvision's ColorJitter with the same strength for all four, on Pillow images.

    Args:
        image: RGB.
        strength: factors are from [1 - strength, 1 + strength], the turn of the hue from [-strength, strength].
        draws: order, then each amount.
    """
    if strength == 0:
        return image
    for operation in draws.subset(4, 4).tolist():
        amount = _between(draws, -strength, strength)
        if operation == 3:
            image = turned_hue(image, amount)
        else:
            kind = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[operation]
            image = kind(image).enhance(1 + amount)
    return image


def turned_hue(image: Image.Image, share: float) -> Image.Image:
    """Return an RGB image whose hue is turned by a share of the circle, in [-0.5, 0.5]."""
    hue, saturation, value = image.convert("HSV").split()
    shifted = (np.asarray(hue).astype(np.int16) + int(share * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(shifted.astype(np.uint8)), saturation, value)).convert("RGB")


def _place(shares: tuple[float, float], rows: float, columns: float) -> tuple[int, int]:
    return int(shares[0] * max(rows, 0)), int(shares[1] * max(columns, 0))


def _between(draws: Draws, low: float, high: float) -> float:
    return low + (high - low) * draws.uniform()
