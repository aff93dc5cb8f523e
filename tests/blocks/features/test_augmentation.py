"""Views of images: each one against Pillow, and none that shows what lies beyond the image."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ltbench.blocks.features.augmentation import (
    Augmentation,
    AugmentedImages,
    View,
    border,
    turned,
    turned_and_cropped,
    views_of,
)
from ltbench.cores import in_order
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError, SpecError

Pixels = NDArray[np.uint8]
QUARTERS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


class Uncropped(ArrayImages):
    """Images whose centre is what a method sees; counts how often one is read."""

    def __init__(self, images: Pixels, side: int) -> None:
        top, left = ((images.shape[axis] - side) // 2 for axis in (1, 2))
        super().__init__(np.ascontiguousarray(images[:, top : top + side, left : left + side]))
        self.whole = images
        self.read: list[int] = []

    def uncropped(self, index: int, /) -> Pixels:
        self.read.append(index)
        image: Pixels = self.whole[index]
        return image


def noise(*shape: int) -> Pixels:
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(("augmentation", "step"), [("rotflip", 90), ("rot30flip", 30), ("rot15flip", 15)])
def test_every_angle_comes_with_and_without_a_flip(augmentation: Augmentation, step: int) -> None:
    views = views_of(augmentation)
    assert views[0].is_identity
    assert len(views) - 1 == {90: 7, 30: 23, 15: 47}[step]
    assert set(views) == {View(angle, flipped) for angle in range(0, 360, step) for flipped in (False, True)}
    assert [view for view in views if view.is_identity] == [View(0, False)]


def test_without_augmentation_there_is_the_image_alone() -> None:
    assert views_of("none") == (View(0, False),)


@pytest.mark.parametrize("view", views_of("rotflip"), ids=str)
def test_quarter_turns_are_those_of_pillow(view: View) -> None:
    image = noise(6, 6, 3)
    expected = Image.fromarray(image)
    if view.flipped:
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if view.angle:
        expected = expected.transpose(QUARTERS[view.angle])
    np.testing.assert_array_equal(turned(image, view), np.asarray(expected))


@pytest.mark.parametrize("view", views_of("rot15flip"), ids=str)
def test_any_turn_is_that_of_pillow_between_padding_and_crop(view: View) -> None:
    image = noise(20, 20, 3)
    flipped = Image.fromarray(image)
    if view.flipped:
        flipped = flipped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    wide = Image.new("RGB", (28, 28))  # 4 = ceil((16 sqrt 2 - 16) / 2) pixels of border
    for y in range(28):
        for x in range(28):
            wide.putpixel((x, y), flipped.getpixel((min(max(x - 4, 0), 19), min(max(y - 4, 0), 19))) or 0)
    expected = wide.rotate(view.angle, Image.Resampling.NEAREST).crop((6, 6, 22, 22))
    np.testing.assert_array_equal(turned_and_cropped(image, view, (16, 16)), np.asarray(expected))


@pytest.mark.parametrize("angle", range(15, 360, 15))
def test_a_turn_takes_the_nearest_pixel_counter_clockwise(angle: int) -> None:
    image = noise(40, 40, 3)
    turned_image = turned_and_cropped(image, View(angle, False), (24, 24))
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    decided = 0
    for y in range(24):
        for x in range(24):
            u, v = x + 0.5 - 12, y + 0.5 - 12  # from the centre, v downwards
            source_x, source_y = 20 + cosine * u - sine * v, 20 + sine * u + cosine * v
            if min(source_x % 1, source_y % 1) < 1e-3 or max(source_x % 1, source_y % 1) > 1 - 1e-3:
                continue  # between two pixels
            decided += 1
            expected = image[min(max(int(source_y), 0), 39), min(max(int(source_x), 0), 39)]
            np.testing.assert_array_equal(turned_image[y, x], expected)
    assert decided > 500


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_a_quarter_turn_before_the_crop_is_one_after_it(angle: int, flipped: bool) -> None:
    image, view = noise(32, 32, 3), View(angle, flipped)
    before = turned_and_cropped(image, view, (28, 28))
    np.testing.assert_array_equal(before, turned(np.ascontiguousarray(image[2:30, 2:30]), view))


def test_the_border_is_that_of_the_authors() -> None:
    assert border((224, 224)) == 47


@settings(max_examples=60, deadline=None)
@given(
    crop=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    more=st.tuples(st.integers(0, 9), st.integers(0, 30)),
    angle=st.sampled_from(range(0, 360, 15)),
    flipped=st.booleans(),
)
def test_no_view_shows_what_lies_beyond_the_image(
    crop: tuple[int, int], more: tuple[int, int], angle: int, flipped: bool
) -> None:
    image = np.full((crop[0] + more[0], crop[1] + more[1], 3), 255, np.uint8)
    view = turned_and_cropped(image, View(angle, flipped), crop)
    assert view.shape == (*crop, 3)
    assert view.min() == 255


def test_views_come_image_by_image() -> None:
    images = Uncropped(noise(4, 20, 24, 3), 16)
    augmented = AugmentedImages(images, [3, 1], "rot30flip")
    assert len(augmented) == 48
    assert augmented.size == (16, 16)
    found = list(augmented)
    for place, index in enumerate([3, 1]):
        np.testing.assert_array_equal(found[24 * place], images[index])
        for number, view in enumerate(augmented.views[1:], start=1):
            expected = turned_and_cropped(images.whole[index], view, (16, 16))
            np.testing.assert_array_equal(found[24 * place + number], expected)
    assert images.read == [3, 1]  # decoded once each
    np.testing.assert_array_equal(augmented[5], augmented.uncropped(5))


def test_quarter_turns_are_of_the_cropped_image() -> None:
    images = Uncropped(noise(2, 20, 24, 3), 16)
    augmented = AugmentedImages(images, [1], "rotflip")
    for index, view in enumerate(augmented.views):
        np.testing.assert_array_equal(augmented[index], turned(images[1], view))


def test_equal_fingerprints_mean_equal_pixels() -> None:
    images = Uncropped(noise(3, 20, 20, 3), 16)
    kinds: list[Augmentation] = ["none", "rotflip", "rot30flip", "rot15flip"]
    pixels: dict[str, bytes] = {}
    for kind in kinds:
        augmented = AugmentedImages(images, [0, 2], kind)
        assert len(set(augmented.fingerprints)) == len(augmented)
        assert augmented.fingerprints[0] == images.fingerprints[0]  # the image itself: a cache knows it already
        for index, key in enumerate(augmented.fingerprints):
            assert pixels.setdefault(key, augmented[index].tobytes()) == augmented[index].tobytes()


def test_quarter_turns_need_a_square() -> None:
    with pytest.raises(SpecError, match="Expected square images"):
        turned(noise(4, 6, 3), View(90, False))


def test_categories_stay_out_of_reach() -> None:
    with pytest.raises(ContractError):
        _ = AugmentedImages(ArrayImages(noise(2, 4, 4, 3)), [0], "rotflip").categories
    told = AugmentedImages(ArrayImages(noise(2, 4, 4, 3), ["nut", "bolt"]), [1, 0], "rotflip")
    assert told.categories == ["bolt"] * 8 + ["nut"] * 8


@pytest.mark.parametrize("augmentation", ["rotflip", "rot15flip"])
def test_threads_see_the_same_views_and_decode_an_image_once(augmentation: Augmentation) -> None:
    source = Uncropped(noise(6, 20, 20, 3), 16)
    images = AugmentedImages(source, range(6), augmentation)
    expected = [images[index] for index in range(len(images))]
    source.read.clear()
    again = AugmentedImages(source, range(6), augmentation)
    found = list(in_order((partial(again.__getitem__, index) for index in range(len(again))), workers=2))
    np.testing.assert_array_equal(found, expected)
    assert sorted(source.read) == ([] if augmentation == "rotflip" else list(range(6)))
