"""What becomes of contaminants in the test set: three readings of a noisy split, each a split with a name of its own.

- `overlap`: they stay, seen in training as normal and tested as anomalous, as TailedCore has it. It is the default.
- `disjoint`: they leave the test set, as SoftPatch has it.
- `selfexcluded`: they stay, and a method is told for each test image which of its training images is the same image,
  to score it as if its memory had nothing of that one (`ltbench.method.LeavesOut`). Training is what it is without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from ltbench.core import Split
from ltbench.errors import SpecError

Reading = Literal["overlap", "disjoint", "selfexcluded"]

READINGS: tuple[Reading, ...] = get_args(Reading)

_WORDS: Mapping[Reading, str] = {"overlap": "", "disjoint": "disjoint", "selfexcluded": "self-excluded"}


def reading_asked(*, disjoint: bool, self_excluded: bool) -> Reading:
    """Return the reading that the options of a command ask for.

    Raises:
        SpecError: they ask for two.
    """
    if disjoint and self_excluded:
        raise SpecError("Expected --disjoint or --self-excluded, got both. Make two splits.")
    return "disjoint" if disjoint else "selfexcluded" if self_excluded else "overlap"


def suffix_of(reading: Reading) -> str:
    """Return what a split's name ends in: "_disjoint", "_selfexcluded", or nothing."""
    return "" if reading == "overlap" else f"_{reading}"


def entries_of(reading: Reading) -> dict[str, bool]:
    """Return what a split's recipe says of its reading."""
    return {"disjoint": reading == "disjoint"} | ({"self_excluded": True} if reading == "selfexcluded" else {})


def is_self_excluded(split: Split) -> bool:
    """Return whether methods are told what to leave out for each test image of a split."""
    return bool(split.recipe.get("self_excluded", False))


def reading_in_words(reading: Reading) -> str:
    """Return a reading as tables print it; "" for overlap, the default."""
    return _WORDS[reading]
