"""Find image files below what the user names, and decode some of them ahead of the method."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ltbench.core import Protocol
from ltbench.datasets.decode import is_image_name
from ltbench.datasets.images import FileImages
from ltbench.errors import DataError


@dataclass(frozen=True, slots=True)
class Found:
    """An image file.

    Args:
        file: where it lies.
        name: relative to the folder that the user named, with forward slashes; the file's name where he named a file.
    """

    file: Path
    name: str


@dataclass(frozen=True, slots=True)
class Odd:
    """A file that was passed over, and why."""

    file: Path
    reason: str


def find_images(paths: Iterable[Path]) -> tuple[list[Found], list[Odd]]:
    """Return the images among files and below folders, in the order of the arguments and then of their names.

    Hidden files and folders are left out. Links to folders are followed, each folder once.

    Raises:
        DataError: a path that is not there, or no image at all.
        OSError: a folder that cannot be read.
    """
    found, odd = [], []
    for path in paths:
        if path.is_dir():
            inside = sorted(_below(path))
        elif path.exists():
            inside = [path]
        else:
            raise DataError(f"Expected images or folders of images, got {path}, which is not there. Mend the path.")
        for file in inside:
            if is_image_name(file.name):
                found.append(Found(file, file.relative_to(path).as_posix() if file != path else file.name))
            else:
                odd.append(Odd(file, "its name does not end like an image's"))
    if not found:
        shown = ", ".join(str(path) for path in paths) or "nothing"
        raise DataError(f"Expected images to score, got none in {shown}. Name image files or folders that hold some.")
    return found, odd


def _below(folder: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        if (real := Path(place).resolve()) in seen:  # a link back into the tree
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in files if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error


class DecodedImages(FileImages):
    """Images that were decoded and resized before: an `ImageSet` in memory that can still be asked uncropped.

    Args:
        files: where they lie.
        protocol: how they were resized and are cropped.
        resized: one a file.
        categories: the category of each image, or None.
    """

    def __init__(
        self,
        files: Sequence[Path],
        protocol: Protocol,
        resized: Sequence[Image.Image],
        categories: Sequence[str] | None = None,
    ) -> None:
        super().__init__(files, protocol, categories)
        self._ahead = resized

    def _resized(self, index: int) -> Image.Image:
        return self._ahead[index]


class _Decoder(FileImages):
    """Gives what `DecodedImages` takes."""

    def __call__(self, index: int) -> Image.Image:
        return self._resized(index)


Chunk = tuple[list[Found], list[Image.Image], list[Odd]]
"""Images that could be decoded, themselves resized, and those that could not."""


def decoded(found: Sequence[Found], protocol: Protocol, sizes: Iterable[int]) -> Iterator[Chunk]:
    """Yield the images in chunks, each decoded in threads while the one before is scored.

    Args:
        found: all images.
        protocol: how they are resized.
        sizes: of the chunks, endless.
    """
    decoder = _Decoder([one.file for one in found], protocol)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="ltbench-decode") as pool:

        def chunks() -> Iterator[list[tuple[Found, Future[Image.Image]]]]:
            start = 0
            for size in sizes:
                if start >= len(found):
                    return
                stop = min(start + size, len(found))
                yield [(found[index], pool.submit(decoder, index)) for index in range(start, stop)]
                start = stop

        waiting = chunks()
        ahead = next(waiting, None)
        while ahead is not None:
            now, ahead = ahead, next(waiting, None)
            yield _settled(now)


def _settled(chunk: Sequence[tuple[Found, Future[Image.Image]]]) -> Chunk:
    good, images, odd = [], [], []
    for one, future in chunk:
        try:
            images.append(future.result())
            good.append(one)
        except DataError as error:
            odd.append(Odd(one.file, str(error)))
    return good, images, odd
