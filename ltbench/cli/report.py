"""`ltbench report`: everything on one page."""

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
