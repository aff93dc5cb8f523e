"""Training images that are kept aside, so that a threshold can be set on images that the method has not seen.

The split that is left has a name, a hash and so runs of its own: `mvtec_step100_heldout10`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ltbench.core import Split, TrainImages
from ltbench.errors import SpecError
from ltbench.splits.ranking import ranked

PERCENT = "held_out_percent"
IMAGES = "held_out"
"""The entries of a recipe that say how many images are kept aside, and which, by category."""

LARGEST = 50
_NAME = re.compile(r"(.+)_heldout([0-9]+)")


def parse_percent(text: str | None) -> int:
    """Return the whole number of `10%` or `10`; 0 of None.

    Raises:
        SpecError: a text that is none, or a percentage out of range.
    """
    if text is None:
        return 0
    digits = text.removesuffix("%")
    if not digits.isascii() or not digits.isdigit() or not 1 <= int(digits[:9]) <= LARGEST:
        raise SpecError(f"Expected 1% to {LARGEST}% of the training images, got {text!r}. Mend --calibrate.")
    return int(digits)


def without_suffix(name: str) -> tuple[str, int]:
    """Return a split's name without `_heldout<percent>`, and the percent; 0 where it has none."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 0)


def hold_out(split: Split, percent: int) -> Split:
    """Return a split without a share of its training images, which its recipe names.

    Of each category the first `floor(percent / 100 * images)` in a random order are kept aside. The draw does not know
    which of them are contaminants, as nobody does who trains on images of his own.

    Args:
        split: any, official ones included.
        percent: 1 to 50.

    Raises:
        SpecError: another percentage, a split with images kept aside already, or too few images to keep any.
        DataError: a category would lose all its normal images.
    """
    if not 1 <= percent <= LARGEST:
        raise SpecError(f"Expected 1 to {LARGEST} percent of training images to keep aside, got {percent}. Mend it.")
    if held_out(split):
        raise SpecError(f"Expected a split with all its training images, got {split.name}. Leave --calibrate out.")
    aside = {}
    for category, images in split.train.items():
        paths = (*images.normal, *images.contaminant)
        aside[category] = set(ranked(paths, split.seed, "held out")[: len(paths) * percent // 100])
    if not any(aside.values()):
        raise SpecError(
            f"Expected images to keep aside in {split.name}, got none: {percent} % of no category is one image. "
            "Raise the percentage."
        )
    train = {
        category: TrainImages(
            tuple(path for path in images.normal if path not in aside[category]),
            tuple(path for path in images.contaminant if path not in aside[category]),
        )
        for category, images in split.train.items()
    }
    named = {category: sorted(paths) for category, paths in aside.items() if paths}
    recipe = {**split.recipe, PERCENT: percent, IMAGES: named}
    return replace(split, name=f"{split.name}_heldout{percent}", recipe=recipe, train=train)


def held_out(split: Split) -> Mapping[str, tuple[str, ...]]:
    """Return the images that a split keeps aside, by category; none of most splits."""
    return {category: tuple(paths) for category, paths in split.recipe.get(IMAGES, {}).items()}
