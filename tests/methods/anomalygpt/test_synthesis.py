"""Simulated anomalies: where an image is altered, what its label is, and what both depend on."""

from __future__ import annotations

import numpy as np
import pytest

from methods.anomalygpt import synthesis
from methods.anomalygpt.categories import SIMULATIONS, VISA, described
from methods.anomalygpt.poisson import FEWEST, blended
from methods.anomalygpt.synthesis import Piece, Pixels, Synthesis, altered, object_of, pasted, soft_label


def picture(seed: int, side: int = 224) -> Pixels:
    """Return bright noise on a dark ground: an object in the middle."""
    rng = np.random.RandomState(seed)
    image = rng.randint(15, 26, (side, side, 3))
    middle = slice(side // 5, side - side // 5)
    image[middle, middle] = rng.randint(60, 220, (side - 2 * (side // 5), side - 2 * (side // 5), 3))
    return image.astype(np.uint8)


def pieces(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Return a list that grows by each piece that is cut."""
    found: list[Piece] = []
    real = synthesis.cut

    def cut(*arguments: object) -> Piece | None:
        piece = real(*arguments)  # type: ignore[arg-type]
        found.extend([] if piece is None else [piece])
        return piece

    monkeypatch.setattr(synthesis, "cut", cut)
    return found


@pytest.mark.parametrize("category", ["cable", "capsule", "screw", "toothbrush", "wood", "hazelnut", "pcb1"])
def test_an_image_is_changed_in_the_boxes_of_its_pieces_alone(category: str, monkeypatch: pytest.MonkeyPatch) -> None:
    how, image, seen = SIMULATIONS.get(category, VISA), picture(0), pieces(monkeypatch)
    for seed in range(12):
        seen.clear()
        found = altered(image, picture(1), how, np.random.default_rng(seed))
        outside = np.ones((224, 224), np.bool_)
        for piece in seen:
            rows, columns = piece.box
            assert max(piece.region.shape) <= 90
            assert (rows.stop - rows.start, columns.stop - columns.start) == piece.region.shape
            assert 0 <= rows.start < rows.stop <= 224 and 0 <= columns.start < columns.stop <= 224
            # OpenCV puts pieces of an odd width one pixel to the right of where their label lies.
            outside[rows, columns.start : columns.stop + 1] = False
        assert np.array_equal(found.pixels[outside], image[outside])
        assert not found.label[outside].any()
        assert 0 <= found.label.min() <= found.label.max() <= 1
        assert np.array_equal(image, picture(0)), "the clean image stays"
        again = altered(image, picture(1), how, np.random.default_rng(seed))
        assert np.array_equal(again.pixels, found.pixels) and np.array_equal(again.label, found.label)


def test_one_or_two_pieces_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, counts = pieces(monkeypatch), []
    for seed in range(200):
        seen.clear()
        altered(picture(0), picture(1), VISA, np.random.default_rng(seed))
        counts.append(len(seen))
    assert set(counts) == {1, 2}
    assert np.mean(np.array(counts) == 2) == pytest.approx(0.5, abs=0.1)


def test_nothing_changed_is_not_labelled() -> None:
    image, flat = picture(0), np.full((224, 224, 3), 90, np.uint8)
    everywhere = np.ones((224, 224), np.bool_)
    assert not soft_label(image, image, everywhere, VISA).any()
    assert not soft_label(flat, flat + 1, everywhere, VISA).any(), "one grey level is nothing"
    found = altered(flat, flat, VISA, np.random.default_rng(0))
    assert np.abs(found.pixels.astype(int) - flat).max() <= 1, "grey levels are cut off, not rounded"
    assert not found.label.any()


@pytest.mark.parametrize(
    ("category", "least"), [("bottle", 13.8), ("zipper", 9.9), ("pill", 4.5), ("capsule", 2.3), ("screw", 2.2)]
)
def test_the_least_change_that_counts(category: str, least: float) -> None:
    how, everywhere = SIMULATIONS[category], np.ones((64, 64), np.bool_)
    image = np.full((64, 64, 3), 100, np.uint8)
    sums = np.arange(3, 60)
    labels = [
        soft_label(image, image + np.array([s // 3, (s + 1) // 3, (s + 2) // 3], np.uint8), everywhere, how)[32, 32]
        for s in sums
    ]
    assert sums[np.argmax(np.array(labels) > 0.3)] / 3 == pytest.approx(least, abs=1 / 3)


def test_pieces_of_an_object_lie_on_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    how, seen = SIMULATIONS["hazelnut"], pieces(monkeypatch)
    target = object_of(picture(0), how)
    assert target[112, 112] and not target[5, 5]
    for seed in range(30):
        altered(picture(0), picture(1), how, np.random.default_rng(seed))
    assert all(target[piece.box].any() for piece in seen)
    empty = np.full((224, 224, 3), 20, np.uint8)
    seen.clear()
    assert np.array_equal(altered(picture(0), empty, how, np.random.default_rng(0)).pixels, picture(0))
    assert np.array_equal(altered(empty, picture(1), how, np.random.default_rng(0)).pixels, empty)
    assert not seen, "no object to cut from, or to put it on"


def test_a_small_piece_is_left_out() -> None:
    side = round(FEWEST**0.5) + 1
    box = (slice(50, 50 + side), slice(50, 50 + side))
    piece = Piece(np.zeros((side, side, 3), np.uint8), box, np.ones((side, side), np.bool_))
    assert pasted(picture(0), piece) is None


def test_blending_keeps_what_has_the_same_gradients() -> None:
    image = np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 2, (1, 64, 3))
    mask = np.zeros((30, 30), np.bool_)
    mask[1:-1, 1:-1] = True
    shifted = image[10:40, 10:40] + np.uint8(40)
    found = blended(shifted, mask, image, (32, 32))
    assert np.abs(found.astype(int) - image).max() <= 1, "another brightness is taken away"
    noise = np.random.RandomState(0).randint(0, 256, (30, 30, 3)).astype(np.uint8)
    changed = (blended(noise, mask, image, (32, 32)) != image).any(axis=2)
    assert changed.any()
    assert not np.delete(changed, np.s_[19:45], axis=0).any()


def test_a_source_is_another_image() -> None:
    images = np.stack([np.full((224, 224, 3), shade, np.uint8) for shade in (60, 60)])
    images[1] = picture(3)
    seen = Synthesis(images, [VISA, VISA], 0.3)
    assert any(seen.draw(0, np.random.default_rng(seed)).mask.any() for seed in range(5)), "from the second"
    alone = Synthesis(images[:1], [VISA], 0.3)
    assert not alone.draw(0, np.random.default_rng(0)).mask.any(), "from itself, which is flat"


def test_names_in_the_authors_descriptions() -> None:
    assert [described(name) for name in ("metal_nut", "capsules", "chewinggum", "macaroni2", "pipe_fryum", "pcb4")] == [
        "metal_nut",
        "capsule",
        "object",
        "macaroni",
        "fryum",
        "pcb",
    ]
    assert described("Class3") == "object"
    assert len(SIMULATIONS) == 15
