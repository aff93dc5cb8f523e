"""Datasets and verifications of folders."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.prompt import Confirm
from rich.table import Table

from ltbench.console.output import escape, open_console, print_json, say, tell
from ltbench.datasets.archives.facts import Offer
from ltbench.datasets.archives.get import Got
from ltbench.datasets.index import DatasetSource
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
            table.add_row(f"  {label}", escape(text))
        console.print(f"[bold]{escape(source.name)}[/bold]  {escape(source.title)}")
        console.print(table)
    console.print("\nAny other folder in MVTec layout is a dataset too: pass its parent as --data-root.")


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
