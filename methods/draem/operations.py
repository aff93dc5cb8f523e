"""The ten operations of which each texture goes through three, on pixels (H, W, 3), RGB.

Source: the authors' augmenters of imgaug (VitjanZ/DRAEM) with its ranges. Pillow's operations give the same pixels;
imgaug changes brightness in one of six colour spaces, this module in one of two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Pixels = NDArray[np.uint8]
Operation = Callable[[Pixels, np.random.Generator], Pixels]


def gamma_contrast(pixels: Pixels, exponents: NDArray[np.floating]) -> Pixels:
    """Return floor(255 (v / 255)^g) of each channel.

    Args:
        pixels: (H, W, 3).
        exponents: (3).
    """
    table = (255 * (np.arange(256)[:, None] / 255) ** exponents).astype(np.uint8)
    return np.stack([table[:, channel][pixels[..., channel]] for channel in range(3)], axis=2)


def change_brightness(pixels: Pixels, factor: float, offset: float, *, space: str, adds_first: bool) -> Pixels:
    """Return pixels whose lightness is multiplied and added to.

    Args:
        pixels: (H, W, 3).
        factor: what it is multiplied by.
        offset: what is added, of 255.
        space: "YCbCr" for Y, "HSV" for V.
        adds_first: which of the two comes first.
    """
    values = np.arange(256)
    changed = (values + offset) * factor if adds_first else values * factor + offset
    table = np.clip(changed, 0, 255).round().astype(np.uint8)
    bands = list(Image.fromarray(pixels).convert(space).split())
    place = 0 if space == "YCbCr" else 2
    bands[place] = bands[place].point(table.tolist())
    return np.array(Image.merge(space, bands).convert("RGB"))


def sharpen(pixels: Pixels, factor: float) -> Pixels:
    """Return pixels blended with smoothed ones: 0 is smooth, 1 leaves them, 2 is sharp."""
    return np.array(ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance(factor))


def shift_hue_and_saturation(pixels: Pixels, hue: int, saturation: int) -> Pixels:
    """Return pixels of another hue and saturation.

    Args:
        pixels: (H, W, 3).
        hue: of 255 to the whole circle; it goes round.
        saturation: of 255; it is cut off.
    """
    h, s, v = _hsv(pixels.astype(np.int32))
    h = (h + int(hue * 180 / 255)) % 180
    return _rgb(h, np.clip(s + saturation, 0, 255), v)


def solarise(pixels: Pixels, threshold: int) -> Pixels:
    """Return pixels with the values from a threshold on inverted."""
    return np.where(pixels >= threshold, 255 - pixels, pixels)


def posterise(pixels: Pixels, bits: int) -> Pixels:
    """Return pixels of which the first 1 to 8 bits are left."""
    return pixels & np.uint8(256 - 2 ** (8 - bits))


def equalise(pixels: Pixels) -> Pixels:
    """Return pixels with an even histogram of each channel."""
    return np.array(ImageOps.equalize(Image.fromarray(pixels)))


def stretch_contrast(pixels: Pixels, cutoff: float) -> Pixels:
    """Return pixels from 0 to 255 in each channel once `cutoff` percent are cut off at either end."""
    return np.array(ImageOps.autocontrast(Image.fromarray(pixels), cutoff))


def turn(pixels: Pixels, degrees: float) -> Pixels:
    """Return pixels turned about their middle, clockwise on the screen, bilinear, zeros coming in."""
    return np.array(Image.fromarray(pixels).rotate(-degrees, Image.Resampling.BILINEAR))


def _brightness(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    space = "YCbCr" if rng.random() < 0.5 else "HSV"
    factor, offset = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    return change_brightness(pixels, factor, offset, space=space, adds_first=bool(rng.random() < 0.5))


def _hue(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    hue, saturation = rng.integers(-50, 50, 2, endpoint=True).tolist()
    return shift_hue_and_saturation(pixels, hue, saturation)


def _solarise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return solarise(pixels, int(rng.integers(32, 128, endpoint=True))) if rng.random() < 0.5 else pixels


OPERATIONS: tuple[Operation, ...] = (
    lambda pixels, rng: gamma_contrast(pixels, rng.uniform(0.5, 2.0, 3)),
    _brightness,
    lambda pixels, rng: sharpen(pixels, rng.uniform(0, 2)),
    _hue,
    _solarise,
    lambda pixels, rng: posterise(pixels, int(rng.integers(1, 8, endpoint=True))),
    lambda pixels, rng: 255 - pixels,
    lambda pixels, rng: stretch_contrast(pixels, int(rng.integers(0, 20, endpoint=True))),
    lambda pixels, rng: equalise(pixels),
    lambda pixels, rng: turn(pixels, rng.uniform(-45, 45)),
)

AT_ONCE = 3
"""How many different operations a texture goes through, in random order."""


def altered(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a texture after three different operations."""
    for place in rng.choice(len(OPERATIONS), AT_ONCE, replace=False):
        pixels = OPERATIONS[place](pixels, rng)
    return pixels


def _hsv(pixels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return hue (0 to 179), saturation and value (0 to 255) as OpenCV's fixed-point arithmetic has them."""
    r, g, b = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    value = pixels.max(axis=2)
    spread = value - pixels.min(axis=2)
    counts = np.arange(1, 256)
    per_value = np.concatenate([[0], np.rint((255 << 12) / counts)]).astype(np.int32)
    per_spread = np.concatenate([[0], np.rint((180 << 12) / (6.0 * counts))]).astype(np.int32)
    saturation = (spread * per_value[value] + (1 << 11)) >> 12
    sixths = np.where(value == r, g - b, np.where(value == g, b - r + 2 * spread, r - g + 4 * spread))
    hue = (sixths * per_spread[spread] + (1 << 11)) >> 12
    return np.where(hue < 0, hue + 180, hue), saturation, value


_SECTORS = np.array([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]])
"""Which of four values red, green and blue take in each sixth of the circle."""


def _rgb(hue: NDArray[np.int32], saturation: NDArray[np.int32], value: NDArray[np.int32]) -> Pixels:
    """Return the pixels of a hue (0 to 179), saturation and value (0 to 255)."""
    sixths = hue.astype(np.float32) * np.float32(6 / 180)
    s, v = saturation.astype(np.float32) / 255, value.astype(np.float32) / 255
    sector = sixths.astype(np.intp)
    part = sixths - sector
    four = np.stack([v, v * (1 - s), v * (1 - s * part), v * (1 - s * (1 - part))], axis=-1)
    chosen = np.take_along_axis(four, _SECTORS[sector], axis=-1)
    pixels: Pixels = np.rint(chosen * 255).astype(np.uint8)
    return pixels
