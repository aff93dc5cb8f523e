"""Bundles as files: a tar archive of records and digests, compressed with zstd, that says who measured."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard

from ltbench import __version__
from ltbench.core import sha256_of
from ltbench.errors import DataError
from ltbench.system import writing

MANIFEST = "bundle.json"
SCHEMA = 1
LARGEST_BUNDLE = 4 * 2**30
"""Bytes of all files of a bundle, which are held in memory."""

LARGEST = 256 * 2**20
"""Bytes of one file of a bundle: a record with the scores of a million images is smaller."""

_INSIDE = re.compile(r"runs/[0-9a-f]{16}/record\.json|digests/[0-9a-f]{64}\.json")

NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
"""What a measurer may call himself."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who measured a run, and how it came here.

    Args:
        by: the name that the measurer gave himself.
        bundle: the sha256 of the bundle's contents.
        created: when the bundle was made, ISO 8601, UTC.
        ltbench: the version that made it.
    """

    by: str
    bundle: str
    created: str
    ltbench: str


def packed(contents: Mapping[str, bytes], by: str) -> bytes:
    """Return a bundle.

    Args:
        contents: name in the bundle -> content of a JSON file.
        by: who measured.
    """
    manifest = {
        "schema": SCHEMA,
        "by": by,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "ltbench": __version__,
        "files": {name: sha256_of(content.decode()) for name, content in contents.items()},
    }
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in {MANIFEST: json.dumps(manifest, indent=1).encode(), **contents}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return zstandard.ZstdCompressor(level=10).compress(raw.getvalue())


def unpacked(bundle: Path, folder: Path) -> tuple[Origin, list[str]]:
    """Write the files of a bundle below a folder, with the contents that they were packed with."""
    contents = dict(_entries(bundle))
    try:
        manifest: dict[str, Any] = json.loads(contents.pop(MANIFEST))
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"schema {manifest['schema']!r}, and this ltbench reads {SCHEMA}")
        sums = {name: sha256_of(content.decode()) for name, content in contents.items()}
        if sums != manifest["files"]:
            changed = sorted(
                name for name in {*sums, *manifest["files"]} if sums.get(name) != manifest["files"].get(name)
            )
            raise ValueError(f"other contents than it was packed with ({changed[0]})")
        check_digests({Path(name).stem: content for name, content in contents.items() if name.startswith("digests/")})
        if not NAME.fullmatch(manifest["by"]):
            raise ValueError("no name of who measured")
        origin = Origin(manifest["by"], sha256_of(sums), str(manifest["created"]), str(manifest["ltbench"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"Expected a whole bundle in {bundle}, got {error}. Ask for it again.") from error
    for name, content in contents.items():
        with writing(folder / name, "Free some space there, or set TMPDIR to another folder."):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return origin, sorted(Path(name).parent.name for name in contents if name.startswith("runs/"))


def check_digests(files: Mapping[str, bytes]) -> None:
    """Raise `ValueError` if digests of images are not those of their name, which is the hash of them."""
    for name, content in files.items():
        if sha256_of(json.loads(content)) != name:
            raise ValueError(f"digests that are not those of their name ({name[:12]})")


def _entries(bundle: Path) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    total = 0
    try:
        with (
            bundle.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file) as raw,
            tarfile.open(fileobj=raw, mode="r|") as archive,
        ):
            for entry in archive:
                name = entry.name
                if not entry.isreg() or name in seen or not (name == MANIFEST or _INSIDE.fullmatch(name)):
                    raise ValueError(f"the entry {name!r}, which no bundle has")
                if entry.size > LARGEST:
                    raise ValueError(f"{name} of {entry.size:,} bytes, beyond {LARGEST:,}")
                total += entry.size
                if total > LARGEST_BUNDLE:
                    raise ValueError(f"more than {LARGEST_BUNDLE:,} bytes")
                content = archive.extractfile(entry)
                assert content is not None
                seen.add(name)
                yield name, content.read()
    except (OSError, tarfile.TarError, zstandard.ZstdError, ValueError, EOFError) as error:
        raise DataError(f"Expected a bundle in {bundle}, got {error}. Ask for it again.") from error
