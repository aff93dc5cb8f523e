"""Fetch a file from the first of several addresses that gives the right bytes, going on where an earlier call stopped.

Pooch names, hashes and puts in place, but fetches a file from its start each time: the bytes come through a downloader
of ours, which asks for the rest of what is there.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ltbench.datasets.archives.facts import Archive
from ltbench.errors import DataError, FullDiskError
from ltbench.system import refusal

PATIENCE = 4
"""Connections in a row that bring nothing, after which an address is given up that has brought something before."""

FIRST_PATIENCE = 2
"""The same of an address that has brought nothing yet."""

SECONDS = 30.0
"""How long a server may be silent."""

_CHUNK = 1 << 18
_MEGA, _GIGA = 1e6, 1e9


class Meter(Protocol):
    """Shows how far a long task is."""

    def start(self, title: str, done: int, total: int | None) -> None:
        """Begin a task of `total` bytes, of which some are done."""

    def advance(self, count: int) -> None:
        """Add bytes."""

    def say(self, text: str) -> None:
        """Show a line."""


class _RefusedError(Exception):
    """Why an address does not give the file, whatever one does."""


class _InterruptedError(Exception):
    """Why a connection ended early; another may go on."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An archive on disk.

    Args:
        file: where it is.
        url: the address that gave it, or None where it was there before.
    """

    file: Path
    url: str | None


Room = Callable[[int, int], None]
"""Raises `FullDiskError` unless there is room for the missing bytes of a file, and for what all of them make."""


def fetch(archive: Archive, folder: Path, meter: Meter, room: Room) -> Fetched:
    """Return the archive in a folder, fetched unless it is there; what came of it before is gone on with.

    Args:
        archive: the file, its hash and its addresses.
        folder: where it goes; its beginning lies there as `<file>.part`.
        meter: shows progress.
        room: looks at the disk before the first byte.

    Raises:
        DataError: no address gives the file. What came stays for the next call.
        FullDiskError: the disk is full; what came stays, too.
    """
    import pooch

    pooch.get_logger().setLevel("ERROR")  # what it says, we say
    part, failures = folder / f"{archive.file}.part", []
    if archive.size is not None and not (folder / archive.file).exists():
        room(archive.size - _size(part), archive.size)
    for url in archive.urls:
        source = _Source(part, meter, room)
        for _ in range(2):
            resumed = part.exists()
            try:
                known = f"sha256:{archive.sha256}"
                pooch.retrieve(url, known, archive.file, folder, downloader=source)
                return Fetched(folder / archive.file, url if source.was_asked else None)
            except ValueError:  # pooch's for another hash; the file is gone
                failures.append(f"{url}: other bytes than its sha256 says")
                if not resumed:
                    break  # else what was there before may be at fault: once more from the start
            except _RefusedError as reason:
                failures.append(f"{url}: {reason}")
                break
        meter.say(failures[-1])
    raise DataError(f"Expected {archive.file} (sha256 {archive.sha256[:12]}...), got none. {'; '.join(failures)}.")


@dataclass
class _Source:
    """A downloader for pooch that asks for what `part` lacks, as often as that brings something.

    Args:
        part: the beginning of the file; it is moved away when it is whole.
        meter: shows progress.
        room: looks at the disk before the first byte.
        was_asked: whether pooch called it.
    """

    part: Path
    meter: Meter
    room: Room
    was_asked: bool = False

    def __call__(self, url: Any, output_file: Any, pooch: Any, *, check_only: bool | None = None) -> None:
        """Fetch a file as pooch asks for it.

        Raises:
            _RefusedError: the address does not give it.
            FullDiskError: the disk is full.
        """
        self.was_asked = True
        patience, barren, before = FIRST_PATIENCE, 0, _size(self.part)
        while True:
            try:
                self._stream(str(url))
                break
            except _InterruptedError as reason:
                here = _size(self.part)
                if here > before:
                    patience, barren = PATIENCE, 0
                else:
                    barren += 1
                before = here
                if barren >= patience:
                    raise _RefusedError(str(reason)) from reason
                self.meter.say(f"{reason}; going on at {here / _MEGA:.0f} MB")
                time.sleep(2.0**barren - 1)
        self.meter.say(f"{self.part.stem}: checking its sha256")
        self.part.replace(output_file)

    def _stream(self, url: str) -> None:
        """Append what the server sends, or begin anew where it cannot go on."""
        for answer, start, total in _answers(url, _size(self.part)):
            if total is not None:
                self.room(total - start, total)
            self.meter.start(self.part.stem, start, total)
            chunks = _chunks(answer)
            try:
                with self.part.open("r+b" if start else "wb") as file:
                    file.seek(start)
                    for chunk in chunks:
                        file.write(chunk)
                        self.meter.advance(len(chunk))
            except OSError as error:
                remedy = "Mend that, and the same command goes on."
                raise refusal(error, f"to write {self.part}", remedy) from error
            if total is not None and _size(self.part) < total:
                raise _InterruptedError("the connection ended early")


def _chunks(answer: Any) -> Iterator[bytes]:
    """Yield an answer's bytes as they were sent: some servers name the compression of a file as if it were theirs."""
    import urllib3

    try:
        yield from answer.raw.stream(_CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _InterruptedError(_reason(error)) from error


def _answers(url: str, start: int) -> Iterator[tuple[Any, int, int | None]]:
    """Yield the server's answer to the wish for a file from a byte on, the byte it starts at, and the file's size.

    There is none where nothing is left to send.
    """
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        answer = requests.get(url, headers=headers, stream=True, timeout=SECONDS)
    except requests.exceptions.ConnectionError as error:
        raise _InterruptedError(_reason(error)) from error
    except requests.exceptions.RequestException as error:
        raise (_InterruptedError if isinstance(error, requests.Timeout) else _RefusedError)(_reason(error)) from error
    with closing(answer):
        status, told = answer.status_code, f"{answer.status_code} {answer.reason}"
        if status == 416 and start:
            whole = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
            if whole is None or int(whole[1]) != start:
                yield from _answers(url, 0)
            return
        if status in (408, 429) or status >= 500:
            raise _InterruptedError(told)
        if status not in (200, 206):
            raise _RefusedError(told)
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise _RefusedError("a web page in place of the file")
        yield answer, *_extent(answer, start)


def _extent(answer: Any, start: int) -> tuple[int, int | None]:
    """Return the byte at which an answer starts, and the size of the whole file."""
    if answer.status_code == 206:
        sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if sent is None or int(sent[1]) != start:
            raise _RefusedError("a part of the file that was not asked for")
        return start, None if sent[2] == "*" else int(sent[2])
    length = answer.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def need_room(folder: Path, count: int, what: str) -> None:
    """Raise `FullDiskError` unless a folder's disk has room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if count > free:
        raise FullDiskError(
            f"Expected {count / _GIGA:.1f} GB free in {folder} for {what}, got {free / _GIGA:.1f} GB. Free some, or "
            "choose another --root."
        )


def _reason(error: Exception) -> str:
    """Return the innermost cause of a failed connection, which names it best."""
    inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, Exception)), None)
    if isinstance(inner, Exception):
        return _reason(inner)
    return re.sub(r"^HTTPS?Connection\w*\(.*?\): ", "", str(error)) or type(error).__name__


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
