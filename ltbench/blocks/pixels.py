"""Images at the size that a network of its own wants, whatever the protocol's is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resized(
    image: NDArray[np.uint8], side: int, resampling: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) as (side, side, 3), with averaging, as Pillow does; its aspect is not kept."""
    if image.shape[:2] == (side, side):
        return image
    return np.array(Image.fromarray(image).resize((side, side), resampling))
