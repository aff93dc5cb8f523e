"""What was found in files, remembered in the cache by path, size and time of change: a second look reads nothing."""

from __future__ import annotations

import json
import stat
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ltbench.atomic import write_whole
from ltbench.core import sha256_of
from ltbench.datasets.cache import cache_folder
from ltbench.datasets.decode import members

Look = Callable[[Path], Any]
"""What is found in a file, as a plain JSON value."""


def remembered(kind: str, files: Iterable[Path], look: Look) -> dict[Path, tuple[int, Any]]:
    """Return size and finding of each file that is there. The index is kept one file a folder; a lost one is made anew.

    Args:
        kind: name of the finding; another name where another look, or another library, may find something else.
        files: the files, each by a path that tells it from every other.
        look: raises for a file in which nothing can be found, which is not remembered.
    """
    by_folder: dict[Path, list[Path]] = {}
    for file in dict.fromkeys(files):
        by_folder.setdefault(file.parent, []).append(file)
    found: dict[Path, tuple[int, Any]] = {}
    for folder, own in by_folder.items():
        found |= _in_folder(kind, folder, own, look)
    return found


def _state(file: Path) -> list[int]:
    """Return size and time of change of a file; of a folder of masks, all sizes and a check sum of what is in it."""
    status = file.stat()
    if not stat.S_ISDIR(status.st_mode):
        return [status.st_size, status.st_mtime_ns]
    inside = [(part.name, part.stat()) for part in members(file)]
    told = [(name, own.st_size, own.st_mtime_ns) for name, own in inside]
    return [sum(own.st_size for _, own in inside), zlib.crc32(repr(told).encode())]


def _in_folder(kind: str, folder: Path, files: Iterable[Path], look: Look) -> dict[Path, tuple[int, Any]]:
    index = cache_folder() / kind / f"{sha256_of(str(folder.resolve()))[:32]}.json"
    known: dict[str, list[Any]] = {}
    with suppress(OSError, ValueError, RecursionError):
        known = json.loads(index.read_text(encoding="utf-8"))
    found: dict[Path, tuple[int, Any]] = {}
    is_new = False
    try:
        for file in files:
            with suppress(OSError):
                state = _state(file)
                entry = known.get(file.name, [])
                if entry[:2] != state:
                    known[file.name] = entry = [*state, look(file)]
                    is_new = True
                found[file] = entry[0], entry[2]
    finally:
        if is_new:
            with suppress(OSError):  # a cache that cannot be written to costs time, no more
                write_whole(index, json.dumps(known).encode())
    return found
