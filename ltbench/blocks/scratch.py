"""Nameless files for what does not belong in memory; they vanish with the process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

from ltbench.errors import LtbenchError


def reserved(folder: Path, size: int, advice: str) -> IO[bytes]:
    """Return a nameless file of `size` bytes; a full disk is an error here, not a crash when a page is written to.

    Args:
        folder: where the file lies, unseen; made if need be.
        size: bytes.
        advice: what else than freeing room would help, for the message.

    Raises:
        LtbenchError: the folder has no room, or cannot be written to.
    """
    file: IO[bytes] | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as what it holds
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        if file is not None:
            file.close()
        raise LtbenchError(
            f"Expected room for {size / 2**30:.1f} GiB in {folder}, got: {error.strerror}. Free some, or {advice}."
        ) from error
    return file
