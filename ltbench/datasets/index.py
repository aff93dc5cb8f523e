"""The datasets that the suite knows, and where on disk they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ltbench.core import Dataset
from ltbench.datasets import dagm, folder, shapes, visa
from ltbench.datasets.cache import cache_folder
from ltbench.datasets.described import source_of
from ltbench.datasets.description import shipped
from ltbench.datasets.folder import is_own_dataset
from ltbench.datasets.masks import suspects
from ltbench.datasets.source import DatasetSource
from ltbench.datasets.verify import Verification
from ltbench.errors import AbsentError, DataError, suggest

__all__ = [
    "SOURCES",
    "DatasetSource",
    "Verification",
    "cache_folder",
    "load_dataset",
    "load_listing",
    "locate",
    "source_named",
    "verify_dataset",
]

DESCRIBED = ("btad", "mpdd", "mvtec_loco", "mvtec_ad_2", "realiad", "realiad_sv", "kolektorsdd")
"""The datasets that their descriptions say everything of, beside MVTec AD."""

SOURCES: dict[str, DatasetSource] = {
    source.name: source
    for source in (
        source_of(shipped("mvtec")),
        visa.SOURCE,
        dagm.SOURCE,
        *(source_of(shipped(name)) for name in DESCRIBED),
        shapes.SOURCE,
    )
}
"""The built-in datasets by name."""


def source_named(name: str) -> DatasetSource:
    """Return the built-in dataset of that name; any other name is that of a folder of one's own."""
    if name in SOURCES:
        return SOURCES[name]
    return replace(
        folder.SOURCE,
        name=name,
        index=partial(folder.index_own, name=name),
        verify=partial(folder.verify_own, name=name),
    )


def locate(name: str, data_root: Path | None) -> Path:
    """Return the root folder of a dataset, or the description of one of one's own.

    Args:
        name: a built-in dataset, or the name given to a folder of one's own.
        data_root: the folder that holds datasets as subfolders (under a built-in's name or usual folder name,
            whatever the case), or the dataset's own root, whatever it is called, or of one's own dataset the
            description. `shapes` needs none: it is drawn into the cache when it is first indexed.

    Raises:
        AbsentError: there is no such folder; the message names what was looked for.
        DataError: the data root is no folder, or the name no name of one.
    """
    if name == shapes.SOURCE.name:
        return shapes.cached_root()
    if name not in SOURCES:
        return _locate_folder(name, data_root)
    source = SOURCES[name]
    if data_root is None:
        raise AbsentError(
            f"Expected the folder of {source.title}, got no data root. Pass --data-root DIR or set LTBENCH_DATA; "
            f"get the images with `ltbench datasets get {name} --root DIR` ({source.homepage})."
        )
    fetching = f"`ltbench datasets get {name} --root {data_root}` ({source.homepage})"
    if not data_root.exists():
        raise AbsentError(
            f"Expected {source.title} below the data root {data_root}, got no such folder. Get it with {fetching}, or "
            "mend --data-root."
        )
    _require_data_root(data_root)
    folders = source.folders or source.categories
    candidates = [*_subfolders_like(data_root, (source.name, *source.aliases)), data_root]
    for candidate in candidates:
        if any((candidate / folder_).is_dir() for folder_ in folders):
            return candidate
    if len(candidates) > 1:
        return candidates[0]  # there, but without one of them: the index names what is missing
    if data_root.name.lower() in {alias.lower() for alias in (source.name, *source.aliases)}:
        return data_root
    kind = "folders" if source.folders else "categories"
    looked = ", ".join((source.name, *source.aliases))
    raise AbsentError(
        f"Expected {source.title} in {data_root}, got no subfolder named {looked} and none of its {kind} "
        f"({folders[0]}, ...). Get it with {fetching}, or pass --data-root DIR."
    )


def _require_data_root(data_root: Path) -> None:
    if not data_root.is_dir():
        raise DataError(f"Expected a folder as data root, got {data_root}, which is none. Mend --data-root.")


def _subfolders_like(parent: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield the subfolders called like one of the names (`a/b` reaches two levels down), in the order of names."""
    for name in names:
        found = [parent]
        for part in name.split("/"):
            found = [
                entry
                for folder_ in found
                for entry in sorted(folder_.iterdir())
                if entry.name.lower() == part.lower() and entry.is_dir()
            ]
        yield from found


def _locate_folder(name: str, data_root: Path | None) -> Path:
    known = f"a built-in dataset ({', '.join(sorted(SOURCES))})"
    if data_root is None:
        raise DataError(
            f"Expected {known} or a folder below a data root, got {name!r} and no data root. "
            f"Pass --data-root DIR for a folder of your own. {suggest(name, SOURCES)}"
        )
    if name in ("", ".", "..") or any(mark in name for mark in "/\\:"):
        raise DataError(f"Expected the basename of a folder in {data_root}, got {name!r}. Remove slashes and dots.")
    if data_root.is_file():
        return data_root
    _require_data_root(data_root)
    below = data_root / name
    own = [place for place in (below, data_root) if is_own_dataset(place)]  # `below` may be a category of the root's
    own += [place for place in (below,) if place.is_dir()]
    if own:
        return own[0]
    if data_root.resolve().name == name:
        return data_root
    raise DataError(
        f"Expected {known}, the folder {below}, or a dataset in {data_root} itself, got none of them. Mend the name or "
        f"--data-root; `ltbench datasets describe FOLDER` looks at a folder in another layout. {suggest(name, SOURCES)}"
    )


def load_dataset(name: str, data_root: Path | None) -> Dataset:
    """Return a dataset with its root: a built-in, or a folder of one's own.

    Raises:
        DataError: the folder is not found, or its tree does not fit.
    """
    return source_named(name).index(locate(name, data_root))


def verify_dataset(name: str, data_root: Path | None) -> Verification:
    """Return what is wrong with a dataset on disk: its files as its source verifies them, and its masks.

    Raises:
        DataError: the folder is not found.
    """
    root, source = locate(name, data_root), source_named(name)
    found = source.verify(root)
    try:
        graded, empty = suspects(source.index(root))
    except DataError:  # what is missing is in the verification
        return found
    return replace(found, graded=graded, empty=empty)


def load_listing(name: str, data_root: Path | None) -> Dataset:
    """Return a dataset to make splits from: its published listing where there is one, else what its folder holds.

    A split then has the same images whether or not the folder is complete.

    Raises:
        DataError: only the folder tells, and it is not found or does not fit.
    """
    source = source_named(name)
    return source.listing() or source.partition(locate(name, data_root)) or load_dataset(name, data_root)
