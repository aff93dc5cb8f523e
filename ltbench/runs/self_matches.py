"""Which training images a test image is itself: what a self-excluded split tells a method to leave out for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ltbench.core import Split
from ltbench.runs.provenance import Digests

NOTE = "self_excluded"
"""The note of a record that says how many test images had something left out, by category."""

Matches = Mapping[str, tuple[int, ...]]
"""Test image -> positions of the training images that are it, ascending; only those that there are."""


def self_matches(split: Split, order: Sequence[str], digests: Digests) -> Matches:
    """Return which training images are the same image as a test image: the same path, or a file of the same content.

    The suite decides, by the digests that a record keeps of its files, so that it is the same for all methods. The same
    picture in a file of other bytes is another image.

    Args:
        split: which images train and test.
        order: paths of the training images, as the method sees them.
        digests: of all of them.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for position, path in enumerate(order):
        places[digests[path]].append(position)
    tested = (path for paths in split.test.values() for path in paths)
    return {path: tuple(places[digests[path]]) for path in tested if digests[path] in places}


def counted(split: Split, matches: Matches) -> dict[str, int]:
    """Return how many test images of each category have a training image that is left out for them."""
    return {category: sum(path in matches for path in paths) for category, paths in split.test.items()}
