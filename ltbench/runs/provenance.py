"""What the numbers of a run are of: its images and masks, files of weights, and the method's code."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltbench.core import Dataset, Split
from ltbench.datasets.digests import digests_of, split_files
from ltbench.errors import SpecError
from ltbench.method import Method
from ltbench.records.record import RunRecord

SOURCES = (".py", ".yaml")


def provenance(method: type[Method], values: Mapping[str, Any], split: Split, dataset: Dataset) -> dict[str, Any]:
    """Return the digests that a record keeps: of images and masks, of files that hyper-parameters name, of the code."""
    files = split_files(dataset, split)
    named = {name: Path(value) for name, value in values.items() if isinstance(value, str) and Path(value).is_file()}
    digests = digests_of([*files.values(), *(file.absolute() for file in named.values())])
    return {
        "images": {path: digests[file] for path, file in files.items()},
        "weights": {name: digests[file.absolute()] for name, file in named.items()},
        "source": source_digest(method),
    }


def source_digest(method: type[Method]) -> str:
    """Return the sha256 of the files of a method's package, or of its module where it is in none."""
    module = sys.modules[method.__module__]
    if module.__file__ is None:
        return ""
    own = Path(module.__file__)
    files = sorted(file for file in own.parent.rglob("*") if file.suffix in SOURCES) if module.__package__ else [own]
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(own.parent).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what changed since a run, in words, or "" if nothing did."""
    images = sorted(path for path, text in now["images"].items() if before["images"].get(path) != text)
    parts = [f"{len(images)} images or masks changed, {images[0]} first"] if images else []
    if before["weights"] != now["weights"]:
        parts.append("a file of weights changed")
    if before["source"] != now["source"]:
        parts.append("the method's code changed")
    return "; ".join(parts)


def refuse_stale(
    record: RunRecord, method: type[Method], values: Mapping[str, Any], split: Split, dataset: Dataset
) -> None:
    """Raise `SpecError` if images, weights or code have changed since a run; one without digests is let through."""
    if record.provenance is None:
        return
    if changed := what_changed(record.provenance, provenance(method, values, split, dataset)):
        raise SpecError(f"Expected run {record.spec.hash} as it was, got: {changed} since. --force repeats it.")
