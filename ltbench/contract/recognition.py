"""Whether a method knows its training images again among test images, and what it leaves out when it is told.

What lies near the training images scores low, a copy of one lowest of all: that is a distance, and no recognition. To
recognise is to treat an image otherwise because it is the very one. Then its score hangs on its key, or jumps where a
distance would hardly move: from a copy to its like. That is what is looked at, on copies of training images:

- their keys, and those of other images, are exchanged, which may change nothing;
- one pixel changes by one grey level, which may change little;
- all values change by a few grey levels, up or down by chance, which may not lower the score much, as it would where a
  contaminant, once recognised, is called anomalous.

What is little is told by what the same does to good images that were not trained on, and by how far the scores of good
images differ at all. A likeness that bears more than this noise looks from outside like a distance; no check can tell
them apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench.contract.demands import require, require_equal
from ltbench.contract.subject import Subject, select
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError
from ltbench.method import LeavesOut

PIXEL = (20, 20, 1)
"""Row, column and colour that change by one grey level."""

NOISE = (1, 4)
"""Grey levels by which all values change."""

JUMP, TIMES = 0.05, 10
"""One grey level in one pixel may not move a copy by both more than this share of the range of the scores (or maps) of
copies and other good images, and more than so many times what it moves those others. The suite's methods stay below
0.007 of the range in scores and 0.02 in maps; methods that recognise come to 0.2 and more."""

FALL, FALL_TIMES = 0.25, 3
"""Noise may not lower the score of a copy by more than this share of that range beside so many times what it lowers
the others' scores. The suite's methods stay below 0.08 beside it; methods that recognise come to 0.9."""

PARTS = ("scores", "maps")

REMEDY = "declare recognises_training_images=True in MethodInfo, or score it as any other image"


class Keyed(ArrayImages):
    """Images under other keys than their own.

    Args:
        images: what they show.
        keys: one an image.
    """

    def __init__(self, images: ArrayImages, keys: Sequence[str]) -> None:
        super().__init__(images.images, images._categories)
        self._keys = keys

    @property
    def fingerprints(self) -> Sequence[str]:
        """The keys."""
        return self._keys


def check_keys_tell_nothing(subject: Subject) -> None:
    """The key of an image, which is for caches, changes no score, unless the method recognises training images."""
    if subject.method.info.recognises_training_images:
        return
    fresh = [f"{place:064x}" for place in range(len(subject.seen))]
    for images, keys in ((subject.seen, fresh), (subject.good, subject.seen.fingerprints)):
        found, wanted = (subject.reference.predict(given) for given in (Keyed(images, keys), images))
        require_equal(found, wanted, f"another key (fingerprints) of the same pixels ({REMEDY})")


def check_copies_score_alike(subject: Subject) -> None:
    """A copy of a training image scores as its likes do, unless the method recognises training images."""
    if subject.method.info.recognises_training_images:
        return
    before, other = (subject.reference.predict(images) for images in (subject.seen, subject.good))
    moved = _moved(subject.reference.predict(_nudged(subject.seen)), before)
    usual = _moved(subject.reference.predict(_nudged(subject.good)), other)
    ranges = (_range(before.scores, other.scores), _range(before.maps, other.maps))
    for part, own, like, reach in zip(PARTS, moved, usual, ranges, strict=True):
        require(
            own <= JUMP * reach or own <= TIMES * like,
            f"one grey level in one pixel moves the {part} of a training image's copy by {own:.3g} and those of other "
            f"images by {like:.3g}, where all range over {reach:.3g}: {REMEDY}",
        )
    fall = max(_fall(subject, subject.seen, before, levels) for levels in NOISE)
    usually = max(0.0, *(_fall(subject, subject.good, other, levels) for levels in NOISE))
    require(
        fall <= FALL * ranges[0] + FALL_TIMES * usually,
        f"noise of up to {NOISE[-1]} grey levels lowers the score of a training image's copy by {fall:.3g} and those "
        f"of other images by {usually:.3g}, where all range over {ranges[0]:.3g}: {REMEDY}",
    )


def check_leaves_out(subject: Subject) -> None:
    """What a method leaves out when it is told changes the images it is told so for, and no other; saved, too."""
    method, seen = subject.reference, subject.seen
    if not isinstance(method, LeavesOut):
        return
    whole = method.predict(seen)
    require_equal(method.predict_without(seen, [()] * len(seen)), whole, "leaving nothing out")
    each = [(place,) for place in range(len(seen))]
    left = method.predict_without(seen, each)
    left.check(len(seen), seen.size, has_maps=subject.method.info.has_maps)
    same = np.array_equal(left.scores, whole.scores) and np.array_equal(left.maps, whole.maps)
    require(not same, "leaving its own training image out changed nothing of any copy")
    some = method.predict_without(seen, [each[0], (), each[2], ()])
    for found, wanted, places in ((some, left, [0, 2]), (some, whole, [1, 3])):
        require_equal(_of(found, places), _of(wanted, places), "leaving something out for other images")
    alone = method.predict_without(select(seen, [2]), [each[2]])
    require_equal(alone, _of(left, [2]), "leaving its own out for one image at a time")
    with tempfile.TemporaryDirectory() as folder:
        method.save(Path(folder))
        loaded = subject.method.load(Path(folder))
        if not isinstance(loaded, LeavesOut):
            raise ContractError("load returned a method without predict_without")
        require_equal(loaded.predict_without(seen, each), left, "save and load")


def _nudged(images: ArrayImages) -> ArrayImages:
    """Return images of which one value differs by one."""
    changed = images.images.copy()
    values = changed[:, *PIXEL]
    changed[:, *PIXEL] = np.where(values < 255, values + 1, values - 1)
    return ArrayImages(changed, images._categories)


def _noisy(images: ArrayImages, levels: int) -> ArrayImages:
    """Return images whose values all differ by some levels, up or down."""
    signs = np.random.RandomState(levels).randint(0, 2, images.images.shape[1:]) * 2 - 1
    changed: NDArray[np.uint8] = (images.images.astype(np.int16) + levels * signs).clip(0, 255).astype(np.uint8)
    return ArrayImages(changed, images._categories)


def _moved(after: Prediction, before: Prediction) -> tuple[float, float]:
    """Return the largest difference of two predictions in scores and in maps (`PARTS`)."""
    maps = np.abs(after.maps - before.maps).max(initial=0)
    return float(np.abs(after.scores - before.scores).max()), float(maps)


def _range(*values: NDArray[np.float32]) -> float:
    """Return how far values lie apart at most; 0 of the maps of a method that gives none."""
    every = np.concatenate(values)
    return float(np.ptp(every)) if every.size else 0.0


def _fall(subject: Subject, images: ArrayImages, before: Prediction, levels: int) -> float:
    """Return by how much noise lowers the score of an image at most; negative where it raises all."""
    return float((before.scores - subject.reference.predict(_noisy(images, levels)).scores).max())


def _of(prediction: Prediction, places: list[int]) -> Prediction:
    return Prediction(prediction.scores[places], prediction.maps[places])
