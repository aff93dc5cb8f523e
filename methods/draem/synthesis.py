"""What a training step sees: an image, with or without a synthetic defect (section 3.3 of the paper).

Source: the authors' data set class (VitjanZ/DRAEM). As there, an item is an image drawn with replacement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .operations import turn
from .perlin import drawn_mask
from .textures import Textures


class Example(NamedTuple):
    """One item of a batch.

    Args:
        altered: (S, S, 3) in [0, 1], what the network sees.
        clean: (S, S, 3) in [0, 1], what should be rebuilt.
        mask: (S, S), 1 where the defect lies, else 0.
    """

    altered: NDArray[np.float32]
    clean: NDArray[np.float32]
    mask: NDArray[np.float32]


def pasted(
    clean: NDArray[np.float32], texture: NDArray[np.float32], mask: NDArray[np.bool_], transparency: float
) -> NDArray[np.float32]:
    """Return (1 - M) I + M ((1 - beta) A + beta I), eq. 5 of the paper.

    Args:
        clean: I, (S, S, 3).
        texture: A, (S, S, 3).
        mask: M, (S, S).
        transparency: beta, from 0 for the texture alone.
    """
    beta = np.float32(transparency)
    return np.where(mask[..., None], (np.float32(1) - beta) * texture + beta * clean, clean)


@dataclass(frozen=True)
class Synthesis:
    """Makes the items of batches.

    Args:
        images: (N, S, S, 3), the training images.
        places: (n,), those of them that items are made of.
        textures: where the defects' colours come from.
        defect_probability: share of items that get a defect, if their mask is not empty.
        rotation_probability: share of images that are turned, their target with them.
        rotation: largest angle of that, in degrees either way.
        max_transparency: largest beta.
        mask_threshold: value of the noise above which a pixel is defective.
    """

    images: NDArray[np.uint8]
    places: NDArray[np.int64]
    textures: Textures
    defect_probability: float
    rotation_probability: float
    rotation: float
    max_transparency: float
    mask_threshold: float

    def draw(self, _: int, rng: np.random.Generator) -> Example:
        """Return an item; which image it is, is drawn as well."""
        index = int(self.places[rng.integers(len(self.places))])
        pixels = np.asarray(self.images[index])
        if rng.random() < self.rotation_probability:
            pixels = turn(pixels, rng.uniform(-self.rotation, self.rotation))
        clean = pixels.astype(np.float32) / np.float32(255)
        side = len(pixels)
        if rng.random() >= self.defect_probability:
            return Example(clean, clean, np.zeros((side, side), np.float32))
        mask = drawn_mask(side, self.mask_threshold, rng)
        texture = self.textures.draw(index, rng).astype(np.float32) / np.float32(255)
        changed = pasted(clean, texture, mask, rng.uniform(0, self.max_transparency))
        return Example(changed, clean, mask.astype(np.float32))
