"""Look at a folder whose layout nobody has said, and describe it by the words that people use for such folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ltbench.datasets.described import check_scan, scan_dataset
from ltbench.datasets.description import FILE_NAME, Description, described
from ltbench.datasets.folder import MVTEC_LAYOUT
from ltbench.datasets.looking_at_lists import list_keys
from ltbench.datasets.patterns import escaped
from ltbench.datasets.scan import Scan
from ltbench.datasets.tree import subfolders
from ltbench.datasets.verify import images_below
from ltbench.datasets.words import MARKED, ImageFile, image_files, mask_files, role_of, roles_of
from ltbench.errors import DataError

Keys = dict[str, Any]
"""A description as its YAML file has it."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a folder looks like.

    Args:
        folder: the folder.
        keys: its description, as the YAML file has it.
        description: the same, checked.
        scan: what the description finds in the folder.
        notes: what the user should know.
        is_plain: whether the folder needs no description, since MVTec AD's layout fits.
    """

    folder: Path
    keys: Mapping[str, Any]
    description: Description
    scan: Scan
    notes: tuple[str, ...] = ()
    is_plain: bool = False


def look(folder: Path) -> Sight:
    """Return what a folder looks like: its description, and what that finds there.

    Raises:
        DataError: there is no such folder, it holds no images, or the names of its folders do not say what these show.
    """
    if not folder.is_dir():
        raise DataError(f"Expected a folder, got {folder}, which is none. Mend the path.")
    keys = list_keys(folder) or _tree_keys(folder)
    name = folder.resolve().name
    description = described(yaml.safe_dump(keys), f"the layout of {folder}").model_copy(update={"name": name})
    scan = scan_dataset(folder, description)
    plain = scan_dataset(folder, MVTEC_LAYOUT.model_copy(update={"name": name}))
    is_plain = bool(scan.train) and (scan.train, scan.test) == (plain.train, plain.test)
    return Sight(folder, keys, description, scan, tuple(_notes(folder, keys)), is_plain)


def told_of(sight: Sight) -> str:
    """Return why `make-splits` would refuse the folder with this description, or ""."""
    try:
        check_scan(sight.folder, sight.description, sight.scan)
    except DataError as error:
        return str(error).strip()
    return ""


def yaml_of(sight: Sight, target: Path) -> str:
    """Return the YAML of a description that is to lie at a place; elsewhere than in its folder it names the folder."""
    keys = dict(sight.keys)
    if target.name != FILE_NAME or target.absolute().parent != sight.folder.absolute():
        keys = {"folder": str(sight.folder.absolute())} | keys
    head = "# The layout of a dataset, for ltbench: docs/own-data.md explains every key.\n"
    return head + yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=120)


def _notes(folder: Path, keys: Keys) -> Iterable[str]:
    if (folder / FILE_NAME).is_file():
        yield f"It has a {FILE_NAME}, which `make-splits` and `run` go by; this is what its folders say without it."
    if "hold_out" in keys:
        share = f"{100 * keys['hold_out']:g} %"
        yield f"Nothing parts the images into training and test: {share} of the good ones of a category are held out."
    if "category" in keys:
        above = folder.resolve().parent
        if others := _like(folder.resolve()):
            yield (
                f"It is one category, and {above} holds more like it, {others[0]} the first: describe {above} to have "
                "them in one dataset."
            )


def _like(folder: Path) -> list[str]:
    """Return the names of the folders beside one that have two of its folders with a meaning: train and test."""
    own = {name for name in subfolders(folder) if role_of(name)}
    found = []
    for name in subfolders(folder.parent) if os.access(folder.parent, os.R_OK) else ():
        beside = folder.parent / name
        if beside != folder and os.access(beside, os.R_OK) and len(own & set(subfolders(beside))) > 1:
            found.append(name)
    return found


def _tree_keys(folder: Path) -> Keys:
    """Return what the names of folders say.

    Raises:
        DataError: no folder says which images are good.
    """
    paths = [PurePosixPath(path) for path in images_below(folder, subfolders(folder))]
    used = [path for path in paths if "unused" not in roles_of(path)]
    masks = _masks_among(used)
    files = image_files(path for path in used if path not in masks)
    images = [file for file in files if file.label is not None or file.part == "train"]
    if not any(file.is_good for file in images):
        raise DataError(
            f"Expected folders of {folder} that say which images are good (good, ok, normal, train ...), got "
            f"{_named(paths)}. Rename them, or write a csv with the columns path,label,mask,category into the folder."
        )
    is_parted = any(file.part == "train" for file in images)
    patterns = _patterns(images)
    keys: Keys = (
        {} if any("{category}" in pattern for pattern in patterns.values()) else {"category": folder.resolve().name}
    )
    for file in images:
        _add(keys, (file.part or "test") if is_parted else "images", patterns[file])
    for pattern in _mask_patterns(masks, images) if masks else ():
        _add(keys, "masks", pattern)
    _tell_by_format(keys, images, masks)
    good = sorted({file.word for file in images if file.is_good and file.word})
    unused = sorted({_unused(path) for path in paths if path not in set(used)})
    return (
        keys
        | ({"good": good} if good and good != ["good"] else {})
        | ({} if is_parted else {"hold_out": 0.2})
        | ({"ignored": unused} if unused else {})
    )


def _tell_by_format(keys: Keys, images: Iterable[ImageFile], masks: Iterable[PurePosixPath]) -> None:
    """Write the formats into patterns, where nothing else tells the masks from the images beside them."""
    kinds = [kind for kind in ("train", "test", "images") if kind in keys]
    if not {pattern for kind in kinds for pattern in keys[kind]} & set(keys.get("masks", ())):
        return
    for kinds_, paths in ((kinds, [file.path for file in images]), (["masks"], masks)):
        suffixes = sorted({path.suffix.lower() for path in paths})
        for kind in kinds_:
            keys[kind] = [f"{pattern}{suffix}" for pattern in keys[kind] for suffix in suffixes]


def _add(keys: Keys, kind: str, pattern: str) -> None:
    if pattern not in keys.setdefault(kind, []):
        keys[kind].append(pattern)


def _named(paths: Iterable[PurePosixPath]) -> str:
    names = sorted({name for path in paths for name in path.parts[:-1]})
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "no folder with images"


def _unused(path: PurePosixPath) -> str:
    """Return the folder of validation images, whatever the category."""
    roles = roles_of(path)
    at = roles.index("unused")
    return "/".join(
        [
            *(escaped(name) if role else "*" for name, role in zip(path.parts, roles[:at], strict=False)),
            escaped(path.parts[at]),
        ]
    )


def _masks_among(paths: Sequence[PurePosixPath]) -> set[PurePosixPath]:
    """Return the masks: in a folder for them, marked as one beside its image, or beside it in a rarer format."""
    stems = Counter(path.with_suffix("") for path in paths)
    suffixes = Counter(path.suffix.lower() for path in paths)
    masks = set()
    for path in paths:
        marked = MARKED.fullmatch(path.stem)
        twins = [suffix for suffix in suffixes if stems[path.with_suffix("")] > 1 and suffix != path.suffix.lower()]
        if (
            "mask" in roles_of(path)
            or (marked is not None and path.parent / marked["stem"] in stems)
            or any(suffixes[twin] > suffixes[path.suffix.lower()] for twin in twins)
        ):
            masks.add(path)
    return masks


def _patterns(files: Sequence[ImageFile]) -> dict[ImageFile, str]:
    """Return the pattern of each image; several formats beside masks of another are told apart by their suffixes."""
    found = {}
    for kind in _by_kind(files):
        free = [n for n, role in enumerate(kind[0].roles) if not role and n != kind[0].label]
        varying = [n for n in free if len({file.folders[n] for file in kind}) > 1]
        category = (varying or free[-1:])[:1]
        is_open = kind[0].part != "train" or any(not file.is_good for file in files if file.part == "train")
        for file in kind:
            parts = [escaped(name) for name in file.folders]
            for number, at in enumerate(varying):
                parts[at] = f"{{level_{'abcdefgh'[number % 8]}}}"
            for at in category:
                parts[at] = "{category}"
            if file.label is not None and is_open:
                parts[file.label] = "{defect}"
            found[file] = "/".join([*parts, "{stem}"])
    return found


def _by_kind(files: Iterable[ImageFile]) -> list[list[ImageFile]]:
    kinds: dict[tuple[object, ...], list[ImageFile]] = {}
    for file in files:
        kinds.setdefault(file.kind, []).append(file)
    return list(kinds.values())


def _mask_patterns(masks: Iterable[PurePosixPath], images: Sequence[ImageFile]) -> list[str]:
    """Return the patterns of masks: their folders, and what their names add to the images'."""
    stems = {file.path.stem for file in images}
    files = mask_files(sorted(masks), {file.word for file in images if file.word})
    texts = _patterns(files)
    found = Counter[str]()
    for file in files:
        folder = texts[file].rpartition("/")[0]
        if file.folders[-1] in stems:
            found[f"{folder.rpartition('/')[0]}/{{stem}}/*"] += 1
            continue
        name = file.path.stem
        cut = next((at for at in range(len(name), 0, -1) if name[:at] in stems), None)
        if cut is not None:
            found[f"{folder}/{{stem}}{escaped(name[cut:])}"] += 1
    return [pattern for pattern, count in found.most_common() if 10 * count >= len(files)]
