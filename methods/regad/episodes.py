"""What RegAD trains on: queries of one category, each with supports of the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError

Indices = NDArray[np.int64]

FEWEST = 2
"""Images that a category must have: a query and a support other than it."""


def by_category(categories: Sequence[str]) -> dict[str, Indices]:
    """Return the places of each category's images, in order; the categories by name.

    Raises:
        SpecError: a category with fewer than two images; the message names all of them.
    """
    places = {name: np.flatnonzero(np.array(categories) == name) for name in sorted(set(categories))}
    if few := [f"{name} ({len(own)})" for name, own in places.items() if len(own) < FEWEST]:
        raise SpecError(
            f"Expected at least {FEWEST} training images a category, for a query and a support, got {', '.join(few)}. "
            "Leave these categories out, or take another split."
        )
    return places


def chunks(places: Mapping[str, Indices], size: int, leave_out: str | None = None) -> list[Indices]:
    """Return batches of queries, each of one category and of `size` images, the last of a category of what is left.

    Args:
        places: category -> places of its images.
        size: images of a batch.
        leave_out: the category that is not trained on.

    Raises:
        SpecError: nothing is left to train on.
    """
    found = [
        own[start : start + size]
        for name, own in places.items()
        if name != leave_out
        for start in range(0, len(own), size)
    ]
    if not found:
        raise SpecError(
            f"Expected other categories than {leave_out} to train on, got none. Take training=unified, or a dataset of "
            "several categories."
        )
    return found


def draw_supports(queries: Indices, images: Indices, count: int, draws: Draws) -> Indices:
    """Return for each query `count` images of its category, (B, count), drawn with replacement, never the query.

    Args:
        queries: (B,) places, all among `images`.
        images: (n,) places of the category's images, ascending, n > 1.
        count: supports of a query.
        draws: random numbers.
    """
    others = len(images) - 1
    picked = np.array([[int(draws.uniform() * others) for _ in range(count)] for _ in queries])
    own = np.searchsorted(images, queries)[:, None]
    found: Indices = images[picked + (picked >= own)]
    return found
