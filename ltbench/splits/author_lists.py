"""LTAD's published lists of training images, in whatever form they lie in a folder.

LTAD (CVPR 2024) publishes its splits at zenodo.org/records/10854201, LTOAD (ICCV 2025) its own at
doi.org/10.5281/zenodo.16283852. What form they have is not relied on: a file is read as a path a line, as csv, as JSON
or as JSON a line, and says by its path which split it is of.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ltbench.core import Dataset, Split, TrainImages
from ltbench.errors import DataError
from ltbench.splits.generate import published_test
from ltbench.splits.groups import GroupRule, groups_of
from ltbench.system import content_of

SOURCE = "zenodo.org/records/10854201"

FORMS = (".txt", ".lst", ".csv", ".json", ".jsonl")
"""How the names of lists end."""

IMAGES = (".png", ".jpg", ".jpeg", ".bmp")

DATASETS = ("mvtec", "visa", "dagm")
"""The datasets of LTAD's splits."""

_PROFILE = re.compile(r"(exp|step)\D{0,3}(\d+)")


def import_lists(dataset: Dataset, folder: Path, *, groups: GroupRule = "auto") -> list[Split]:
    """Return the splits whose lists lie in a folder, `mvtec_exp100_official` and so on, in the order of their names.

    The path of a file below the folder names its split by `exp` or `step` and the imbalance (`MVTec/exp_100.txt`), and
    its dataset where files of several lie there; files of one split are taken together, those called `test` left out.

    Args:
        dataset: "mvtec", "visa" or "dagm"; a listing without images will do.
        folder: that holds the lists.
        groups: which categories are High and which Low; "auto" is LTAD's halves.

    Raises:
        DataError: there is no list of the dataset, or one cannot be read, names an image twice, or names none of the
            dataset's training images.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMS):
        profile = _profile(file.relative_to(folder), dataset.name)
        if profile is not None:
            found[profile].append(file)
    if not found:
        raise DataError(
            f"Expected lists of {dataset.name} in {folder}, such as exp100.txt or step_200.json, got none. Unpack "
            f"{SOURCE} there, or pass another --source."
        )
    return [_split(dataset, profile, found[profile], folder, groups) for profile in sorted(found)]


def _profile(place: Path, dataset: str) -> str | None:
    """Return the profile that a list's path names, or None if it is of another dataset or of test images."""
    text = place.as_posix().lower()
    match = _PROFILE.search(text)
    others = [name for name in DATASETS if name in text]
    if match is None or (others and dataset not in others) or re.search(r"(^|[^a-z])test([^a-z]|$)", text):
        return None
    return f"{match[1]}{int(match[2])}" + "_reversed" * ("revers" in text)


def _split(dataset: Dataset, profile: str, lists: list[Path], folder: Path, groups: GroupRule) -> Split:
    known = {path: path for path in dataset.by_path} | {given: path for path, given in dataset.files.items()}
    part = {sample.path for sample in dataset.train}
    chosen: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    digest = hashlib.sha256()
    for file in lists:
        content = _content(file)
        digest.update(hashlib.sha256(content).digest())
        for names in _entries(file, content):
            path = next((found for name in names if (found := _known(name, known))), None)
            if path is None or path not in part:
                raise DataError(
                    f"Expected training images of {dataset.name} in {file}, got {names[0]!r}. Compare the dataset with "
                    "`ltbench datasets verify`, or take the file away."
                )
            if path in seen:
                raise DataError(f"Expected each image once in the lists of {profile}, got {path!r} again in {file}.")
            seen.add(path)
            chosen[dataset.by_path[path].category].append(path)
    if not chosen:
        raise DataError(f"Expected paths of images in {lists[0]}, got none. Take the file away.")
    train = {c: TrainImages(tuple(sorted(chosen[c])), ()) for c in dataset.categories if chosen.get(c)}
    high, low = groups_of({category: len(images.normal) for category, images in train.items()}, groups, "halves")
    recipe = {
        "profile": "official",
        "source": SOURCE,
        "published_as": [file.relative_to(folder).as_posix() for file in lists],
        "source_sha256": digest.hexdigest(),
        "groups": "halves" if groups == "auto" else groups,
        "disjoint": False,
    }
    name = f"{dataset.name}_{profile}_official"
    return Split(name, dataset.name, recipe, 0, high, low, train, published_test(dataset, train))


def _content(file: Path) -> bytes:
    try:
        return content_of(file)
    except OSError as error:
        raise DataError(f"Expected a list of images in {file}, got: {error.strerror}. Mend --source.") from error


def _known(name: str, known: Mapping[str, str]) -> str | None:
    """Return the dataset's path that a name ends in: folders in front of the dataset's own are passed over."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return next((known[tail] for i in range(len(parts)) if (tail := "/".join(parts[i:])) in known), None)


def _entries(file: Path, content: bytes) -> Iterator[tuple[str, ...]]:
    """Yield the images of a list, each by the names that it may have in the dataset, the likeliest first."""
    try:
        text = content.decode("utf-8-sig")
        if file.suffix.lower() in (".json", ".jsonl"):
            yield from _of_json(_parsed(text), ())
        else:
            for row in csv.reader(text.splitlines()):
                named = [cell.strip() for cell in row if cell.strip().lower().endswith(IMAGES)]
                if named:
                    yield _names(named[0], tuple(file.stem.split("_")[-1:]))
                elif row and "/" in row[0]:
                    raise DataError(f"Expected paths of images in {file}, got {row[0]!r}. Mend the file.")
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"Expected a list of images in {file}, got neither text nor JSON: {error}. Mend it.") from error


def _parsed(text: str) -> Any:
    """Return a JSON document, or the list of those of a file that has one a line, as UniAD's lists."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _of_json(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the names of images below a JSON value, with the keys above them; of a record of an image its first."""
    if isinstance(value, str):
        if value.lower().endswith(IMAGES):
            yield _names(value, keys)
    elif isinstance(value, list):
        for item in value:
            yield from _of_json(item, keys)
    elif isinstance(value, dict):
        images = [item for item in value.values() if isinstance(item, str) and item.lower().endswith(IMAGES)]
        if images:
            yield _names(images[0], keys)
            return
        for key, item in value.items():
            if str(key).lower() != "test":
                yield from _of_json(item, (*keys, str(key)))


def _names(name: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that an image may have: as it is written, and below the folder of its category."""
    return (name, *(f"{key}/{middle}{name}" for key in reversed(keys) for middle in ("", "train/good/", "good/")))
