"""Images at a network's size."""

from __future__ import annotations

import numpy as np

from ltbench.blocks.pixels import resized


def test_an_image_of_the_size_is_left_as_it_is() -> None:
    image = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    assert resized(image, 8) is image


def test_where_it_shrinks_neighbours_are_averaged() -> None:
    image = np.zeros((8, 4, 3), np.uint8)
    image[::2] = 200
    small = resized(image, 2)
    assert small.shape == (2, 2, 3) and small.dtype == np.uint8
    assert small[:, :, 0].tolist() == [[107, 107], [93, 93]], (
        "a triangle over eight rows; one row alone would be 0 or 200"
    )
