"""Where the colours of synthetic defects come from: a folder of pictures, noise, or the training images themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ltbench.core import sha256_of
from ltbench.errors import DataError, SpecError

from .operations import Pixels, altered, gamma_contrast, turn
from .perlin import drawn_noise

PROCEDURAL, TRAIN = "procedural", "train"

REMEDY = (
    "Give a folder of pictures, as the paper has the Describable Textures Dataset: -p textures=/data/dtd/images, or "
    f"-p textures={PROCEDURAL} for noise, or -p textures={TRAIN} for other training images."
)

_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no picture, or is cut short."""

_OCTAVES, _LARGEST_POWER = 3, 4
"""Of procedural textures: at most so many octaves of noise, the coarsest of 2^0 to 2^4 cells a side."""


class Textures(Protocol):
    """Gives a texture at random."""

    def draw(self, image: int, rng: np.random.Generator) -> Pixels:
        """Return a texture, (S, S, 3), to be pasted on the training image of this index."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Pictures of one side, through three of the ten operations.

    Args:
        pixels: (N, S, S, 3).
        own: whether they are the training images, of which one is not pasted on itself.
    """

    pixels: NDArray[np.uint8]
    own: bool

    def draw(self, image: int, rng: np.random.Generator) -> Pixels:
        """Return a texture, (S, S, 3), to be pasted on the training image of this index."""
        count = len(self.pixels)
        chosen = (image + 1 + int(rng.integers(count - 1))) % count if self.own else int(rng.integers(count))
        return altered(np.asarray(self.pixels[chosen]), rng)


@dataclass(frozen=True)
class Procedural:
    """One to three octaves of Perlin noise in each colour channel, turned, brightened or darkened, and inverted.

    Args:
        side: in pixels.
    """

    side: int

    def draw(self, image: int, rng: np.random.Generator) -> Pixels:
        """Return a texture, (S, S, 3)."""
        values = np.stack([self._channel(rng) for _ in range(3)], axis=2)
        pixels = turn((255 * values.clip(0, 1)).astype(np.uint8), rng.uniform(-45, 45))
        pixels = gamma_contrast(pixels, rng.uniform(0.5, 2.0, 3))
        return 255 - pixels if rng.random() < 0.3 else pixels

    def _channel(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return noise in octaves, each of twice the cells and half the height of the one before, gained and moved."""
        powers = rng.integers(0, _LARGEST_POWER, 2, endpoint=True)
        octaves = int(rng.integers(1, _OCTAVES, endpoint=True))
        total = np.zeros((self.side, self.side), np.float32)
        for octave in range(octaves):
            a, b = (powers + octave).tolist()
            total += drawn_noise(self.side, (a, b), rng) / 2**octave
        return np.float32(rng.uniform(0.5, 2.0)) * total + np.float32(rng.uniform(0, 1))


def texture_files(textures: str) -> Sequence[Path]:
    """Return the pictures below a folder, sorted; none where textures are made or are training images.

    Each is opened, so that one that is no picture is told before anything is computed.

    Args:
        textures: the hyper-parameter.

    Raises:
        SpecError: neither one of the words nor the path of a folder.
        DataError: no such folder, one without pictures, or a file that only has the name of a picture.
    """
    if textures in (PROCEDURAL, TRAIN):
        return ()
    if not textures:
        raise SpecError(f"Expected a source of textures, got none. {REMEDY}")
    if not any(mark in textures for mark in "/\\"):  # a record tells folders by this, and hashes them
        raise SpecError(
            f"Expected {PROCEDURAL}, {TRAIN} or a folder's path, got {textures!r}. Write ./{textures} for a folder."
        )
    folder = Path(textures)
    if not folder.is_dir():
        raise DataError(f"Expected a folder of textures, got {textures!r}, which is none. {REMEDY}")
    suffixes = Image.registered_extensions()
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    if not files:
        raise DataError(f"Expected pictures in {textures}, got a folder without any. {REMEDY}")
    for file in files:
        try:
            Image.open(file).close()
        except _BROKEN as error:
            raise _unreadable(file, error) from error
    return files


def read_texture(file: Path, side: int) -> Pixels:
    """Return a picture, (S, S, 3), resized bilinearly; its aspect is not kept.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(file) as picture:
            return np.array(picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
    except _BROKEN as error:
        raise _unreadable(file, error) from error


def described(textures: str, files: Sequence[Path]) -> dict[str, Any]:
    """Return what a record notes of a source: its name, and the digest of all files of a folder.

    The digest is the one that the record's provenance has of the hyper-parameter.
    """
    if not files:
        return {"source": textures, "external_data": False}
    folder = Path(textures).resolve()
    found = {file.relative_to(folder).as_posix(): _digest(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    return {"source": textures, "external_data": True, "pictures": len(files), "sha256": sha256_of(found)}


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return f"{file.stat().st_size} {hashlib.file_digest(content, 'sha256').hexdigest()}"


def _unreadable(file: Path, error: BaseException) -> DataError:
    reason = "not a picture" if isinstance(error, UnidentifiedImageError) else str(error)
    return DataError(
        f"Expected a texture in {file}, got a file that cannot be read ({reason}). "
        "Copy it anew or take it out of the folder."
    )
