"""Which categories a mean is over: High, Low and Avg of a split, or those with so many training images."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from ltbench.errors import SpecError
from ltbench.tables.cells import GROUP_MEANINGS, GROUP_TITLES

_COUNTS = re.compile(r"([0-9]{1,9})(?:(-)([0-9]{1,9})?)?")
ALL = "all"
"""Stands for High, Low and Avg."""
RANGE = "/"
"""Ends the name of a range, as the name of no category does, so that "7/" is no category that is called "7"."""


def parse_groups(text: str) -> tuple[str, ...]:
    """Return the groups that a text names, each once: "high,low,1-5" is high, low and the range "1-5/".

    Raises:
        SpecError: what is neither a group of a split nor a range of counts.
    """
    names: list[str] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name == ALL:
            names += GROUP_TITLES
        elif name in GROUP_TITLES:
            names.append(name)
        else:
            _range_of(name)
            names.append(name + RANGE)
    if not names:
        raise SpecError(f"Expected groups of categories, got {text!r}. Name some: avg, all, high,low or 1-5,6-20,21-.")
    return tuple(dict.fromkeys(names))


def counted(groups: Sequence[str]) -> list[str]:
    """Return the groups that are ranges of counts."""
    return [group for group in groups if group.endswith(RANGE)]


def group_name(group: str) -> str:
    """Return what a user calls a group or category: a range without its end."""
    return group.removesuffix(RANGE)


def members_of(group: str, counts: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Return the categories whose number of normal training images is in a range.

    Args:
        group: "1-5/", "21-/" or "7/".
        counts: category -> number of normal and contaminant training images.
    """
    least, most = _range_of(group)
    return tuple(category for category, own in counts.items() if least <= own["normal"] <= most)


def group_title(group: str) -> str:
    """Return what a heading calls a group: "High", "1–5", "21+"."""
    if group in GROUP_TITLES:
        return GROUP_TITLES[group]
    name = group_name(group)
    return f"{name[:-1]}+" if name.endswith("-") else name.replace("-", "–")


def is_mean(group: str) -> bool:
    """Return whether a group is a mean over categories, and not the name of one."""
    return group in GROUP_MEANINGS or group.endswith(RANGE)


def group_meaning(group: str) -> str:
    """Return what a group is, for captions."""
    if group in GROUP_MEANINGS:
        return GROUP_MEANINGS[group]
    return f"mean over the categories with {counts_in_words(group)}"


def counts_in_words(group: str) -> str:
    """Return a range of counts in words: "1 to 5 normal training images"."""
    least, most = _range_of(group)
    number = f"{least} or more" if most == math.inf else f"{least}" if least == most else f"{least} to {most:g}"
    return f"{number} normal training image{'s' * (number != '1')}"


def _range_of(group: str) -> tuple[int, float]:
    found = _COUNTS.fullmatch(group_name(group))
    least = int(found[1]) if found else 0
    most = float(found[3] or math.inf) if found and found[2] else least
    if not 1 <= least <= most:
        raise SpecError(
            f"Expected avg, high, low, all, or a range of training images such as 1-5 or 21-, got "
            f"{group_name(group)!r}. "
            "Mend --group."
        )
    return least, most
