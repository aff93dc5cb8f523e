"""Compare a tree on disk with what a dataset's publisher released."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ltbench.datasets.decode import check_sums, decode, is_image_name
from ltbench.errors import DataError


@dataclass(frozen=True, slots=True)
class Verification:
    """What is wrong with a tree. Paths are relative to the dataset root, with forward slashes, sorted.

    Args:
        missing: images and masks that the release has and the tree lacks; a `*` stands for a folder that cannot be
            told (VisA converted without its csv: train or test).
        extra: images in the tree that the release does not have.
        unreadable: images and masks that are there but cannot be decoded to the last pixel.
        graded: masks of many grey levels, which protocols cut at half of their maximum.
        empty: masks of defective images without a defect pixel.
        miscounted: sentences on folders that hold another number of images than published.
    """

    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    miscounted: tuple[str, ...] = ()
    graded: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; masks of many grey levels can be meant."""
        return not (self.missing or self.extra or self.unreadable or self.miscounted or self.empty)


def images_below(root: Path, folders: Iterable[str]) -> Iterator[str]:
    """Yield the relative path of every image file below the given folders of a root, sorted within each folder.

    Links are followed, but for those that lead back to a folder above them.
    """
    for folder in folders:
        found: list[str] = []
        above: dict[str, frozenset[str]] = {}
        for place, subfolders, names in os.walk(root / folder, followlinks=True):
            own, real = above.get(str(Path(place).parent), frozenset()), os.path.realpath(place)
            above[place] = own | {real}
            if real in own:
                subfolders.clear()
                continue
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            images = [name for name in names if not name.startswith(".") and is_image_name(name)]
            found += [(Path(place) / name).relative_to(root).as_posix() for name in images]
        yield from sorted(found)


def unreadable_of(root: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of the paths that do not decode, sorted; each file is decoded in full."""
    broken = []
    for path in sorted(paths):
        try:
            check_sums(root / path)
            decode(root / path)
        except DataError:
            broken.append(path)
    return tuple(broken)


def compare(
    root: Path, folders: Iterable[str], expected: Collection[str], miscounted: Iterable[str] = ()
) -> Verification:
    """Return what a tree lacks, has beside and holds broken, as against the expected files.

    Args:
        root: the dataset root.
        folders: the folders of the root that belong to the dataset; the rest is not looked at.
        expected: every image and mask of the release, relative to the root.
        miscounted: sentences to hand on.
    """
    present = set(images_below(root, folders))
    wanted = set(expected)
    return Verification(
        missing=tuple(sorted(wanted - present)),
        extra=tuple(sorted(present - wanted)),
        unreadable=unreadable_of(root, wanted & present),
        miscounted=tuple(miscounted),
    )
