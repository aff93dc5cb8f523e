"""Names made of contents: one JSON text a value and its sha256, and paths that stay below their root."""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath

from ltbench.errors import DataError


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN. What is hashed is this text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(value: object) -> str:
    """Return the hexadecimal sha256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def check_relative(path: str) -> None:
    """Raise `DataError` unless `path` is a relative POSIX path that stays below its root."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts or ":" in parts[0]:
        raise DataError(f"Expected a path relative to the dataset root, got {path!r}. Remove '..' and leading slashes.")
