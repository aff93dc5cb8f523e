"""References of each category: how many, and what their draw depends on."""

from __future__ import annotations

import numpy as np

from ltbench.blocks.references import references
from ltbench.datasets.arrays import ArrayImages


def images(names: str) -> ArrayImages:
    return ArrayImages(np.arange(len(names), dtype=np.uint8)[:, None, None, None].repeat(3, axis=3), list(names))


def shades(train: ArrayImages, count: int, seed: int = 0, *, replacement: bool = False) -> dict[str, list[int]]:
    found = references(train, count, seed, replacement=replacement)
    return {name: [int(image[0, 0, 0]) for image in own] for name, own in found.items()}


def test_references_are_of_their_category() -> None:
    found = shades(images("abab" * 5), 3)
    assert list(found) == ["a", "b"]
    assert all(len(set(own)) == 3 for own in found.values())
    assert {place % 2 for place in found["a"]} == {0}
    assert {place % 2 for place in found["b"]} == {1}
    chosen = references(images("abab"), 2, 0, replacement=False)["b"]
    assert (len(chosen), chosen.categories, chosen.size) == (2, ["b", "b"], (1, 1))
    assert np.array_equal(chosen.uncropped(0), chosen[0])
    assert len(set(chosen.fingerprints)) == 2


def test_a_draw_depends_on_seed_and_category_alone() -> None:
    alone, beside = shades(images("a" * 40), 5), shades(images("a" * 40 + "b" * 40), 5)
    assert alone["a"] == beside["a"]
    assert alone["a"] != shades(images("a" * 40), 5, seed=1)["a"]
    assert sorted(place - 40 for place in beside["b"]) != sorted(beside["a"])


def test_no_more_than_there_are_without_replacement() -> None:
    assert sorted(shades(images("aa"), 4)["a"]) == [0, 1]
    assert len(shades(images("aa"), 4, replacement=True)["a"]) == 4
