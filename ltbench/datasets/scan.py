"""What lies in a dataset's folder: every image with its part, label and mask, and what fits nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ltbench.core import Sample, sha256_of

Part = Literal["train", "test", "images"]
"""Where an image belongs; `images` are still to be parted."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in a folder.

    Args:
        categories: in class order.
        train: good training images.
        test: test images.
        left_out: defective images among those that train: they take no part.
        unmasked: defective images without a mask where their category has masks, with the path of the missing mask, or
            its place in a list.
        strays: images within the areas of the layout that fit none of its patterns.
        outside: images elsewhere, or that no list names.
        idle_masks: masks that belong to no defective image.
        missing: files that a list names and that are not there.
        files: sample path -> file relative to the root, where they differ.
    """

    categories: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    left_out: tuple[Sample, ...] = ()
    unmasked: Mapping[str, str] = field(default_factory=dict)
    strays: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    idle_masks: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every image that is labelled, whether or not it takes part."""
        return (*self.train, *self.test, *self.left_out)


def parted(found: Iterable[tuple[Part, Sample]], categories: Iterable[str], hold_out: float) -> Scan:
    """Return images by part: of those without one, defective ones and a share of the good ones of each category test.

    Which good ones is decided by the sha256 of their paths, so that it is the same on every machine.
    """
    parts: dict[Part, list[Sample]] = {"train": [], "test": [], "images": []}
    for part, sample in found:
        parts[part].append(sample)
    good: dict[str, list[Sample]] = {}
    for sample in parts["images"]:
        if not sample.is_anomalous:
            good.setdefault(sample.category, []).append(sample)
    held = set()
    for own in good.values():
        count = min(max(round(hold_out * len(own)), 1), len(own) - 1)
        held |= {sample.path for sample in sorted(own, key=lambda s: sha256_of(s.path))[:count]}
    train = [s for s in parts["images"] if not s.is_anomalous and s.path not in held]
    test = [s for s in parts["images"] if s.is_anomalous or s.path in held]
    return Scan(
        tuple(categories),
        tuple(_ordered([*(s for s in parts["train"] if not s.is_anomalous), *train])),
        tuple(_ordered([*parts["test"], *test])),
        tuple(_ordered(s for s in parts["train"] if s.is_anomalous)),
    )


def _ordered(samples: Iterable[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: sample.path.split("/"))
