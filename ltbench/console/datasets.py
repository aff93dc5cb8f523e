"""Datasets and verifications of folders."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.prompt import Confirm
from rich.table import Table

from ltbench.console.output import escape, new_table, open_console, print_json, say, tell
from ltbench.datasets.archives.facts import Offer
from ltbench.datasets.archives.get import Got
from ltbench.datasets.description import FILE_NAME
from ltbench.datasets.index import DatasetSource
from ltbench.datasets.looking import Sight, told_of
from ltbench.datasets.scan import Scan
from ltbench.datasets.verify import Verification
from ltbench.errors import SpecError

_KINDS = ("missing", "extra", "unreadable", "miscounted", "graded", "empty")


def print_datasets(sources: Iterable[DatasetSource], as_json: bool) -> None:
    """Print what is known of each dataset."""
    if as_json:
        names = ("name", "title", "licence", "citation", "homepage", "layout")
        print_json({source.name: {name: getattr(source, name) for name in names} for source in sources})
        return
    console = open_console()
    for source in sources:
        table = Table.grid(padding=(0, 2))
        for label, text in (
            ("licence", source.licence),
            ("cite", source.citation),
            ("from", source.homepage),
            ("layout", source.layout),
        ):
            table.add_row(f"  {label}", "\n".join(map(escape, text.splitlines())))
        console.print(f"[bold]{escape(source.name)}[/bold]  {escape(source.title)}")
        console.print(table)
    console.print("\nAny folder of your own is a dataset too: `ltbench datasets describe FOLDER` looks at it.")


def print_sight(sight: Sight, out: Path | None, as_json: bool) -> bool:
    """Print what a folder looks like; return whether splits can be made of it.

    Args:
        sight: what was seen.
        out: where its description was written, or None.
        as_json: print one JSON object.
    """
    counts, refused = _seen(sight.scan), told_of(sight)
    odd = {
        "odd files": [*sight.scan.strays, *sight.scan.outside],
        "masks without a defective image": sight.scan.idle_masks,
        "defective images without their mask": sorted(sight.scan.unmasked),
        "files that are not there": sight.scan.missing,
    }
    if as_json:
        print_json(
            {
                "folder": str(sight.folder),
                "description": dict(sight.keys),
                "categories": counts,
                "written": str(out or ""),
            }
            | {"notes": list(sight.notes), "refused": refused, "is_plain": sight.is_plain}
            | {what.replace(" ", "_"): list(files) for what, files in odd.items()}
        )
        return not refused
    for line in sight.description.layout.splitlines():
        say(line)
    table = new_table("category", "train", "good test", "defective test", "with mask", "left out")
    for category, own in counts.items():
        table.add_row(escape(category), *map(str, own.values()))
    open_console().print(table)
    for what, files in odd.items():
        if files:
            say(f"{what}: {len(files)}, {files[0]} the first")
    for note in sight.notes:
        say(note)
    say(_next_step(sight, out, refused))
    return not refused


def _seen(scan: Scan) -> dict[str, dict[str, int]]:
    """Return category -> images by what they are for; `left_out` are defective images among those that train."""
    counts = {
        c: dict.fromkeys(("train", "good_test", "defective_test", "with_mask", "left_out"), 0) for c in scan.categories
    }
    for sample in scan.train:
        counts[sample.category]["train"] += 1
    for sample in scan.test:
        counts[sample.category]["defective_test" if sample.is_anomalous else "good_test"] += 1
        counts[sample.category]["with_mask"] += sample.mask is not None
    for sample in scan.left_out:
        counts[sample.category]["left_out"] += 1
    return counts


def _next_step(sight: Sight, out: Path | None, refused: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", sight.description.name).strip("_.-") or "mine"
    place = out if out is not None and out.name != FILE_NAME else sight.folder
    make = f"ltbench make-splits --folder {shlex.quote(str(place))} --name {shlex.quote(name)}"
    if refused:
        return f"Not yet a dataset: {refused}"
    if out is not None:
        return f"Wrote {out}. Next: {make}"
    if sight.is_plain:
        return f"It has MVTec AD's layout and needs no description. Next: {make}"
    return f"Write this down with --out {shlex.quote(str(sight.folder / FILE_NAME))}; then {make}"


def agree(source: DatasetSource, offer: Offer, *, accepted: bool, may_ask: bool) -> None:
    """Show a dataset's licence, and make sure of the user's agreement to it.

    Raises:
        SpecError: there is none, and nobody to ask, or the answer is no.
    """
    licence = source.licence + (f", {offer.terms}" if offer.terms else "")
    tell(f"{source.title}: {licence}")
    tell(f"cite: {source.citation}")
    is_person = may_ask and sys.stdin.isatty() and sys.stderr.isatty()
    if not accepted and is_person:
        accepted = Confirm.ask("Do you agree to this licence?", console=open_console(stderr=True), default=False)
    if not accepted:
        raise SpecError(
            f"Expected agreement to the licence of {source.title} ({licence}), got none. Read it, and add "
            "--accept-licence."
        )


def print_got(name: str, got: Got, as_json: bool) -> None:
    """Print where a dataset is, what gave it, and what is wrong with it."""
    archives = [{"file": one.file.name, "url": one.url} for one in got.fetched]
    if as_json:
        print_json(_verification(name, got.root, got.verification) | {"archives": archives})
        return
    for one in archives:
        say(f"{one['file']}: {one['url'] or 'your own'}")
    if not archives:
        say(f"{name} was there already")
    print_verification(name, got.root, got.verification, as_json)


def print_verification(name: str, root: Path, verification: Verification, as_json: bool) -> None:
    """Print the files that are missing, extra or unreadable."""
    if as_json:
        print_json(_verification(name, root, verification))
        return
    files = {kind: getattr(verification, kind) for kind in _KINDS}
    for kind in _KINDS:
        for file in files[kind]:
            say(f"{kind}: {file}")
    counts = ", ".join(f"{len(files[kind])} {kind}" for kind in _KINDS if files[kind])
    say(f"{name} in {root}: {counts or 'complete'}")


def _verification(name: str, root: Path, verification: Verification) -> dict[str, Any]:
    files = {kind: list(getattr(verification, kind)) for kind in _KINDS}
    return {"dataset": name, "root": str(root), "ok": verification.ok, **files}
