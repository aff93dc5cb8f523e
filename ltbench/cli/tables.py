"""`ltbench table`: runs as comparison tables."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from ltbench.cli.options import DEFAULT_RESULTS, Results


def table(
    results: Results = DEFAULT_RESULTS,
    dataset: Annotated[str | None, typer.Option(help="Only splits of this dataset.")] = None,
    split: Annotated[list[str] | None, typer.Option("--split", "-s", help="Only this split; repeat for more.")] = None,
    metric: Annotated[str, typer.Option(help="Metric ids, separated by commas.")] = "image_auroc,pixel_auroc",
    group: Annotated[Literal["avg", "high", "low", "all"], typer.Option(help="Which mean over categories.")] = "avg",
    form: Annotated[Literal["markdown", "latex", "csv"], typer.Option("--format", help="How to print.")] = "markdown",
) -> None:
    """Print the comparison table of all finished runs: methods by splits.

    Examples:
      ltbench table --dataset mvtec --group all

      ltbench table -s mvtec_step100 --metric image_auroc,pixel_aupro_30 --format latex > table.tex
    """
    from ltbench.records import read_records
    from ltbench.render import render
    from ltbench.tables import make_table

    records, problems = read_records(results)
    for problem in problems:
        print(f"ltbench: left out: {problem}", file=sys.stderr)
    metrics = [name.strip() for name in metric.split(",") if name.strip()]
    made = make_table(records, dataset=dataset, splits=split or (), metrics=metrics, group=group)
    print(render(made, form), end="")
