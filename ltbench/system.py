"""What the operating system refuses (a full disk, a name too long, a file that may not be read), in our words."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ltbench.errors import DataError, FullDiskError, LtbenchError, cut

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No room on the disk, in the user's share of it, or for a file of that size."""

_REMEDIES: Mapping[int, str] = {
    **dict.fromkeys(FULL, "Free some space there, or name another folder."),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Mend its permissions, or name another path."),
    errno.ENAMETOOLONG: "Give a shorter one.",
    errno.ENOENT: "Mend the path.",
    errno.EEXIST: "Name another path, or take the file away.",
    errno.ENOTDIR: "Name a folder, where a file is.",
    errno.EISDIR: "Name a file: this is a folder.",
    errno.ENOTEMPTY: "Name another path, or empty the folder.",
    errno.ELOOP: "Mend the links: they lead back to themselves.",
    errno.EINVAL: "Name an ordinary file or folder.",
    errno.EILSEQ: "Give a name that this disk can hold.",
    errno.ENXIO: "Name an ordinary file: nothing answers behind this one.",
    errno.ENODEV: "Name an ordinary file: there is no such device.",
    errno.ESPIPE: "Name an ordinary file: this one cannot be read twice.",
    errno.EXDEV: "Name a path on the same disk.",
    errno.ESTALE: "Look after the network disk, and give the same command again.",
    errno.EIO: "Look after the disk: it fails.",
    errno.EMFILE: "Allow more open files (ulimit -n).",
    errno.ENFILE: "Wait until the machine has fewer files open.",
    errno.ETXTBSY: "Wait until nobody uses it.",
    errno.EBUSY: "Wait until nobody uses it.",
}

LARGEST = 1 << 30
"""Bytes of a text that a user names; the largest list of splits takes a thousandth of it."""

_RUST = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust, such as safetensors, end the text of a refusal."""


def as_ours(error: BaseException) -> LtbenchError | None:
    """Return the error of ours that an exception stands for, or None where it is a defect and not the system's word."""
    if isinstance(error, LtbenchError):
        return error
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        return refusal(error, f"to use {cut(str(error.filename))}" if error.filename else "to read or write")
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        return DataError(f"Expected names in UTF-8, got {cut(error.object)!r}. Rename the file or folder.")
    if isinstance(error, ValueError) and str(error) == "embedded null byte":
        return DataError("Expected the name of a file or folder, got one with a null byte. Mend the path.")
    return None


def refusal(error: OSError, wanted: str, remedy: str = "") -> LtbenchError:
    """Return what the system refused as an error of ours: a full disk has a class of its own.

    Args:
        error: what the system says.
        wanted: what was tried, "to write out.csv".
        remedy: what to do; by default what helps against errors of its kind.
    """
    kind = FullDiskError if error.errno in FULL else DataError
    advice = remedy or _REMEDIES.get(error.errno or 0, "Mend the path.")
    return kind(f"Expected {wanted}, got {error.strerror or error}. {advice}")


@contextmanager
def writing(target: Path, remedy: str = "") -> Iterator[None]:
    """Let a write that fails say which file or folder it was, and what to do.

    Raises:
        FullDiskError: there is no room.
        DataError: it cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        raise refusal(error, f"to write {cut(str(target))}", remedy) from error


def content_of(file: Path) -> bytes:
    """Return the bytes of a file that a user names; what has no end, a device, is refused.

    Raises:
        OSError: it cannot be read, or is larger than `LARGEST`.
    """
    with file.open("rb") as stream:
        if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.ENODEV, "a device", str(file))
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(errno.EFBIG, f"more than {LARGEST >> 20} MiB", str(file))
    return content


@contextmanager
def told_by_safetensors(file: Path) -> Iterator[None]:
    """Turn what the system told safetensors, which raises an error of its own for it, back into an `OSError`."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        if (found := _RUST.search(str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(file)) from error
