"""Seeds as they are written, counted before any is made."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ltbench.errors import cut

LARGEST_SWEEP = 20_000
"""Runs of a sweep, and so seeds too; more are taken for a slip."""

LARGEST_SEED = 2**32 - 1
"""Generators of numpy take no larger one."""


def parse_seeds(value: object) -> list[int]:
    """Return `3`, `"0-4"`, `"0-2,7"` or a list of such as numbers, in order.

    Raises:
        ValueError: anything else, or more than a sweep may have.
    """
    ranges = list(_ranges(value))
    if (count := sum(last + 1 - first for first, last in ranges)) > LARGEST_SWEEP:
        raise ValueError(f"Expected at most {LARGEST_SWEEP:,} seeds, got {count:,}.")
    return [seed for first, last in ranges for seed in range(first, last + 1)]


def _ranges(value: object) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each range of seeds."""
    if isinstance(value, list):
        for item in value:
            yield from _ranges(item)
        return
    for part in str(value).split(","):
        match = re.fullmatch(r"\s*([0-9]{1,10})\s*(?:-\s*([0-9]{1,10})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if isinstance(value, bool) or not first <= last <= LARGEST_SEED:
            raise ValueError(f"Expected seeds such as 0-4 or 0,2,7, up to {LARGEST_SEED}, got {cut(str(value))!r}.")
        yield first, last
