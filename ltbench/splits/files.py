"""Split files: one JSON a split, one path a line, with the split's hash; written, read, found and checked."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from ltbench.atomic import write_output
from ltbench.core import Dataset, Split, TrainImages, check_relative
from ltbench.errors import AbsentError, DataError, LtbenchError, UnknownNameError
from ltbench.places import SPLITS
from ltbench.splits.catalogue import catalogue
from ltbench.splits.generate import make_split
from ltbench.splits.held_out import hold_out, without_suffix
from ltbench.splits.recipe import check_name, is_recipe_name, parse_name
from ltbench.system import content_of

FOLDERS = (SPLITS, Path("splits"))
"""Where a split is looked for by name: among the committed ones, then where `ltbench make-splits` writes."""

_OFFICIAL = re.compile(r"_official[0-9]+(_disjoint|_selfexcluded)?$")

Load = Callable[[str], Dataset]
"""Dataset name -> the dataset, or its listing without images."""

Say = Callable[[str], None]
"""Tells the user a sentence."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Count(_Strict):
    normal: int
    contaminant: int


class _Paths(_Strict):
    normal: list[str]
    contaminant: list[str]


class _SplitFile(_Strict):
    name: str
    dataset: str
    recipe: dict[str, JsonValue]
    seed: int
    high: list[str]
    low: list[str]
    counts: dict[str, _Count]
    train: dict[str, _Paths]
    test: dict[str, list[str]]
    sha256: str


def render_split(split: Split) -> str:
    """Return the text of a split's file: one path a line, keys in a fixed order, ASCII, a newline at the end."""
    return json.dumps(split.payload() | {"sha256": split.sha256}, indent=1, allow_nan=False) + "\n"


def path_of(split: Split, folder: Path) -> Path:
    """Return where below a folder a split's file lies: `<dataset>/<name>.json`.

    Raises:
        SpecError: a name that is no safe file name.
    """
    check_name(split.dataset, "dataset")
    check_name(split.name, "split")
    return folder / split.dataset / f"{split.name}.json"


def write_split(split: Split, folder: Path) -> Path:
    """Write a split's file below a folder, whole or not at all, and return its path.

    Raises:
        SpecError: a name that is no safe file name.
        DataError: the file cannot be written.
    """
    path = path_of(split, folder)
    write_output(path, render_split(split).encode("ascii"))  # bytes: no line ends of the platform
    return path


def read_split(path: Path) -> Split:
    """Return the split in a file.

    Raises:
        DataError: the file is missing, is no split file, names a path outside the dataset, or was edited by hand.
    """
    try:
        found = _SplitFile.model_validate_json(content_of(path))
    except OSError as error:
        raise DataError(f"Expected a split file at {path}, got: {error.strerror}. Mend the path.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"Expected a split file at {path}, got {where}: {first['msg']}. Make it anew.") from error
    try:
        split = _split(found)
    except LtbenchError as error:
        raise DataError(f"In {path}: {error}") from error
    if found.sha256 != split.sha256 or {c: n.model_dump() for c, n in found.counts.items()} != split.counts:
        raise DataError(
            f"Expected the contents of {path} to have its sha256 and counts, got others: it was edited by hand. "
            f"Make it anew with `ltbench make-splits {found.name}`, or import your own list with `--from-list`."
        )
    return split


def _split(found: _SplitFile) -> Split:
    train = {c: TrainImages(tuple(p.normal), tuple(p.contaminant)) for c, p in found.train.items()}
    test = {category: tuple(paths) for category, paths in found.test.items()}
    for path in (p for images in train.values() for p in (*images.normal, *images.contaminant)):
        check_relative(path)
    for path in (p for paths in test.values() for p in paths):
        check_relative(path)
    split = Split(found.name, found.dataset, found.recipe, found.seed, tuple(found.high), tuple(found.low), train, test)
    try:
        split.sha256  # noqa: B018 - the hash refuses what is no JSON number
    except ValueError as error:
        raise DataError(f"Expected finite numbers in the recipe, got {found.recipe}. Make it anew.") from error
    return split


def find_split(name_or_path: str, load: Load, folders: Sequence[Path] = FOLDERS) -> Split:
    """Return a split by its file or by its name; one that has no file is made from its name.

    Args:
        name_or_path: path of a `.json` file, or a name.
        load: gives the dataset, when the split has to be made.
        folders: where files lie as `<dataset>/<name>.json`, the first to look in first.

    Raises:
        DataError: there is no such file, it is no split file, or it holds another split than its name says.
        UnknownNameError: no split has that name, but one that is nearly it.
        SpecError: the name stands for no recipe.
    """
    if name_or_path.endswith(".json") or "/" in name_or_path or os.sep in name_or_path:
        return read_split(Path(name_or_path))
    for folder in folders:
        for path in _files_named(folder, name_or_path):
            return _read_named(path)
    whole, percent = without_suffix(name_or_path)
    if percent:
        return hold_out(find_split(whole, load, folders), percent)
    if _OFFICIAL.search(name_or_path):
        looked = ", ".join(str(folder) for folder in folders)
        whose = "realiad --data-root DIR" if name_or_path.startswith("realiad_") else "tailedcore"
        raise DataError(
            f"Expected the file of the published split {name_or_path!r} in {looked}, got none. "
            f"Import it with `ltbench make-splits --official {whose}`."
        )
    try:
        recipe = parse_name(name_or_path)
    except LtbenchError:
        known = committed_names(folders)
        if difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.85):
            raise UnknownNameError("split", name_or_path, known) from None
        raise
    return make_split(load(recipe.dataset), recipe)


def committed_split(name: str) -> Split | None:
    """Return the split of that name that the suite ships, or None."""
    path = next(_files_named(SPLITS, name), None)
    return None if path is None else _read_named(path)


def committed_names(folders: Sequence[Path] = FOLDERS) -> list[str]:
    """Return the names of the papers' splits and of those in the folders, sorted."""
    files = (path.stem for folder in folders for path in folder.glob("*/*.json"))
    return sorted({*files, *(recipe.name for recipe in catalogue())})


def check_splits(folder: Path, load: Load, names: Iterable[str], say: Say = lambda text: None) -> list[str]:
    """Make splits anew and return every difference from their files, one sentence each.

    The file of a split that was imported, and so follows from no recipe, is only read, which proves its hash; so is
    that of a split whose dataset is absent.

    Args:
        folder: the files' folder, which holds them as `<dataset>/<name>.json`.
        load: gives the dataset of a split.
        names: the splits to check.
        say: is told once of each dataset that is absent.
    """
    absent: dict[str, AbsentError] = {}
    found = [difference for name in names for difference in _check(folder, load, name, absent)]
    for dataset, error in absent.items():
        say(f"the splits of {dataset} were only read, not made anew: {error}")
    return found


def _check(folder: Path, load: Load, name: str, absent: dict[str, AbsentError]) -> Iterator[str]:
    path = next(_files_named(folder, name), None)
    if path is None:
        if _needs_absent(load, name):
            return
        yield f"{name}: no file {folder}/*/{name}.json"
        return
    try:
        found = _read_named(path)
    except DataError as error:
        yield f"{name}: {error}"
        return
    if not is_recipe_name(name):
        return
    recipe = parse_name(name)
    try:
        dataset = load(recipe.dataset)
    except AbsentError as error:
        absent[recipe.dataset] = error
        return
    made = make_split(dataset, recipe)
    if path.read_bytes() != render_split(made).encode("ascii"):
        yield from _differences(path, found, made)


def _needs_absent(load: Load, name: str) -> bool:
    """Return whether a split cannot be made here: its dataset is absent, and the suite does not ship it."""
    if not is_recipe_name(name) or committed_split(name) is not None:
        return False
    try:
        load(parse_name(name).dataset)
    except AbsentError:
        return True
    return False


def _differences(path: Path, found: Split, made: Split) -> Iterator[str]:
    """Yield in what a file differs from the split made anew: fields, then categories; else only its layout differs."""
    before, after = found.payload(), made.payload()
    fields = [field for field in after if field not in ("train", "test") and before[field] != after[field]]
    yield from (f"{path}: {field} is {before[field]}, made anew {after[field]}" for field in fields)
    same = not fields
    for part in ("train", "test"):
        for category in sorted({*before[part], *after[part]}):
            if before[part].get(category) != after[part].get(category):
                same = False
                yield f"{path}: other images in {part} of {category}"
    if same:
        yield f"{path}: the same split, written differently"


def _files_named(folder: Path, name: str) -> Iterator[Path]:
    check_name(name, "split")
    yield from sorted(folder.glob(f"*/{name}.json"))


def _read_named(path: Path) -> Split:
    split = read_split(path)
    if (split.dataset, split.name) != (path.parent.name, path.stem):
        raise DataError(
            f"Expected split {path.stem!r} of {path.parent.name!r} in {path}, got {split.name!r} of {split.dataset!r}. "
            "Move the file where its name says."
        )
    return split
