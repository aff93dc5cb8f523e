"""Datasets and verifications of folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from ltbench.console.output import open_console, print_json
from ltbench.datasets.index import DatasetSource
from ltbench.datasets.verify import Verification


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


def print_verification(name: str, root: Path, verification: Verification, as_json: bool) -> None:
    """Print the files that are missing, extra or unreadable."""
    kinds = ("missing", "extra", "unreadable", "miscounted", "graded", "empty")
    files = {kind: list(getattr(verification, kind)) for kind in kinds}
    if as_json:
        print_json({"dataset": name, "root": str(root), "ok": verification.ok, **files})
        return
    for kind in kinds:
        for file in files[kind]:
            print(f"{kind}: {file}")
    counts = ", ".join(f"{len(files[kind])} {kind}" for kind in kinds if files[kind])
    print(f"{name} in {root}: {counts or 'complete'}")
