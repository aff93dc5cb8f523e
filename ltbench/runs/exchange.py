"""Records on their way from one machine to another: bundles, and results folders that become one.

A bundle is a tar archive, compressed with zstd, of `bundle.json`, `runs/<run>/record.json` and the digests of the
images that the runs were on. It holds no images, maps or models. What comes in is checked before anything is written:
records against their checksums and hashes, image metrics against the scores.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import zstandard

from ltbench import __version__
from ltbench.atomic import write_output, write_whole
from ltbench.core import sha256_of
from ltbench.errors import DataError, SpecError
from ltbench.records.record import RECORD, REMEDY, RunRecord, new_folder, read_record, stream_records
from ltbench.runs.provenance import FOLDER as DIGESTS
from ltbench.runs.verification import verify_run
from ltbench.system import writing

MANIFEST = "bundle.json"
SCHEMA = 1
SUFFIX = ".tar.zst"
ORIGIN = "measured_by.json"
"""The file beside an imported record that says who measured it."""

LARGEST = 256 * 2**20
"""Bytes of one file of a bundle: a record with the scores of a million images is smaller."""

_INSIDE = re.compile(r"runs/[0-9a-f]{16}/record\.json|digests/[0-9a-f]{64}\.json")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


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


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What an import or a merge did.

    Args:
        added: runs that are new here.
        known: runs that were here already, with the same numbers.
        conflicts: runs that are here with other numbers, which stay.
        origin: who measured what was imported, or None of a merge.
    """

    added: tuple[str, ...]
    known: tuple[str, ...]
    conflicts: tuple[str, ...]
    origin: Origin | None = None


def write_bundle(
    results: Path, out: Path, by: str, datasets: Iterable[str] = (), methods: Iterable[str] = ()
) -> list[str]:
    """Write the records of a results folder into a bundle, and return their runs.

    Args:
        results: the results folder.
        out: the bundle's file, `.tar.zst`.
        by: who measured, as boards print it.
        datasets: names of datasets, or none for all.
        methods: names of methods, or none for all.

    Raises:
        SpecError: a file of another suffix, a name that is none, or no run to bundle.
        DataError: a record cannot be read or is damaged; the file cannot be written.
    """
    if not out.name.endswith(SUFFIX):
        raise SpecError(f"Expected a bundle named *{SUFFIX}, got {out.name}. Mend --out.")
    if not _NAME.fullmatch(by) or not by.strip():
        raise SpecError(f"Expected a name of up to 100 printable characters, got {by!r}. Mend --by.")
    wanted, of = set(datasets), set(methods)
    problems: list[str] = []
    runs = [
        record.spec.hash
        for record in stream_records(results, problems)
        if (not wanted or record.dataset in wanted) and (not of or record.spec.method in of)
    ]
    if problems:
        raise DataError(f"{problems[0]} A bundle leaves nothing out in silence.")
    if not runs:
        raise SpecError(f"Expected finished runs to bundle in {results}, got none. Mend --results or the filters.")
    _refuse_damaged(results, runs)
    files = {f"runs/{run}/{RECORD}": results / "runs" / run / RECORD for run in runs}
    images = {(read_record(results / "runs" / run).provenance or {}).get("images", "") for run in runs}
    digests = (results / DIGESTS / f"{name}.json" for name in sorted(images) if name)
    files |= {f"digests/{file.name}": file for file in digests if file.is_file()}
    contents = {name: file.read_bytes() for name, file in files.items()}
    write_output(out, _packed(contents, by))
    return runs


def _refuse_damaged(results: Path, runs: Iterable[str]) -> None:
    for run in runs:
        found = verify_run(results, run, None)
        if not found.ok:
            raise DataError(
                f"Expected whole records, got run {run}: {found.faults[0]}. `ltbench runs verify` says more; remove it "
                f"with `ltbench runs rm {run}` or repeat it."
            )


def _packed(contents: Mapping[str, bytes], by: str) -> bytes:
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


def import_bundle(bundle: Path, results: Path) -> Exchanged:
    """Check every record of a bundle, then add those that are not here yet.

    Args:
        bundle: the file.
        results: the results folder.

    Raises:
        DataError: it is no bundle, was edited, or holds a record whose metrics do not follow from its scores.
        LtbenchError: the results folder cannot be written to.
    """
    with TemporaryDirectory(prefix="ltbench-import-") as place:
        folder = Path(place)
        origin, runs = _unpack(bundle, folder)
        for run in runs:
            found = verify_run(folder, run, None)
            if not found.ok:
                raise DataError(
                    f"Expected what run {run} measured in {bundle}, got a record that was edited or is damaged: "
                    f"{found.faults[0]}. Ask {origin.by} for it again."
                )
        return _merge(folder, runs, results, origin)


def merge_results(source: Path, results: Path) -> Exchanged:
    """Add the runs of another results folder that are not here yet, with their maps and models.

    Raises:
        DataError: no results folder, or a record in it that is damaged.
        LtbenchError: the results folder cannot be written to.
    """
    if not (source / "runs").is_dir():
        raise DataError(f"Expected a results folder with runs/, got {source}. Mend the path.")
    if source.resolve() == results.resolve():
        raise SpecError(f"Expected another results folder than {results}, got the same. Mend the path or --results.")
    problems: list[str] = []
    runs = [record.spec.hash for record in stream_records(source, problems)]
    if problems:
        raise DataError(problems[0])
    _refuse_damaged(source, runs)
    return _merge(source, runs, results, None)


def origin_of(results: Path, run: str) -> Origin | None:
    """Return who measured an imported run, or None of a run that was done here."""
    file = results / "runs" / run / ORIGIN
    if not file.is_file():
        return None
    try:
        return Origin(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"Expected who measured run {run} in {file}, got {error}. Import its bundle again.") from error


def _merge(source: Path, runs: Iterable[str], results: Path, origin: Origin | None) -> Exchanged:
    added: list[str] = []
    known: list[str] = []
    conflicts: list[str] = []
    for run in runs:
        target = results / "runs" / run
        if (target / RECORD).is_file():
            (known if _same(read_record(target), read_record(source / "runs" / run)) else conflicts).append(run)
            continue
        with new_folder(target) as temporary:
            shutil.copytree(source / "runs" / run, temporary, dirs_exist_ok=True, symlinks=True, copy_function=_copy)
            if origin is not None:
                write_whole(temporary / ORIGIN, (json.dumps(asdict(origin)) + "\n").encode())
        added.append(run)
    for file in sorted((source / DIGESTS).glob("*.json")):
        if not (target := results / DIGESTS / file.name).exists():
            with writing(target, REMEDY):
                write_whole(target, file.read_bytes())
    return Exchanged(tuple(added), tuple(known), tuple(conflicts), origin)


def _copy(source: str, target: str) -> None:
    """Copy a file; what `copytree` would gather of all files, the first says."""
    with writing(Path(target), REMEDY):
        shutil.copy2(source, target)


def _same(one: RunRecord, other: RunRecord) -> bool:
    return dict(one.scores) == dict(other.scores) and one.metrics == other.metrics


def _unpack(bundle: Path, folder: Path) -> tuple[Origin, list[str]]:
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
        if not _NAME.fullmatch(manifest["by"]):
            raise ValueError("no name of who measured")
        origin = Origin(manifest["by"], sha256_of(sums), str(manifest["created"]), str(manifest["ltbench"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"Expected a whole bundle in {bundle}, got {error}. Ask for it again.") from error
    for name, content in contents.items():
        with writing(folder / name, "Free some space there, or set TMPDIR to another folder."):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return origin, sorted(Path(name).parent.name for name in contents if name.startswith("runs/"))


def _entries(bundle: Path) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
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
                content = archive.extractfile(entry)
                assert content is not None
                seen.add(name)
                yield name, content.read()
    except (OSError, tarfile.TarError, zstandard.ZstdError, ValueError, EOFError) as error:
        raise DataError(f"Expected a bundle in {bundle}, got {error}. Ask for it again.") from error
