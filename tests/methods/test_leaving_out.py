"""Methods with a memory bank, told which training images to leave out: what stays of the memory, and of the scores."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ltbench.blocks import device
from ltbench.blocks.memory_bank.bank import score_images
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import method_class, method_names, presets
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError, SpecError
from ltbench.method import LeavesOut, Runtime

BANKS = ("patchcore", "softpatch", "tailedcore", "tailedcore_oracle")
COUNT = 12
TAILS = (3, 9)
"""Positions of the two images of the rare category."""

OWN: dict[str, dict[str, Any]] = {"tailedcore": {"cap": 0.3}, "tailedcore_oracle": {"max_tail_size": len(TAILS)}}
"""What a method is told of so few images."""


@cache
def train() -> ArrayImages:
    """Ten images of stripes and two of checks, 64 x 64, each with a spot somewhere."""
    rng = np.random.RandomState(0)
    y, x = np.mgrid[:64, :64]
    stripes = 110 + 40 * np.sin(x / 3)[..., None] * np.ones(3)
    checks = 140 + 60 * (np.sign(np.sin(x / 5)) * np.sign(np.sin(y / 5)))[..., None] * np.array([1.0, 0.2, -0.6])
    images = np.stack([checks if index in TAILS else stripes for index in range(COUNT)])
    images += rng.normal(0, 8, images.shape)
    for index, (row, column) in enumerate(rng.randint(0, 50, (COUNT, 2))):
        images[index, row : row + 10, column : column + 10] = 20 * index
    categories = ["checks" if index in TAILS else "stripes" for index in range(COUNT)]
    return ArrayImages(images.clip(0, 255).astype(np.uint8), categories)


@cache
def fitted(name: str, **values: Any) -> Any:
    cls = method_class(name)
    chosen = resolve(cls, presets(cls)["offline"].parameters, {"coreset_ratio": 0.5, **OWN.get(name, {}), **values})
    return cls(**chosen).fit(train(), Runtime(seed=3))


def origins(method: Any) -> NDArray[np.int32]:
    found: NDArray[np.int32] = method.memory_.arrays()["origins"]
    return found


def test_all_that_search_a_memory_bank_offer_it() -> None:
    offered = {name for name in method_names() if name != "anomalib" and issubclass(method_class(name), LeavesOut)}
    assert offered == {*BANKS, "groupcore"}, "GroupCore has several banks: tests/methods/groupcore"


@pytest.mark.parametrize("name", BANKS)
def test_it_scores_as_over_a_memory_bank_without_the_rows(name: str) -> None:
    method = fitted(name)
    bank, of = method.memory_.arrays()["memory"], origins(method)
    left_out = [[place, (place + 5) % COUNT] if place % 3 else [] for place in range(COUNT)]
    found = method.predict_without(train(), left_out)
    whole = method.predict(train())
    weights = getattr(method, "patch_weights_", None)
    for place, own in enumerate(left_out):
        stay = ~np.isin(of, own)
        alone = ArrayImages(train().images[place : place + 1], ["stripes"])
        wanted = score_images(
            method._embedder, alone, NearestNeighbours(bank[stay]), weights=None if weights is None else weights[stay]
        )
        np.testing.assert_array_equal(found.scores[place], wanted.scores[0])
        np.testing.assert_array_equal(found.maps[place], wanted.maps[0])
        if not own:
            np.testing.assert_array_equal(found.maps[place], whole.maps[place])
    assert not np.array_equal(found.scores, whole.scores)


@pytest.mark.parametrize("name", BANKS)
def test_rows_know_the_image_they_are_of(name: str) -> None:
    """With all patches kept, each image's own rows are those at distance zero of it."""
    method = fitted(name, coreset_ratio=1.0)
    bank, of = method.memory_.arrays()["memory"], origins(method)
    for place in range(COUNT):
        patches = next(method._embedder.embed_training(ArrayImages(train().images[place : place + 1])))
        own = {patch.tobytes() for patch in patches}
        is_own = np.array([row.tobytes() in own for row in bank])
        assert (of[is_own] == place).all(), "no patch occurs in two images"
        assert is_own.any()


@pytest.mark.parametrize("name", ["tailedcore", "tailedcore_oracle"])
def test_views_of_a_tail_image_are_that_image(name: str) -> None:
    method = fitted(name, memories="tail", coreset_ratio=1.0, augmentation="rotflip")
    assert set(origins(method)) == set(TAILS)
    assert (np.bincount(origins(method))[list(TAILS)] == 8 * 16).all(), "eight views of sixteen patches"
    left = method.predict_without(ArrayImages(train().images[[3, 9]], ["checks"] * 2), [[3], [9]])
    assert (left.scores > 0).all()
    with pytest.raises(SpecError, match="1 to 0 neighbours"):
        method.predict_without(ArrayImages(train().images[[3]], ["checks"]), [list(TAILS)])


@pytest.mark.parametrize("name", BANKS[1:])
def test_notes_and_rows_agree(name: str) -> None:
    runtime, known = Runtime(seed=3), fitted(name)
    values = {one.name: getattr(known, one.name) for one in fields(known) if one.init}
    method = type(known)(**values).fit(train(), runtime)
    by_image = sum(np.array(own["by_image"]) for own in runtime.notes["memories"].values())
    np.testing.assert_array_equal(np.bincount(origins(method), minlength=COUNT), by_image)


def test_saved_and_loaded_it_leaves_out_the_same(tmp_path: Path) -> None:
    method = fitted("softpatch")
    method.save(tmp_path)
    loaded = type(method).load(tmp_path)
    each = [[place] for place in range(COUNT)]
    wanted, found = (one.predict_without(train(), each) for one in (method, loaded))
    np.testing.assert_array_equal(found.maps, wanted.maps)


def test_the_approximate_search_leaves_out_or_says_that_it_cannot() -> None:
    values = {"coreset": "none", "embedding": "official", "embed_dim": 64, "approximate_search": True}
    method = fitted("patchcore", **values)
    whole = method.predict(train())
    try:
        left = method.predict_without(train(), [[place] if place == 4 else [] for place in range(COUNT)])
    except SpecError as error:
        assert "Search exactly" in str(error)
    else:
        others = [place for place in range(COUNT) if place != 4]
        np.testing.assert_array_equal(left.maps[others], whole.maps[others])
        assert left.scores[4] != whole.scores[4]


def test_on_a_device_that_takes_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    here = fitted("patchcore")
    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    monkeypatch.setenv(device.VARIABLE, "4")
    cls = method_class("patchcore")
    values = resolve(cls, presets(cls)["offline"].parameters, {"coreset_ratio": 0.5})
    there: Any = cls(**values).fit(train(), Runtime(seed=3))
    assert there.memory_.on_device is not None
    each = [[place] if place % 2 else [] for place in range(COUNT)]
    left, whole = there.predict_without(train(), each), there.predict(train())
    np.testing.assert_array_equal(left.maps[::2], whole.maps[::2])
    np.testing.assert_allclose(left.scores, here.predict_without(train(), each).scores, rtol=1e-4)
    assert (left.scores[1::2] > whole.scores[1::2]).any()


def test_one_list_an_image() -> None:
    with pytest.raises(ContractError, match="each of 12 images, got 2 lists"):
        fitted("patchcore").predict_without(train(), [[0], [1]])
