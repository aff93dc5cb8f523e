"""`ltbench runs bundle`, `import` and `merge`: records on their way from one machine to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import DEFAULT_RESULTS, AsJson, Methods, Results

Datasets = Annotated[list[str] | None, typer.Option("--dataset", help="Only this dataset; repeat for more.")]


def bundle(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: *.tar.zst.")],
    by: Annotated[str, typer.Option(metavar="NAME", help="Who measured, as boards print it.")],
    dataset: Datasets = None,
    method: Methods = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Pack records, their scores and digests into one file for others; no images, maps or models.

    Examples:
      ltbench runs bundle --dataset mvtec --by "A lab" --out bundle.tar.zst
    """
    from ltbench.console.output import print_json, say
    from ltbench.runs.exchange import write_bundle

    runs = write_bundle(results, out, by, dataset or (), method or ())
    if as_json:
        print_json({"file": str(out), "runs": runs})
    else:
        say(f"{out}: {len(runs)} runs, {out.stat().st_size / 2**10:,.0f} KiB")


def import_runs(
    bundle: Annotated[Path, typer.Argument(help="What `ltbench runs bundle` wrote.")],
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Check the records of a bundle and add them: hashes, checksums, and image metrics against the scores.

    A bundle with one record that was edited is refused whole. A run that is here with other numbers stays, is named,
    and makes the exit code 1.

    Examples:
      ltbench runs import bundle.tar.zst --results theirs
    """
    from ltbench.console.records import print_exchanged
    from ltbench.runs.exchange import import_bundle

    found = import_bundle(bundle, results)
    print_exchanged(found, as_json)
    raise typer.Exit(1 if found.conflicts else 0)


def merge(
    source: Annotated[Path, typer.Argument(help="Another results folder.")],
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Add the runs of another results folder, with their maps and models; checked as an import is.

    Examples:
      ltbench runs merge /scratch/node2/results --results results
    """
    from ltbench.console.records import print_exchanged
    from ltbench.runs.exchange import merge_results

    found = merge_results(source, results)
    print_exchanged(found, as_json)
    raise typer.Exit(1 if found.conflicts else 0)
