"""A dataset whose images are listed in a file, with labels and masks: csv, or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ltbench.core import GOOD, Sample, check_relative
from ltbench.datasets.description import Description, Listing
from ltbench.datasets.scan import Part, Scan, parted
from ltbench.datasets.verify import images_below
from ltbench.errors import DataError, LtbenchError

PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a list; paths are relative to the folder of the images."""

    part: Part
    sample: Sample


def scan_list(root: Path, description: Description) -> Scan:
    """Return what the list of a description names, and which of it is there.

    Raises:
        DataError: the list is missing or cannot be read.
    """
    listed = description.listed
    assert listed is not None
    rows = [row for file in list_files(root, description, listed.file) for row in read_rows(file, description)]
    base = image_base(root, description)
    categories = description.categories or tuple(sorted({row.sample.category for row in rows}))
    scan = parted(((row.part, row.sample) for row in rows), categories, description.hold_out)
    paths = [path for s in scan.samples for path in (s.path, s.mask) if path is not None]
    of_category = bool(description.categories) and listed.below == "{category}"
    folders = description.categories if of_category else ("",)
    named = set(paths)
    present = [path for path in images_below(base, folders) if not any(p.holds(path) for p in description.ignored)]
    have = {sample.category for sample in scan.samples if sample.mask is not None}
    bare = [s for s in scan.samples if s.is_anomalous and s.mask is None and s.category in have]
    prefix = base.relative_to(root).as_posix()
    before = "" if prefix == "." else f"{prefix}/"
    return replace(
        scan,
        unmasked={
            before + s.path: f"{listed.file[0].replace('{category}', s.category)}, column {listed.mask!r}, {s.path}"
            for s in bare
        },
        outside=tuple(before + path for path in present if path not in named),
        missing=tuple(sorted(before + path for path in named - {*present} if not (base / path).exists())),
        files={path: before + path for path in paths} if before else {},
    )


def image_base(root: Path, description: Description) -> Path:
    """Return the folder to which the images' paths are relative: the first of the bases that is there."""
    if not description.bases:
        return root
    found = next((root / base for base in description.bases if (root / base).is_dir()), None)
    if found is None:
        raise DataError(
            f"Expected one of the folders {', '.join(description.bases)} in {root}, got none. Unpack it there."
        )
    return found


def list_files(root: Path, description: Description, places: tuple[str, ...]) -> list[Path]:
    """Return the files of a list: one, or one a category.

    Args:
        root: the dataset's root.
        description: its categories.
        places: where it lies, `{category}` allowed; of several places the first that is there.

    Raises:
        DataError: a file is in none of the places.
    """
    found = []
    by_category = any("{category}" in place for place in places)
    for category in description.categories if by_category else ("",):
        own = [root / place.replace("{category}", category) for place in places]
        file = next((file for file in own if file.is_file()), None)
        if file is None:
            raise DataError(f"Expected the list {own[0]}, got no such file. Copy it there, or mend `listed`.")
        found.append(file)
    return found


def read_rows(file: Path, description: Description) -> list[Row]:
    """Return the rows of a list.

    Raises:
        DataError: it cannot be read, lacks a column, names a path outside the root, or an image twice.
    """
    listed = description.listed
    assert listed is not None
    rows: dict[str, Row] = {}
    for where, part, values in _raw(file, listed):
        try:
            row = _row(values, part, description, listed)
        except LtbenchError as error:
            raise DataError(f"In {file}, {where}: {error}") from None
        if row.sample.path in rows:
            raise DataError(f"Expected each image once in {file}, got {row.sample.path} twice. Remove one.")
        rows[row.sample.path] = row
    return list(rows.values())


def _raw(file: Path, listed: Listing) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
    """Yield (place in the file, part or None, values) of each row."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() != ".json":
            yield from _csv_rows(file, text, listed)
            return
        content = json.loads(text)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"Expected a list of images in {file}, got: {error}. Copy it anew.") from error
    for part in PARTS[:2]:
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"Expected rows under {part!r} in {file}, got none. Copy it anew.")
        for number, row in enumerate(rows):
            yield f"{part}, row {number}", part, row


def _csv_rows(file: Path, text: str, listed: Listing) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines())
    columns = reader.fieldnames or ()
    for column in (listed.path, listed.label):
        if column not in columns:
            raise DataError(f"Expected the column {column!r} in {file}, got {', '.join(columns)}. Mend its first line.")
    for row in reader:
        part = row.get(listed.part) if listed.part in columns else None
        yield f"line {reader.line_num}", part, row


def _row(values: Mapping[str, Any], part: str | None, description: Description, listed: Listing) -> Row:
    text = {
        name: "" if (value := values.get(column)) is None else str(value).strip()
        for name, column in (("path", listed.path), ("label", listed.label), ("mask", listed.mask))
    }
    category = str(values.get(listed.category) or description.one_category)
    if not text["path"] or not text["label"]:
        raise DataError(f"Expected {listed.path!r} and {listed.label!r} of an image, got {dict(values)}. Mend it.")
    if part is not None and part not in PARTS[:2]:
        raise DataError(f"Expected train or test as {listed.part!r}, got {part!r}. Mend it.")
    if description.categories and category not in description.categories:
        raise DataError(f"Expected a category of {', '.join(description.categories)}, got {category!r}. Mend it.")
    paths = {name: f"{_below(listed, category)}{text[name]}" for name in ("path", "mask") if text[name]}
    for path in paths.values():
        check_relative(path)
    is_good = text["label"] in description.good
    label, mask = (GOOD, None) if is_good else (text["label"], paths.get("mask"))
    parts: dict[str | None, Part] = {"train": "train", "test": "test", None: "images"}
    return Row(parts[part], Sample(paths["path"], category, label, mask))


def _below(listed: Listing, category: str) -> str:
    return f"{listed.below.replace('{category}', category)}/" if listed.below else ""
