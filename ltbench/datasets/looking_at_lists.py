"""A csv beside images that says what each shows: which of its columns is which."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltbench.datasets.decode import is_image_name
from ltbench.datasets.words import role_of

COLUMNS: Mapping[str, frozenset[str]] = {
    column: frozenset(words.split())
    for column, words in {
        "path": "path image image_path file file_name filename filepath img",
        "label": "label class target anomaly anomaly_class is_anomaly defect defect_type status",
        "mask": "mask mask_path mask_file ground_truth gt",
        "category": "category object object_name product type part_name",
        "part": "split subset part set partition",
    }.items()
}
"""Column of a `Listing` -> words for it, in lower case."""

_GOOD_VALUES = frozenset(("0", "false", "no"))


def list_keys(folder: Path) -> dict[str, Any] | None:
    """Return the description of the first csv in a folder that lists images which are there, or None.

    Good are labels by a word for it, or 0.
    """
    for file in sorted(folder.glob("*.csv")):
        try:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.DictReader(stream)
                columns = _columns(reader.fieldnames or ())
                rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error):
            continue
        if {"path", "label"} <= set(columns) and any(_is_there(folder, row[columns["path"]]) for row in rows):
            return _keys(folder, file, columns, rows)
    return None


def _columns(names: Sequence[str]) -> dict[str, str]:
    """Return which column of a csv stands for which column of a listing."""
    found: dict[str, str] = {}
    for column, words in COLUMNS.items():
        for name in names:
            if name.strip().lower().replace(" ", "_") in words and name not in found.values():
                found.setdefault(column, name)
    return found


def _is_there(folder: Path, path: str | None) -> bool:
    return bool(path) and is_image_name(str(path)) and (folder / str(path)).is_file()


def _keys(folder: Path, file: Path, columns: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    labels = sorted({(row[columns["label"]] or "").strip() for row in rows})
    good = [label for label in labels if role_of(label) == "good" or label.lower() in _GOOD_VALUES]
    keys: dict[str, Any] = {"listed": {"file": file.name} | dict(columns), "good": good or ["good"]}
    if "category" not in columns:
        keys["category"] = folder.resolve().name
    if "part" not in columns:
        keys["hold_out"] = 0.2
    return keys
