"""Records on their way from one machine to another: bundles, and results folders that become one.

A bundle is a tar archive, compressed with zstd, of `bundle.json`, `runs/<run>/record.json` and the digests of the
images that the runs were on. It holds no images, maps or models. What comes in is checked before anything is written:
records against their checksums and hashes, image metrics against the scores.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ltbench.atomic import write_output, write_whole
from ltbench.errors import DataError, SpecError
from ltbench.records.record import RECORD, REMEDY, RunRecord, new_folder, read_record, stream_records
from ltbench.runs.bundles import NAME, Origin, check_digests, packed, unpacked
from ltbench.runs.claims import claimed
from ltbench.runs.provenance import FOLDER as DIGESTS
from ltbench.runs.verification import verify_run
from ltbench.system import writing

ORIGIN = "measured_by.json"
"""The file beside an imported record that says who measured it."""

SUFFIX = ".tar.zst"


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
    if not NAME.fullmatch(by) or not by.strip():
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
    write_output(out, packed(contents, by))
    return runs


def _refuse_damaged(results: Path, runs: Iterable[str]) -> None:
    for run in runs:
        found = verify_run(results, run, None)
        if not found.ok:
            raise DataError(
                f"Expected whole records, got run {run}: {found.faults[0]}. `ltbench runs verify` says more; remove it "
                f"with `ltbench runs rm {run}` or repeat it."
            )


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
        origin, runs = unpacked(bundle, folder)
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
        with claimed(results, run) as claim:  # another process may be doing that run
            if (target / RECORD).is_file():
                (known if _same(read_record(target), read_record(source / "runs" / run)) else conflicts).append(run)
                continue
            with new_folder(target) as temporary:
                shutil.copytree(
                    source / "runs" / run, temporary, dirs_exist_ok=True, symlinks=True, copy_function=_copy
                )
                if origin is not None:
                    write_whole(temporary / ORIGIN, (json.dumps(asdict(origin)) + "\n").encode())
                claim.check()
        added.append(run)
    for file in sorted((source / DIGESTS).glob("*.json")):
        target = results / DIGESTS / file.name
        if not target.exists() and _are_digests(file):
            with writing(target, REMEDY):
                write_whole(target, file.read_bytes())
    return Exchanged(tuple(added), tuple(known), tuple(conflicts), origin)


def _are_digests(file: Path) -> bool:
    """Return whether a file holds the digests that its name is the hash of; others word nothing and are left behind."""
    try:
        check_digests({file.stem: file.read_bytes()})
    except (ValueError, RecursionError):
        return False
    return True


def _copy(source: str, target: str) -> None:
    """Copy a file; what `copytree` would gather of all files, the first says."""
    with writing(Path(target), REMEDY):
        shutil.copy2(source, target)


def _same(one: RunRecord, other: RunRecord) -> bool:
    return dict(one.scores) == dict(other.scores) and one.metrics == other.metrics
