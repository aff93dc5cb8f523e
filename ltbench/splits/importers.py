"""Splits made by others: TailedCore's published manifests, and any list of images.

TailedCore (CVPR 2025) publishes, for each of its 30 splits, two lists: the good training images to remove, and the
defective test images to add, each under the name that it gets in the training folder (`crack/002.png` becomes
`crack_002.png`). They were drawn on an unknown order of files, so they can be imported but not made anew.
"""

from __future__ import annotations

import csv
import hashlib
import http.client
import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from ltbench.core import Dataset, Sample, Split, TrainImages
from ltbench.errors import DataError, SpecError, UnknownNameError
from ltbench.splits.generate import less_contaminants, published_test
from ltbench.splits.groups import GroupRule, groups_of, rule_of
from ltbench.splits.readings import Reading, entries_of, suffix_of
from ltbench.splits.recipe import check_name, is_recipe_name
from ltbench.system import content_of

ROLES = ("normal", "contaminant", "test")
"""What an image of a list is for."""

FETCH_SECONDS = 30.0
"""How long a server may stay silent."""

_PINNED: Mapping[str, Any] = json.loads((files("ltbench.splits") / "tailedcore_official.json").read_text("utf-8"))

TAILEDCORE_URL = (
    f"https://raw.githubusercontent.com/{_PINNED['repository'].removeprefix('github.com/')}/"
    f"{_PINNED['commit']}/{_PINNED['folder']}"
)
"""Where the manifests lie, at the commit whose hashes are known."""

_PUBLISHED = {"mvtec": ("mvtecad-nlt", 10), "visa": ("visa-nlt", 5)}
_PROFILES = {"pareto": "pareto", "step_k4": "k4", "step_k1": "k1"}
_SEEDS = range(1, 6)


def import_official(
    dataset: Dataset, source: str | Path = TAILEDCORE_URL, *, reading: Reading = "overlap"
) -> list[Split]:
    """Return TailedCore's 15 published splits of a dataset, `mvtec_pareto_noisy10_official1` and so on.

    Every file is compared with its known hash, so what is imported is what was published, wherever it comes from.

    Args:
        dataset: "mvtec" or "visa"; a listing without images will do.
        source: URL or folder that holds `mvtecad-nlt` and `visa-nlt`, or a checkout of the authors' repository.
        reading: what becomes of contaminants in the test set; with another than the authors' `overlap` names end in it.

    Raises:
        UnknownNameError: nothing is published for that dataset.
        DataError: a file is missing, cannot be fetched or is not the published one, or names no image of the dataset.
    """
    if dataset.name not in _PUBLISHED:
        raise UnknownNameError("dataset with published splits", dataset.name, _PUBLISHED)
    return [_official(dataset, str(source), folder, seed, reading) for folder in _PROFILES for seed in _SEEDS]


def _official(dataset: Dataset, source: str, folder: str, seed: int, reading: Reading) -> Split:
    published, percent = _PUBLISHED[dataset.name]
    place = f"{published}/{folder}/seed{seed:02}"
    good = {f"{s.category}/{PurePosixPath(s.path).name}": s for s in dataset.train}
    removed = {_named(good, entry, place) for entry in _manifest(source, f"{place}/prune_good.txt")}
    defective = _injected_names(dataset)
    added = {_named(defective, entry, place) for entry in _manifest(source, f"{place}/inject_defects.txt")}
    recipe = {
        "profile": "official",
        "source": _PINNED["repository"],
        "commit": _PINNED["commit"],
        "published_as": place,
        "noise_percent": percent,
        "noise_rule": "tailedcore",
        **entries_of(reading),
    }
    train = {
        category: TrainImages(
            tuple(s.path for s in dataset.train_of(category) if s not in removed),
            tuple(s.path for s in dataset.test_of(category) if s in added),
        )
        for category in dataset.categories
    }
    name = f"{dataset.name}_{_PROFILES[folder]}_noisy{percent:02}_official{seed}{suffix_of(reading)}"
    return _split(name, dataset, recipe, seed, train, published_test(dataset, train))


def _injected_names(dataset: Dataset) -> dict[str, Sample]:
    """Return `<category>/<defect type>_<file>` -> defective sample; where two agree the longer defect type has it."""
    defective = sorted((s for s in dataset.test if s.is_anomalous), key=lambda s: (len(s.defect_type), s.path))
    return {f"{s.category}/{s.defect_type}_{PurePosixPath(s.path).name}": s for s in defective}


def _named(samples: Mapping[str, Sample], entry: str, place: str) -> Sample:
    """Return the sample that a manifest's line `<category>/train/good/<file>` means."""
    try:
        return samples[entry.replace("/train/good/", "/", 1)]
    except KeyError:
        raise DataError(
            f"Expected every image of {place} in the dataset, got none for {entry!r}. "
            "Compare the dataset with `ltbench datasets verify`."
        ) from None


def _manifest(source: str, file: str) -> list[str]:
    """Return the lines of a published file, from a URL or a folder, after comparing its hash."""
    content = _fetch(f"{source.rstrip('/')}/{file}") if source.startswith(("http://", "https://")) else None
    if content is None:
        checkout = Path(source) / _PINNED["folder"]
        folder = checkout if checkout.is_dir() else Path(source)
        try:
            content = (folder / file).read_bytes()
        except OSError as error:
            raise DataError(
                f"Expected TailedCore's manifest {folder / file}, got: {error.strerror}. Pass as --source the "
                "folder that holds mvtecad-nlt and visa-nlt, or a checkout of the repository."
            ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _PINNED["sha256"][file]:
        raise DataError(
            f"Expected {file} with sha256 {_PINNED['sha256'][file]}, got {digest} from {source}. Fetch it from "
            f"{_PINNED['repository']} at commit {_PINNED['commit']}."
        )
    return content.decode("ascii").split()


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as response:
            content: bytes = response.read()
            return content
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"Expected to fetch {url}, got: {error}. Try again with network access, or pass as --source a folder "
            f"with a copy of {_PINNED['repository']}/{_PINNED['folder']}."
        ) from error


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a list: an image and what it is for."""

    line: int
    role: str
    sample: Sample


def import_list(
    file: Path, dataset: Dataset, name: str, *, reading: Reading = "overlap", groups: GroupRule = "auto"
) -> Split:
    """Return the split that a list of images describes.

    The list is a csv with the header `role,path` and the roles `normal`, `contaminant` and `test`, or has one path a
    line: then a training image is normal and a defective test image a contaminant. Paths are relative to the dataset's
    root. The split has the categories that the list trains on. Without test rows it tests on all their published test
    images, contaminants included. By `tail20` categories with fewer than 20 normal images are low; where all fall
    on one side, the larger half is high.

    Args:
        file: the list.
        dataset: where its images are.
        name: of the split; it must not be the name of a recipe.
        reading: what becomes of contaminants in the test set.
        groups: which categories are high and which low; "auto" is LTAD's halves for lists called exp or step.

    Raises:
        SpecError: the name stands for a recipe, or is no safe file name, or `disjoint` leaves no defective test image.
        DataError: the list cannot be read, is empty, names an image that is not in the dataset, twice, or in a role
            that it cannot have.
    """
    check_name(name, "split")
    if is_recipe_name(name):
        raise SpecError(f"Expected a name that no recipe has, got {name!r}. Choose another, such as {name}_imported.")
    rows, digest = _read_list(file, dataset)
    _check_rows(file, rows, dataset)
    train = {c: TrainImages(_paths(rows, "normal", c), _paths(rows, "contaminant", c)) for c in dataset.categories}
    train = {category: images for category, images in train.items() if images.normal}
    if any(row.role == "test" for row in rows):
        test = {category: _paths(rows, "test", category) for category in train}
    else:
        test = published_test(dataset, train)
    recipe = {"profile": "list", "source": file.name, "source_sha256": digest, **entries_of(reading)}
    rule = rule_of(name, file.name) if groups == "auto" else groups
    if rule != "tail20":  # the rule of lists that were imported before there was another: their sha256 stays
        recipe["groups"] = rule
    return _split(name, dataset, recipe, 0, train, test, rule)


def _read_list(file: Path, dataset: Dataset) -> tuple[list[_Row], str]:
    """Return the rows of a list and the sha256 of the file."""
    try:
        content = content_of(file)
        rows = list(_rows(file, content.decode("utf-8-sig"), dataset))
    except OSError as error:
        raise DataError(f"Expected a list of images in {file}, got: {error.strerror}. Mend --from-list.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Expected a list of images in {file}, got no csv in UTF-8: {error}. Save it anew.") from error
    return rows, hashlib.sha256(content).hexdigest()


def _rows(file: Path, text: str, dataset: Dataset) -> Iterator[_Row]:
    """Yield the rows of a list; blank lines are passed over."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    has_roles = bool(lines) and [cell.strip() for cell in lines[0][1].split(",")] == ["role", "path"]
    identity = {dataset.files.get(path, path): path for path in dataset.by_path}
    for number, line in lines[1:] if has_roles else lines:
        cells = [cell.strip() for cell in next(csv.reader([line]))] if has_roles else ["", line.strip()]
        if len(cells) != 2 or (has_roles and cells[0] not in ROLES):
            raise DataError(
                f"Expected `role,path` in {file}, line {number}, got {line!r}. Roles are {', '.join(ROLES)}."
            )
        path = cells[1].removeprefix("./")
        sample = dataset.by_path.get(identity.get(path, path))
        if sample is None:
            raise DataError(
                f"Expected the path of an image of {dataset.name} in {file}, line {number}, got {path!r}. "
                "Mend the path, or name another dataset."
            )
        yield _Row(number, cells[0] or ("contaminant" if sample.is_anomalous else "normal"), sample)


def _check_rows(file: Path, rows: list[_Row], dataset: Dataset) -> None:
    """Raise `DataError` unless each image occurs once in a role that it can have, and each category is trained on."""
    if not any(row.role == "normal" for row in rows):
        raise DataError(f"Expected normal training images in {file}, got none. Add some.")
    part = {sample.path: "train" for sample in dataset.train} | {sample.path: "test" for sample in dataset.test}
    trained = {row.sample.category for row in rows if row.role == "normal"}
    tested = {row.sample.category for row in rows if row.role == "test"} or trained
    seen: set[tuple[bool, str]] = set()
    for row in rows:
        where = f"{file}, line {row.line}"
        wanted = "train" if row.role == "normal" else "test"
        if part[row.sample.path] != wanted or (row.role == "contaminant" and not row.sample.is_anomalous):
            kind = {"normal": "a training image", "contaminant": "a defective test image", "test": "a test image"}
            raise DataError(f"Expected {kind[row.role]} in {where}, got {row.sample.path!r}. Mend its role.")
        if (row.role == "test", row.sample.path) in seen:
            raise DataError(f"Expected each image once, got {row.sample.path!r} again in {where}. Remove the line.")
        seen.add((row.role == "test", row.sample.path))
        if row.sample.category not in trained & tested:
            lacking = "normal" if row.sample.category not in trained else "test"
            raise DataError(f"Expected {lacking} images of {row.sample.category!r} in {where}, got none. Add some.")


def _paths(rows: list[_Row], role: str, category: str) -> tuple[str, ...]:
    return tuple(sorted(r.sample.path for r in rows if r.role == role and r.sample.category == category))


def _split(
    name: str,
    dataset: Dataset,
    recipe: Mapping[str, Any],
    seed: int,
    train: Mapping[str, TrainImages],
    test: Mapping[str, tuple[str, ...]],
    groups: GroupRule = "tail20",
) -> Split:
    """Return a split whose head and tail follow from its counts, and whose test set from what its recipe says."""
    if recipe["disjoint"]:
        test = less_contaminants(dataset, test, train)
    high, low = groups_of({category: len(images.normal) for category, images in train.items()}, groups, "tail20")
    return Split(name, dataset.name, recipe, seed, high, low, train, test)
