"""Digests of files, remembered in the cache by path, size and time of change, so that a second run reads nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ltbench.atomic import write_whole
from ltbench.core import Dataset, Split, sha256_of
from ltbench.datasets.shapes import cache_folder

MISSING = "missing"
"""The digest of a file that is not there."""


def digests_of(files: Iterable[Path]) -> dict[Path, str]:
    """Return size and sha256 of each file, or `MISSING`. The index is kept one file a folder; a lost one is made anew.

    Args:
        files: the files, each by a path that tells it from every other.
    """
    by_folder: dict[Path, set[Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, set()).add(file)
    return {file: text for folder, own in by_folder.items() for file, text in _in_folder(folder, own).items()}


def split_files(dataset: Dataset, split: Split) -> dict[str, Path]:
    """Return the file of every training and test image of a split, and of its masks, by path in the dataset."""
    trained = [path for images in split.train.values() for path in (*images.normal, *images.contaminant)]
    paths = {*trained, *(path for own in split.test.values() for path in own)}
    samples = [dataset.by_path[path] for path in sorted(paths) if path in dataset.by_path]
    masks = [sample.mask for sample in samples if sample.mask is not None]
    return {path: dataset.file(path) for path in (*(sample.path for sample in samples), *masks)}


def _in_folder(folder: Path, files: Iterable[Path]) -> dict[Path, str]:
    index = cache_folder() / "digests" / f"{sha256_of(str(folder.resolve()))[:32]}.json"
    known: dict[str, list[object]] = {}
    with suppress(OSError, ValueError):
        known = json.loads(index.read_text(encoding="utf-8"))
    found, is_new = {}, False
    for file in files:
        try:
            status = file.stat()
            state = [status.st_size, status.st_mtime_ns]
            entry = known.get(file.name, [])
            if entry[:2] != state:
                with file.open("rb") as content:
                    entry = [*state, hashlib.file_digest(content, "sha256").hexdigest()]
                known[file.name], is_new = entry, True
            found[file] = f"{entry[0]} {entry[2]}"
        except OSError:
            found[file] = MISSING
    if is_new:
        with suppress(OSError):  # a cache that cannot be written to costs time, no more
            write_whole(index, json.dumps(known).encode())
    return found
