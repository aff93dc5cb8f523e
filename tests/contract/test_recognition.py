"""Methods that know their training images again are caught, each in its way, unless they declare it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from ltbench.contract.checks import CHECKS, run_check
from ltbench.contract.registry import method_class, presets
from ltbench.contract.subject import Subject
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import ImageSet, LeavesOut, Method, MethodInfo, Runtime
from methods.patchcore.method import PatchCore

SIDE = 8
"""Side of the cells whose mean colours are remembered."""

Cells = NDArray[np.float32]


def _cells(image: NDArray[np.uint8]) -> Cells:
    """Return the mean colours of the cells of an image, (cells, 3)."""
    height, width, _ = image.shape
    means = image.reshape(height // SIDE, SIDE, width // SIDE, SIDE, 3).mean(axis=(1, 3), dtype=np.float64)
    found: Cells = means.reshape(-1, 3).astype(np.float32)
    return found


@dataclass
class Remembers:
    """A small honest memory: mean colours of cells, each scored by the nearest one of the training images."""

    info: ClassVar[MethodInfo] = MethodInfo("remembers", "Remembers")

    memory_: Cells = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        self.memory_ = np.stack([_cells(image) for image in train])
        return self

    def predict(self, images: ImageSet) -> Prediction:
        return self.predict_without(images, [()] * len(images))

    def predict_without(self, images: ImageSet, left_out: Sequence[Sequence[int]]) -> Prediction:
        return _stacked([self.distances(image, own) for image, own in zip(images, left_out, strict=True)])

    def distances(self, image: NDArray[np.uint8], left_out: Sequence[int] = ()) -> Cells:
        memory = np.delete(self.memory_, list(left_out), axis=0).reshape(-1, 3)
        found: Cells = ((_cells(image)[:, None] - memory) ** 2).sum(axis=2).min(axis=1)
        return found

    def save(self, folder: Path) -> None:
        (folder / "memory.json").write_text(json.dumps(self.memory_.tolist()))

    @classmethod
    def load(cls, folder: Path) -> Self:
        method = cls()
        method.memory_ = np.array(json.loads((folder / "memory.json").read_text()), np.float32)
        return method


def _stacked(distances: list[Cells]) -> Prediction:
    grids = np.stack(distances).reshape(len(distances), 64 // SIDE, 64 // SIDE)
    maps = grids.repeat(SIDE, axis=1).repeat(SIDE, axis=2).astype(np.float32)
    return Prediction(maps.max(axis=(1, 2)), maps)


@dataclass
class KnowsKeys(Remembers):
    """Calls what it was trained on anomalous, by its key."""

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        self.known_ = set(train.fingerprints)
        return super().fit(train, runtime)

    def predict(self, images: ImageSet) -> Prediction:
        found, known = super().predict(images), np.isin(images.fingerprints, list(self.known_))
        found.scores[known] += 100
        return found


class FindsOwnByKey:
    """Makes a method leave an image's own entries out, found by its key: what a self-excluded split is for."""

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        self.known_ = {key: place for place, key in enumerate(train.fingerprints)}
        super().fit(train, runtime)  # type: ignore[misc]
        return self

    def predict(self, images: ImageSet) -> Prediction:
        own = [[self.known_[key]] if key in self.known_ else [] for key in images.fingerprints]
        found: Prediction = self.predict_without(images, own)  # type: ignore[attr-defined]
        return found


@dataclass
class SkipsOwnByKey(FindsOwnByKey, Remembers):
    """Leaves an image's own cells out."""


@dataclass
class SkipsOwnByPixels(Remembers):
    """Leaves an image's own cells out, found by its pixels."""

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        self.known_ = {hashlib.sha256(image.tobytes()).digest(): place for place, image in enumerate(train)}
        return super().fit(train, runtime)

    def predict(self, images: ImageSet) -> Prediction:
        places = [self.known_.get(hashlib.sha256(image.tobytes()).digest()) for image in images]
        return self.predict_without(images, [[] if place is None else [place] for place in places])


@dataclass
class SkipsZero(Remembers):
    """Takes no distance of zero for one."""

    def distances(self, image: NDArray[np.uint8], left_out: Sequence[int] = ()) -> Cells:
        squares = ((_cells(image)[:, None] - self.memory_.reshape(-1, 3)) ** 2).sum(axis=2)
        found: Cells = np.where(squares == 0, np.inf, squares).min(axis=1).astype(np.float32)
        return found


@dataclass
class KnowsLikes(Remembers):
    """Calls anomalous what is like a training image to two grey levels in the mean: it knows a copy with noise."""

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        self.images_ = np.stack(list(train)).astype(np.int16)
        return super().fit(train, runtime)

    def predict(self, images: ImageSet) -> Prediction:
        found = super().predict(images)
        nearest = [np.abs(self.images_ - image).mean(axis=(1, 2, 3)).min() for image in images]
        found.scores[np.array(nearest) < 2] += 100
        return found


@dataclass
class MarksMaps(KnowsKeys):
    """Lets its scores be and marks the maps of what it knows."""

    def predict(self, images: ImageSet) -> Prediction:
        found, known = Remembers.predict(self, images), np.isin(images.fingerprints, list(self.known_))
        found.maps[known] += 100
        return found


@dataclass
class LeavesNothingOut(Remembers):
    """Does not do what it offers."""

    def predict_without(self, images: ImageSet, left_out: Sequence[Sequence[int]]) -> Prediction:
        return _stacked([self.distances(image) for image in images])


@dataclass
class LeavesOutForAll(Remembers):
    """Leaves out for all images what is to be left out for one."""

    def predict_without(self, images: ImageSet, left_out: Sequence[Sequence[int]]) -> Prediction:
        every = sorted({place for own in left_out for place in own})
        return _stacked([self.distances(image, every) for image in images])


@dataclass
class ForgetsOrder(Remembers):
    """Does not save which image is which."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        method = super().load(folder)
        method.memory_ = method.memory_[::-1]
        return method


@dataclass
class RoundsWithout(Remembers):
    """Scores otherwise as soon as it is asked to leave out, be it nothing."""

    def predict(self, images: ImageSet) -> Prediction:
        return _stacked([self.distances(image) + np.float32(1) for image in images])


BROKEN: list[tuple[type[Method], str]] = [
    (KnowsKeys, "keys_tell_nothing"),
    (SkipsOwnByKey, "keys_tell_nothing"),
    (MarksMaps, "keys_tell_nothing"),
    (KnowsKeys, "copies_score_alike"),
    (SkipsOwnByKey, "copies_score_alike"),
    (SkipsOwnByPixels, "copies_score_alike"),
    (SkipsZero, "copies_score_alike"),
    (KnowsLikes, "copies_score_alike"),
    (LeavesNothingOut, "leaves_out"),
    (LeavesOutForAll, "leaves_out"),
    (ForgetsOrder, "leaves_out"),
    (RoundsWithout, "leaves_out"),
]


def _reason(name: str, subject: Subject) -> str:
    check = next(check for check in CHECKS if check.__name__ == f"check_{name}")
    return run_check(check, subject).reason


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_honest_memory_passes(check: Any) -> None:
    assert run_check(check, Subject(Remembers)).reason == ""


@pytest.mark.parametrize(("method", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_who_cheats_is_caught(method: type[Method], check: str) -> None:
    reason = _reason(check, Subject(method))
    assert reason
    assert check == "leaves_out" or "recognises_training_images" in reason, "the reason says what to declare"


@pytest.mark.parametrize("cheat", [KnowsKeys, SkipsOwnByPixels, KnowsLikes], ids=lambda cheat: cheat.__name__)
def test_who_declares_it_may(cheat: type[Remembers]) -> None:
    declared = type("Declared", (cheat,), {"info": replace(cheat.info, recognises_training_images=True)})
    for name in ("keys_tell_nothing", "copies_score_alike"):
        assert _reason(name, Subject(declared)) == ""


def test_patchcore_that_leaves_its_own_patches_out_unasked_is_caught() -> None:
    """The prototype that self-excluded splits come from: by fingerprint it takes all of TailedCore's lead."""

    @dataclass
    class Knowing(FindsOwnByKey, PatchCore):
        """PatchCore that knows by their keys which images it was trained on."""

    known = presets(method_class("patchcore"))
    subject = Subject(Knowing, known)
    assert "fingerprints" in _reason("keys_tell_nothing", subject)
    assert "one grey level" in _reason("copies_score_alike", subject)


def test_a_method_without_a_memory_need_not_leave_anything_out() -> None:
    @dataclass
    class Plain(Remembers):
        """Offers nothing."""

        predict_without: ClassVar[None] = None  # type: ignore[assignment]

        def predict(self, images: ImageSet) -> Prediction:
            return _stacked([self.distances(image) for image in images])

    assert isinstance(Remembers(), LeavesOut)
    assert not isinstance(Plain(), LeavesOut)
    assert _reason("leaves_out", Subject(Plain)) == ""


def test_images_under_other_keys_are_the_same_images() -> None:
    from ltbench.contract.recognition import Keyed

    images = ArrayImages(np.zeros((2, 8, 8, 3), np.uint8), ["a", "b"])
    keyed = Keyed(images, ["x", "y"])
    assert (list(keyed.fingerprints), list(keyed.categories)) == (["x", "y"], ["a", "b"])
    np.testing.assert_array_equal(keyed[1], images[1])
