"""From a dataset's name to its folder, whole and verified."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ltbench.datasets.archives.facts import Archive, Offer, offers
from ltbench.datasets.archives.fetch import Fetched, Meter, fetch, need_room
from ltbench.datasets.archives.unpack import unpack
from ltbench.datasets.index import SOURCES, DatasetSource, Verification, locate, verify_dataset
from ltbench.errors import BusyError, DataError, LtbenchError, UnknownNameError
from ltbench.system import refusal

_DEPTH = 3
"""Folders of an archive above a dataset, at most."""


@dataclass(frozen=True, slots=True)
class Got:
    """A dataset on disk.

    Args:
        root: its folder.
        fetched: its archives, and the addresses that gave them; none where the folder was there before.
        verification: what is wrong with the folder.
    """

    root: Path
    fetched: tuple[Fetched, ...]
    verification: Verification


def offer_of(name: str) -> tuple[DatasetSource, Offer]:
    """Return what a built-in dataset is, and how it is to be had.

    Raises:
        UnknownNameError: there is no such dataset.
        DataError: it is drawn, not fetched.
    """
    if name not in SOURCES:
        raise UnknownNameError("dataset", name, SOURCES)
    if name not in offers():
        raise DataError(f"Expected a dataset that is fetched, got {name!r}, which is built in. Use it as it is.")
    return SOURCES[name], offers()[name]


def present(name: str, root: Path) -> Path | None:
    """Return where below a folder a dataset lies already, or None."""
    try:
        found = locate(name, root)
    except DataError:
        return None
    return found if _holds(found, SOURCES[name]) else None


def get(
    name: str,
    root: Path,
    meter: Meter,
    *,
    mirrors: Sequence[str] = (),
    own: Sequence[Path] = (),
    keep: bool = False,
) -> Got:
    """Fetch, unpack and verify a dataset, unless it is there; a call that was interrupted is gone on with.

    Args:
        name: a built-in dataset.
        root: the folder that holds datasets; this one goes to `<root>/<name>`.
        meter: shows progress.
        mirrors: further addresses of its archive, tried first.
        own: archives that were got by hand; they are told by their sha256 and stay where they are.
        keep: keep the archives that are fetched, in `root`.

    Raises:
        DataError: it is to be had by hand only, no address gives it, or it cannot be unpacked; nothing is left but the
            beginnings of its archives, for the next call.
        BusyError: another process is getting it.
    """
    source, offer = offer_of(name)
    if (there := present(name, root)) is not None:
        return Got(there, (), verify_dataset(name, root))
    target = root / name
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"Expected {source.title} or nothing in {target}, got something else. Move it away.")
    if not offer.archives:
        raise DataError(f"Expected an archive of {source.title}, got none that can be fetched. {_by_hand(name, root)}")
    with _workplace(root, name) as work:
        archives = [_with_mirrors(archive, mirrors) for archive in offer.archives]
        fetched = tuple(_own(archive, own) or _fetched(archive, work, meter, name, root) for archive in archives)
        tree = work / "tree"
        for got in fetched:
            unpack(got.file, tree, meter)
        _root_of(tree, source).rename(target)
        for got in fetched:
            if keep and got.url is not None:
                got.file.replace(root / got.file.name)
        shutil.rmtree(work)
    meter.say(f"{target}: reading every image")
    return Got(target, fetched, verify_dataset(name, root))


def _by_hand(name: str, root: Path) -> str:
    _, offer = offer_of(name)
    if not offer.archives:
        return (
            f"Get it by hand from {offer.page}: {offer.by_hand} It belongs into {root / name}; then call "
            f"`ltbench datasets verify {name} --data-root {root}`."
        )
    return (
        f"Get it by hand from {offer.page}, and call "
        f"`ltbench datasets get {name} --root {root} --from {offer.archives[0].file}`."
    )


@contextmanager
def _workplace(root: Path, name: str) -> Iterator[Path]:
    """Yield a hidden folder for what comes before the dataset is whole; only beginnings of archives outlast it."""
    work, is_new = root / f".{name}.download", not root.exists()
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=0):
            shutil.rmtree(work / "tree", ignore_errors=True)
            try:
                yield work
            finally:
                shutil.rmtree(work / "tree", ignore_errors=True)
                if work.exists() and [entry.name for entry in work.iterdir()] == ["lock"]:
                    shutil.rmtree(work)
                if is_new:
                    with suppress(OSError):  # something is in it
                        root.rmdir()
    except Timeout as error:
        raise BusyError(f"Expected to get {name} into {root}, got another process doing so. Wait for it.") from error
    except OSError as error:
        raise refusal(error, f"to write to {error.filename or root}", "Mend that, or name another --root.") from error


def _with_mirrors(archive: Archive, mirrors: Sequence[str]) -> Archive:
    return archive.model_copy(update={"urls": [*mirrors, *archive.urls]})


def _fetched(archive: Archive, work: Path, meter: Meter, name: str, root: Path) -> Fetched:
    def room(missing: int, whole: int) -> None:
        need_room(work, missing + whole, "the archive and the images in it, which are about as large")

    try:
        return fetch(archive, work, meter, room)
    except DataError as error:
        raise DataError(f"{error} {_by_hand(name, root)}") from error


def _own(archive: Archive, own: Sequence[Path]) -> Fetched | None:
    """Return the archive among the user's own, or None where there are none."""
    for file in own:
        if not file.is_file():
            raise DataError(f"Expected the archive {archive.file} at {file}, got no such file. Mend --from.")
        with file.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() == archive.sha256:
                return Fetched(file, None)
    if own:
        raise DataError(
            f"Expected {archive.file} (sha256 {archive.sha256}) among {', '.join(map(str, own))}, got other bytes. "
            "Get it anew."
        )
    return None


def _holds(folder: Path, source: DatasetSource) -> bool:
    return any((folder / name).is_dir() for name in source.folders or source.categories)


def _root_of(tree: Path, source: DatasetSource) -> Path:
    """Return the folder of an unpacked archive that is the dataset's root: where its categories lie."""
    level = [tree]
    for _ in range(_DEPTH):
        for folder in level:
            if _holds(folder, source):
                return folder
        level = [entry for folder in level for entry in sorted(folder.iterdir()) if entry.is_dir()]
    raise LtbenchError(
        f"Expected the folders of {source.title} in its archive, got others. Unpack it by hand: {source.layout}"
    )
