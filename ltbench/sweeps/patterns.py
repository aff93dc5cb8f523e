"""Names that a grid spells with patterns: methods, presets, splits and files of splits."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path

from ltbench.errors import SpecError, UnknownNameError, cut
from ltbench.sweeps.seeds import LARGEST_SWEEP

_DIGITS = re.compile(r"\[((?:[0-9]-[0-9]|[0-9])+)\]")


def is_pattern(name: str) -> bool:
    """Return whether a name has the marks of a pattern."""
    return any(mark in name for mark in "*?[")


def expand(names: Sequence[str], known: Sequence[str], kind: str) -> list[str]:
    """Return names with patterns replaced by what they match; files are given by absolute paths.

    A split can be made from its name, so that `mvtec_k4_seed[1-5]` is five splits, whichever of them have files.

    Raises:
        UnknownNameError: a pattern that matches nothing.
        SpecError: a pattern of more names than a sweep may have runs.
    """
    found: list[str] = []
    for name in names:
        is_file = kind == "split" and ("/" in name or name.endswith(".json"))
        if is_file:
            found += _files(name, known)
        elif not is_pattern(name):
            found.append(name)
        elif kind == "split" and not is_pattern(_DIGITS.sub("", name)):
            found += _spelled_out(name)
        else:
            matches = [each for each in known if fnmatchcase(each, name)]
            if not matches:
                raise UnknownNameError(f"{kind} (a pattern)", name, known)
            found += matches
    return list(dict.fromkeys(found))


def _files(name: str, known: Sequence[str]) -> list[str]:
    matches = sorted(glob(name))  # noqa: PTH207 - of a whole path
    if not matches and is_pattern(name):
        raise UnknownNameError("split (a pattern)", name, known)
    return [str(Path(match).resolve()) for match in matches or [name]]  # an absent file is named when it is read


def _spelled_out(pattern: str) -> list[str]:
    """Return every name of a pattern whose only marks are digits in brackets."""
    texts = _DIGITS.split(pattern)
    choices = [[text] if place % 2 == 0 else _digits(text) for place, text in enumerate(texts)]
    if (count := math.prod(map(len, choices))) > LARGEST_SWEEP:
        raise SpecError(f"Expected at most {LARGEST_SWEEP:,} splits, got {count:,} in {cut(pattern)!r}. Mend it.")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _digits(text: str) -> list[str]:
    """Return the digits of a bracket, each once: "1-35" is 1, 2, 3 and 5."""
    ranges = re.findall(r"([0-9])(?:-([0-9]))?", text)
    return list(dict.fromkeys(str(own) for low, high in ranges for own in range(int(low), int(high or low) + 1)))
