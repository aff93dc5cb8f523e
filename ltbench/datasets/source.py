"""What the suite knows about a dataset before it has seen a file of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ltbench.core import Dataset
from ltbench.datasets.verify import Verification
from ltbench.errors import DataError


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """A dataset: what it is, where to get it, how to read it.

    Args:
        name: "mvtec".
        title: as printed: "MVTec AD".
        licence: under which terms the images may be used.
        citation: one line, with DOI or arXiv number.
        homepage: where to get the images.
        layout: the tree that `index` needs.
        aliases: folders, relative to a data root, where the images usually lie; the best first. `name` is always one.
        categories: every category, in class order; empty when the tree decides.
        index: root -> the dataset with its published partition; raises `DataError` for a tree that does not fit.
        verify: root -> what is missing, extra or unreadable.
        folders: what a root holds that tells it from others, where that is not a folder for each category.
        listing: () -> the published listing without images, or None where only the files tell.
        partition: root -> the listing that a file below it gives without the images, or None where there is none.
    """

    name: str
    title: str
    licence: str
    citation: str
    homepage: str
    layout: str
    aliases: tuple[str, ...]
    categories: tuple[str, ...]
    index: Callable[[Path], Dataset]
    verify: Callable[[Path], Verification]
    folders: tuple[str, ...] = ()
    listing: Callable[[], Dataset | None] = lambda: None
    partition: Callable[[Path], Dataset | None] = lambda root: None


logger = logging.getLogger(__name__)


@cache
def tell(text: str) -> None:
    """Log what a reader passes over, once a process; a run goes on."""
    logger.warning("%s", text)


def tell_unlisted(root: Path, unlisted: Collection[str], listing: str) -> None:
    """Log how many images of a tree take no part, since its published listing or layout has no place for them."""
    if unlisted:
        tell(f"Images of {root} outside {listing} take no part: {len(unlisted)}, {min(unlisted)} the first.")


def require_folder(folder: Path, what: str, remedy: str) -> Path:
    """Return the folder, or raise `DataError` saying what was expected there and the remedy."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise DataError(f"Expected the folder {folder} ({what}), got {found} there. {remedy}")
    return folder
