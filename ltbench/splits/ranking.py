"""The one source of chance in ltbench's own splits: a random order that depends on names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def ranked(items: Iterable[str], seed: int, role: str) -> list[str]:
    """Return names in random order: by the sha256 of `<seed>:<role>:<name>`.

    The order of one name relative to another depends on the two, the seed and the role, and on nothing else: not on
    the machine, the Python version, the order of the listing or what other names there are. Taking the first n makes
    the choice of fewer images a part of the choice of more, so splits of one seed are paired: `exp200` trains on a
    subset of what `exp100` trains on, and 5 % of contaminants are among the 10 %.

    Args:
        items: paths or categories.
        seed: the split's seed.
        role: what is drawn, so that draws for different ends are independent.
    """
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed}:{role}:{item}".encode()).digest())
