"""Pasted patches and scars: what changes, where, and how sizes and places are spread."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import functional as reference

from ltbench.blocks.training.draws import Draws
from methods.cutpaste.images import AREA, Patch, Scar, jittered, turned_hue, with_patch, with_scar

Picture = NDArray[np.uint8]


def _picture(side: int = 256, seed: int = 0) -> Picture:
    return np.random.RandomState(seed).randint(0, 256, (side, side, 3)).astype(np.uint8)


def _same(piece: Image.Image) -> Image.Image:
    return piece


def _equal(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def _box(before: Picture, after: Picture) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of what changed; bottom and right are outside."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize("seed", range(8))
def test_a_patch_is_one_rectangle_of_the_image_itself(seed: int) -> None:
    image, patch = _picture(), Patch.draw(Draws(seed))
    altered = with_patch(image, patch, _same)
    height, width = patch.size((256, 256))
    top, bottom, left, right = _box(image, altered)
    assert 0 <= bottom - top <= height and 0 <= right - left <= width
    row, column = (int(share * (256 - length)) for share, length in zip(patch.target, (height, width), strict=True))
    piece = altered[row : row + height, column : column + width]
    row, column = (int(share * (256 - length)) for share, length in zip(patch.source, (height, width), strict=True))
    assert np.array_equal(piece, image[row : row + height, column : column + width])
    assert (row, column) != (top, left)


def test_areas_and_shapes_of_patches() -> None:
    draws = Draws(0)
    patches = [Patch.draw(draws) for _ in range(4000)]
    sizes = np.array([patch.size((256, 256)) for patch in patches])
    areas = sizes.prod(axis=1) / 256**2
    assert AREA[0] - 0.003 < areas.min() < 0.025 and 0.145 < areas.max() < AREA[1] + 0.003
    aspects = np.array([patch.aspect for patch in patches])
    assert aspects.min() >= 0.3 and aspects.max() <= 1 / 0.3 + 1e-9
    assert np.median(aspects) == pytest.approx(1, abs=0.08), "as often wide as high"
    assert math.isclose(np.log(aspects).std(), 2 * math.log(1 / 0.3) / math.sqrt(12), rel_tol=0.03), "log-uniform"
    assert sizes.min() >= 19 and sizes.max() <= 182


def test_a_scar_changes_a_small_box_inside_the_image() -> None:
    image, draws = np.zeros((256, 256, 3), np.uint8), Draws(1)
    image[..., 0] = 200

    def marked(piece: Image.Image) -> Image.Image:
        return Image.new("RGB", piece.size, (0, 255, 0))

    for _ in range(500):
        scar = Scar.draw(draws, 256)
        top, bottom, left, right = _box(image, with_scar(image, scar, marked))
        assert bottom - top <= 31 and right - left <= 31
        assert bottom - top >= 9, "the strip is never cut"
    level = replace(scar, angle=0.0)
    changed = (with_scar(image, level, marked) != image).any(axis=2)
    top, bottom, left, right = _box(image, with_scar(image, level, marked))
    assert changed[top:bottom, left:right].all(), "a strip that is not turned is a rectangle"
    assert abs((bottom - top) - scar.height) <= 1 and abs((right - left) - scar.width) <= 1


def test_the_public_codes_strips_hang_over_the_lower_edge() -> None:
    """An upright strip at the last row that a draw can give: half of it is outside, as in 1.5 % of draws at 256."""
    image = _picture()
    scar = Scar(25.0, 2.0, (0.5, 0.5), 0.0, (0.999, 0.5))

    def black(piece: Image.Image) -> Image.Image:
        return Image.new("RGB", piece.size)

    top, bottom, _, _ = _box(image, with_scar(image, scar, black, overhang=True))
    assert (top, bottom) == (253, 256)
    top, bottom, _, _ = _box(image, with_scar(image, scar, black))
    assert (bottom - top, bottom) == (25, 255)


@pytest.mark.parametrize("side", [64, 128])
def test_strips_follow_the_side(side: int) -> None:
    draws = Draws(2)
    scars = [Scar.draw(draws, side) for _ in range(500)]
    assert max(scar.height for scar in scars) <= 25 * side / 256
    assert min(scar.height for scar in scars) >= 2 and min(scar.width for scar in scars) >= 1
    image = _picture(side)
    for scar in scars[:50]:
        assert with_scar(image, scar, _same).shape == image.shape


def test_the_jitter_is_torchvisions() -> None:
    image = Image.fromarray(_picture(32))
    assert jittered(image, 0.0, Draws(0)) is image
    for share in (-0.1, 0.03, 0.1):
        assert _equal(turned_hue(image, share), reference.adjust_hue(image, share))
    draws = Draws(5)
    expected: Any = image
    for operation in Draws(5).subset(4, 4).tolist():
        assert operation in range(4)
    replay = Draws(5)
    for operation in replay.subset(4, 4).tolist():
        amount = -0.1 + 0.2 * replay.uniform()
        kinds = (reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation)
        expected = reference.adjust_hue(expected, amount) if operation == 3 else kinds[operation](expected, 1 + amount)
    assert _equal(jittered(image, 0.1, draws), expected)
