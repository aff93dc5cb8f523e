"""Unpack an archive into a folder of its own: plain files and folders below it, and nothing else."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from ltbench.core import check_relative
from ltbench.datasets.archives.fetch import Meter, need_room
from ltbench.errors import DataError

_SPARE = 64 << 20
"""Bytes of the disk that are left free."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of an archive: its name, its bytes, how many, and at which byte of the archive they lie."""

    name: str
    content: IO[bytes]
    size: int
    position: int


def unpack(archive: Path, folder: Path, meter: Meter) -> None:
    """Write the files of a zip or tar archive below a folder. Links and devices are left out, and told.

    Raises:
        DataError: it is damaged, or has a file outside the folder.
        FullDiskError: it does not fit on the disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total, done = archive.stat().st_size, 0
    meter.start(f"unpack {archive.name}", 0, total)
    try:
        with _entries(archive, meter) as entries:
            for entry in entries:
                _write(entry, folder)
                meter.advance(max(0, entry.position - done))
                done = max(done, entry.position)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"Expected the archive {archive}, got: {reason}. Remove it, and fetch it again.") from error
    meter.advance(total - done)


@contextmanager
def _entries(archive: Path, meter: Meter) -> Iterator[Iterator[_Entry]]:
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            need_room(archive.parent, sum(entry.file_size for entry in zipped.infolist()), "the images")
            yield _zipped(zipped, meter)
    else:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tarred:
            yield _tarred(tarred, raw, meter)


def _zipped(archive: zipfile.ZipFile, meter: Meter) -> Iterator[_Entry]:
    for entry in archive.infolist():
        if entry.is_dir() or entry.filename.startswith("__MACOSX/"):
            continue
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            meter.say(f"left out: {entry.filename!r}, which is a link or a device")
            continue
        with archive.open(entry) as content:
            yield _Entry(entry.filename, content, entry.file_size, entry.header_offset + entry.compress_size)


def _tarred(archive: tarfile.TarFile, raw: IO[bytes], meter: Meter) -> Iterator[_Entry]:
    for entry in archive:
        if entry.isdir():
            continue
        content = archive.extractfile(entry) if entry.isreg() else None
        if content is None:
            meter.say(f"left out: {entry.name!r}, which is a link or a device")
            continue
        yield _Entry(entry.name, content, entry.size, raw.tell())


def _write(entry: _Entry, folder: Path) -> None:
    name = str(PurePosixPath(entry.name))  # "./bottle/readme.txt" is "bottle/readme.txt"
    check_relative(name)
    need_room(folder, entry.size + _SPARE, "the images")
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(entry.content, file, 1 << 20)
