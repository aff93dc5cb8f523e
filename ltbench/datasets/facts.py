"""What a run needs to know of its images before it starts: that each is whole, and how many bits its pixels use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from ltbench.datasets.decode import SIXTEEN_BIT, decode, to_rgb
from ltbench.datasets.remembered import remembered
from ltbench.errors import DataError

TWELVE_BITS = 4095
"""The highest value of a camera of 12 bit."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image file that is whole.

    Args:
        is_deep: whether its pixels have 16 bits.
        is_colour: whether they have, and more than one channel; Pillow then reads the upper 8 bits of each.
        highest: of a deep image, the highest value, of 65535.
    """

    is_deep: bool = False
    is_colour: bool = False
    highest: int = 0

    @property
    def is_dark(self) -> bool:
        """Whether 16-bit pixels stay within 12 bits, as cameras of 12 bit leave them."""
        return self.is_deep and self.highest <= TWELVE_BITS


def facts_of(files: Iterable[Path]) -> dict[Path, ImageFacts]:
    """Return the facts of image files, each decoded to its last pixel, once a machine and version of Pillow.

    Raises:
        DataError: a file is missing, no image, truncated, or has pixels without a defined range.
    """
    wanted = list(files)
    found = remembered(f"images-{PIL.__version__}", wanted, lambda file: asdict(_look(file)))
    for file in wanted:
        if file not in found:
            raise DataError(f"Expected the image {file}, got no file that can be read. Copy it there or mend the path.")
    return {file: ImageFacts(**fact) for file, (_, fact) in found.items()}


def check_depth(file: Path, facts: ImageFacts, depth: int) -> None:
    """Raise `DataError` where a file's deep pixels cannot be read with that many bits; 16 fit all."""
    if facts.is_deep and depth < 16 and (facts.is_colour or facts.highest >= 2**depth):
        got = "colours of 16 bit" if facts.is_colour else f"values up to {facts.highest}"
        raise DataError(
            f"Expected grey values below {2**depth} in {file}, got {got}. Leave +depth{depth} out of the protocol."
        )


def _look(file: Path) -> ImageFacts:
    image = decode(file)
    to_rgb(image, file)
    if image.mode in SIXTEEN_BIT:
        return ImageFacts(is_deep=True, highest=int(np.asarray(image).max()))
    with Image.open(file) as header:
        if not any(";16" in str(tile[3]) for tile in header.tile):
            return ImageFacts()
    return ImageFacts(is_deep=True, is_colour=True, highest=256 * int(np.asarray(image).max()) + 255)
