"""Digests of files, remembered in the cache, so that a second run reads nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ltbench.core import Dataset, Split, sha256_of
from ltbench.datasets.decode import members
from ltbench.datasets.remembered import remembered

MISSING = "missing"
"""The digest of a file that is not there."""


def digests_of(files: Iterable[Path]) -> dict[Path, str]:
    """Return size and sha256 of each file, or `MISSING`.

    Args:
        files: the files, each by a path that tells it from every other.
    """
    wanted = list(files)
    found = remembered("digests", wanted, _sha256)
    return {file: "{} {}".format(*found[file]) if file in found else MISSING for file in wanted}


def _sha256(file: Path) -> str:
    if file.is_dir():  # masks that are merged
        return sha256_of({part.name: _sha256(part) for part in members(file)})
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def split_files(dataset: Dataset, split: Split) -> dict[str, Path]:
    """Return the file of every training and test image of a split, and of its masks, by path in the dataset."""
    trained = [path for images in split.train.values() for path in (*images.normal, *images.contaminant)]
    paths = {*trained, *(path for own in split.test.values() for path in own)}
    samples = [dataset.by_path[path] for path in sorted(paths) if path in dataset.by_path]
    masks = [sample.mask for sample in samples if sample.mask is not None]
    return {path: dataset.file(path) for path in (*(sample.path for sample in samples), *masks)}
