"""`ltbench report` and `ltbench board`: everything on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import DEFAULT_RESULTS, DataRoot, Results


def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write index.html to.")] = Path("site"),
    title: Annotated[str, typer.Option(help="The page's heading.")] = "ltbench report",
    dataset: Annotated[list[str] | None, typer.Option(help="Only runs on this dataset; repeat for more.")] = None,
    heatmaps: Annotated[
        bool, typer.Option("--heatmaps/--no-heatmaps", help="Show test images under the maps that runs kept.")
    ] = True,
    data_root: DataRoot = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write one self-contained HTML page: leaderboard, published tables, figures, heat maps, provenance.

    The page asks the network for nothing. Mind the licence of the images before you publish heat maps.

    Examples:
      ltbench report --out site

      ltbench report --dataset mvtec --dataset visa --no-heatmaps --title "Long tails" --out site
    """
    from ltbench.console.output import say
    from ltbench.console.records import print_problems
    from ltbench.records.record import stream_records
    from ltbench.report.page import make_page, write_page
    from ltbench.sweeps.gaps import failed_cells

    problems: list[str] = []
    records = [own for own in stream_records(results, problems) if not dataset or own.dataset in dataset]
    print_problems(problems)
    reasons = failed_cells(results)
    page = make_page(records, results, data_root=data_root, title=title, heatmaps=heatmaps, reasons=reasons)
    say(write_page(page, out))


def board(
    context: typer.Context,
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="What `ltbench runs bundle` wrote; without any, the runs of --results.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write index.html to.")] = Path("board"),
    title: Annotated[str, typer.Option(help="The page's heading.")] = "ltbench board",
    by: Annotated[
        str, typer.Option(metavar="NAME", help="Who measured the runs of --results that were not imported.")
    ] = "this results folder",
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write what several have measured as one page: a leaderboard a training set and protocol.

    Each number tells who measured it, on what, the published number and the difference. Bundles are checked as
    `ltbench runs import` checks them, and nothing is added to a results folder. Beside bundles, --results counts only
    where it stands on the command line.

    Examples:
      ltbench board a-lab.tar.zst another.tar.zst --out board

      ltbench board --results theirs --by "Our lab" --title "Long tails" --out board
    """
    from ltbench.console.output import say
    from ltbench.report.board import make_board
    from ltbench.report.contributions import contributions
    from ltbench.report.page import write_page

    source = context.get_parameter_source("results")
    is_told = source is not None and source.name == "COMMANDLINE"  # typer has a click of its own
    found = contributions(bundles or [], results if is_told or not bundles else None, by)
    say(write_page(make_board(found, title), out))
