"""Write a file whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ltbench.system import writing

TEMPORARY = f".{'?' * 32}.*"
"""What a process that was killed in the middle leaves beside its file, as a pattern."""


def write_whole(target: Path, content: bytes) -> None:
    """Write a file in one step, its folder too if need be; on failure nothing is left, and an older file stays.

    Raises:
        OSError: it cannot be written.
    """
    with whole(target) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Yield the path of a file to write, beside `target`, that becomes it when the block ends well.

    The folder is made if need be. On failure nothing is left, and an older file stays.

    Raises:
        OSError: it cannot be written.
    """
    temporary = target.with_name(f".{uuid4().hex}.{os.getpid()}")  # short: a name may be as long as it can be
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):  # it may never have come about
            temporary.unlink()
        raise


def write_output(target: Path, content: bytes) -> None:
    """Write a file that the user asked for, whole or not at all.

    A link and a device are written through: neither they nor what they lead to are replaced.

    Raises:
        FullDiskError: there is no room.
        DataError: it cannot be written.
    """
    with writing(target, "Choose another --out."):
        if target.is_symlink() or (target.exists() and not target.is_file()):
            _write_through(target, content)
        else:
            write_whole(target, content)


def _write_through(target: Path, content: bytes) -> None:
    """Write into what a path leads to; room for a file is taken before a byte of the old one is lost."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT, 0o666)
    with os.fdopen(handle, "wb", buffering=0) as file:
        before = os.fstat(handle)
        is_file = stat.S_ISREG(before.st_mode)
        if is_file and content and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, len(content))
            except OSError:
                file.truncate(before.st_size)
                raise
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        if is_file:
            file.truncate(len(content))
