"""Write a file whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ltbench.errors import DataError


def write_whole(target: Path, content: bytes) -> None:
    """Write a file in one step, its folder too if need be; on failure nothing is left, and an older file stays.

    Raises:
        OSError: it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{uuid4().hex}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):  # it may never have come about
            temporary.unlink()
        raise


def write_output(target: Path, content: bytes) -> None:
    """Write a file that the user asked for, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    try:
        write_whole(target, content)
    except OSError as error:
        raise DataError(f"Expected to write {target}, got {error.strerror}. Choose another --out.") from error
