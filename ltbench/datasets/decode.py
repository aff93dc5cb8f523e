"""Read an image file to the last pixel, or say which file is broken."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from ltbench.errors import DataError

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif", ".jp2"))
"""Suffixes, in lower case, of the files that are taken for images; all of them are formats that Pillow reads."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for a file that is no image, is cut short or claims an absurd size."""

SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""The modes in which Pillow gives grey of 16 bits."""


def is_image_name(name: str) -> bool:
    """Return whether a file's name ends like an image's, whatever its case."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def members(path: Path) -> list[Path]:
    """Return the file itself, or of a folder its image files in sorted order."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if is_image_name(file.name) and not file.name.startswith("."))


def decode(file: Path) -> Image.Image:
    """Return the whole image of a file in its own mode (orientation tags are not applied).

    Raises:
        DataError: the file is missing, no image, or truncated.
    """
    try:
        with Image.open(file) as image:
            image.load()
            return image.copy()
    except FileNotFoundError:
        raise DataError(f"Expected the image {file}, got no such file. Copy it there or mend the path.") from None
    except _BROKEN as error:
        raise DataError(
            f"Expected a whole image in {file}, got one that cannot be read ({error}). Copy or download it anew."
        ) from error


def check_sums(file: Path) -> None:
    """Raise `DataError` when a file's check sums or its end are wrong, where the format has them (PNG).

    Such a file may still decode to pixels, though perhaps not to those that were written.
    """
    try:
        with Image.open(file) as image:
            image.verify()
    except _BROKEN as error:
        raise DataError(f"Expected an undamaged image in {file}, got {error}. Copy or download it anew.") from error


def size_of(file: Path) -> tuple[int, int]:
    """Return (width, height) in pixels from a file's header, without decoding it.

    Raises:
        DataError: the file is missing or no image.
    """
    try:
        with Image.open(file) as image:
            return image.size
    except FileNotFoundError:
        raise DataError(f"Expected the image {file}, got no such file. Copy it there or mend the path.") from None
    except _BROKEN as error:
        raise DataError(f"Expected an image in {file}, got none ({error}). Copy or download it anew.") from error


def to_rgb(image: Image.Image, file: Path, depth: int = 16) -> Image.Image:
    """Return an image as 8-bit RGB.

    Grey becomes three equal channels, a palette its colours; an alpha channel is dropped. 16-bit grey is scaled by
    255 / (2^depth - 1) and rounded, so that white stays white.

    Args:
        image: any mode that Pillow reads.
        file: where it was read, for the message.
        depth: how many of the 16 bits of grey are used.

    Raises:
        DataError: pixels that have no defined range (floating point, or integers outside the depth).
    """
    if image.mode in SIXTEEN_BIT:
        values, white = np.asarray(image).astype(np.int64), 2**depth - 1
        if values.min() < 0 or values.max() > white:
            raise DataError(
                f"Expected {depth}-bit pixels in {file}, got values outside 0-{white}. Save it with 8 or {depth} bit"
                f"{', or leave +depth12 out of the protocol' if depth != 16 else ''}."
            )
        image = Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
    if image.mode == "F":
        raise DataError(f"Expected integer pixels in {file}, got floating-point ones. Save it with 8 or 16 bit.")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
