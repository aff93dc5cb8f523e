"""Backbone features on disk, computed once an image and shared by all runs.

One safetensors file per feature space and image, at `<folder>/<space>/<first two digits of key>/<key>.safetensors`. A
file appears whole or not at all, so several processes may read and write the same folder; the files used least
recently go when the folder is full. The store only saves time: whatever happens to it, a run goes on without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 20 * 10**9
"""MVTec AD takes 1.1 GB with EfficientNet-Lite0 and 13 GB with WideResNet50-2 (layers 2 and 3, 224 px)."""

_SUFFIX = ".safetensors"
_ABANDONED_SECONDS = 3600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,127}")


def default_folder() -> Path:
    """Return where features lie: `features` in the folder of the variable LTBENCH_CACHE, else in the user's cache."""
    root = os.environ.get("LTBENCH_CACHE")
    return (Path(root) if root else platformdirs.user_cache_path("ltbench")) / "features"


def scratch_folder() -> Path:
    """Return where temporary files go that stand in for memory: beside the features."""
    return default_folder().with_name("scratch")


class DiskFeatureStore:
    """A `FeatureStore` in a folder. Threads and processes may share it.

    Args:
        folder: where the files go; made when first written to.
        max_bytes: how large the files may grow together. With several processes at work it can be exceeded by a
            twentieth for each other process before it is noticed. A folder that does not fit is trimmed to 90 %.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._room = 0  # bytes to write before the folder is looked at again
        self._guard = threading.Lock()
        self._is_writable = True

    def get(self, space: str, key: str) -> Mapping[str, NDArray[np.float32]] | None:
        """Return the arrays stored under `space` and `key`, or None. A damaged file is removed and counts as none."""
        file = self._file(space, key)
        try:
            with safe_open(file, framework="np") as stored:
                checksums = stored.metadata() or {}
                names = stored.keys()
                arrays: dict[str, NDArray[np.float32]] = {name: stored.get_tensor(name) for name in names}
            if not arrays or any(checksums.get(name) != _checksum(array) for name, array in arrays.items()):
                raise ValueError("its checksum differs")
        except FileNotFoundError:
            return None
        except (SafetensorError, ValueError, OSError) as error:
            logger.warning("Features are computed anew: %s cannot be read (%s).", file, error)
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        now = time.time_ns()
        with contextlib.suppress(OSError):  # a folder may be read-only, or the file just removed by another process
            os.utime(file, ns=(now, now))  # access times are often not kept: the time of change stands for last use
        return arrays

    def put(self, space: str, key: str, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Store arrays under `space` and `key`, atomically. Once a write fails (disk full), no more is tried."""
        file = self._file(space, key)
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        content = save(arrays, metadata={name: _checksum(array) for name, array in arrays.items()})
        with self._guard:
            if not self._is_writable or len(content) > self.max_bytes:
                return
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                if len(content) > self._room:
                    self._room = self._make_room(len(content))
                _write_atomically(file, content)
                self._room -= len(content)
            except OSError as error:
                self._is_writable = False
                logger.warning("Features are no longer stored: %s cannot be written (%s).", file, error)

    def _file(self, space: str, key: str) -> Path:
        for name in (space, key):
            if not _NAME.fullmatch(name):
                raise ValueError(f"Expected letters, digits, '-' and '_' in a space or key, got {name!r}. Hash it.")
        return self.folder / space / key[:2] / f"{key}{_SUFFIX}"

    def _make_room(self, needed: int) -> int:
        """Remove what was used least recently until `needed` bytes fit; return how much may now be written.

        One process at a time. What may be written is a twentieth of the bound, so that the work of other processes is
        seen in time.
        """
        with FileLock(self.folder / "trim.lock"):
            files = sorted(self._entries())
            total = sum(size for _, _, size in files)
            if total + needed > self.max_bytes:
                target = max(0, min(self.max_bytes * 9 // 10, self.max_bytes - needed))
                for _, name, size in files:
                    if total <= target:
                        break
                    with contextlib.suppress(PermissionError):  # Windows keeps a file that is being read
                        Path(name).unlink(missing_ok=True)
                        total -= size
        return min(self.max_bytes - total, max(needed, self.max_bytes // 20))

    def _entries(self) -> Iterator[tuple[int, str, int]]:
        """Yield (time of last use, path, bytes) of every file; remove what an interrupted write left behind."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if name.endswith(_SUFFIX):
                        yield status.st_mtime_ns, str(path), status.st_size
                    elif name.endswith(".tmp") and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                        path.unlink()


def _checksum(array: NDArray[np.float32]) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(array).data):08x}"


def _write_atomically(file: Path, content: bytes) -> None:
    temporary = file.with_name(f"{uuid4().hex}.tmp")  # of the user's umask: others may share the store
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
