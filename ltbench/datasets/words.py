"""The words that people give to folders of images, and what each says of the images in it."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

ROLES: Mapping[str, frozenset[str]] = {
    role: frozenset(words.split())
    for role, words in {
        "train": "train training",
        "test": "test testing test_public",
        "unused": "val valid validation",
        "mask": "ground_truth groundtruth gt mask masks label labels annotation annotations",
        "good": "good ok io normal pass passed clean healthy non_defective defect_free no_defect",
        "bad": "bad ko ng nok nio not_ok abnormal anomaly anomalies anomalous defect defects defective faulty fail "
        "failed reject rejected",
        "plain": "images image img imgs data dataset datasets",
    }.items()
}
"""Role -> the words for it, in lower case; folders called by a `plain` word are no category."""

MARKED = re.compile(
    r"(?i)(?P<stem>.+)(?P<mark>[_-](mask|gt|label|seg|segmentation|groundtruth|ground_truth|annotation))"
)
"""The stem of a mask that lies beside its image."""


def role_of(folder: str) -> str:
    """Return what a folder's name says, or "" where it says nothing by itself."""
    word = re.sub(r"[\s-]+", "_", folder.lower())
    return next((role for role, words in ROLES.items() if word in words), "")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file below a folder, and what the names of its folders say.

    Args:
        path: below the folder.
        roles: what each of its folders says, outermost first.
        label: the position of the folder that says what the image shows, or None.
    """

    path: PurePosixPath
    roles: tuple[str, ...]
    label: int | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        """The names of its folders, outermost first."""
        return self.path.parts[:-1]

    @property
    def word(self) -> str:
        """The folder that says what the image shows, or ""."""
        return "" if self.label is None else self.folders[self.label]

    @property
    def part(self) -> str:
        """`train`, `test`, `unused`, or "" where no folder says."""
        return next((role for role in self.roles if role in ("train", "test", "unused")), "")

    @property
    def is_good(self) -> bool:
        """Whether its folders call it good: those that train are, where nothing else is said."""
        return self.part == "train" if self.label is None else self.roles[self.label] == "good"

    @property
    def kind(self) -> tuple[object, ...]:
        """What files of one kind have in common, whatever their category."""
        return (self.label, self.roles)


def image_files(paths: Iterable[PurePosixPath]) -> list[ImageFile]:
    """Return image files with the folders that say what they show.

    That is a folder called by a word for good or bad; another below `test`, or beside such a folder, is a defect type.
    """
    files = [ImageFile(path, roles := roles_of(path), _last(roles)) for path in paths]
    beside = {file.folders[: file.label] for file in files if file.label is not None}
    return [replace(file, label=_by_place(file, beside)) if file.label is None else file for file in files]


def mask_files(paths: Iterable[PurePosixPath], labels: Container[str]) -> list[ImageFile]:
    """Return masks with the folder that says what they show: one that is called like the images'."""
    files = [ImageFile(path, roles_of(path)) for path in paths]
    places = [[n for n, name in enumerate(file.folders) if name in labels] for file in files]
    return [replace(file, label=own[-1] if own else None) for file, own in zip(files, places, strict=True)]


def roles_of(path: PurePosixPath) -> tuple[str, ...]:
    """Return what each folder of a path says, outermost first."""
    return tuple(role_of(name) for name in path.parts[:-1])


def _last(roles: Sequence[str]) -> int | None:
    return next((number for number in reversed(range(len(roles))) if roles[number] in ("good", "bad")), None)


def _by_place(file: ImageFile, beside: Container[tuple[str, ...]]) -> int | None:
    last = len(file.roles) - 1
    if last < 0 or file.roles[last] or file.part in ("train", "unused"):
        return None
    return last if file.part == "test" or file.folders[:-1] in beside else None
