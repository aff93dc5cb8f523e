"""`ltbench table` and `ltbench compare`: runs as tables, and beside what papers print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ltbench.cli.options import DEFAULT_RESULTS, AsJson, Results

METRICS = "image_auroc,pixel_auroc"
"""`tabulation.METRICS`, without importing what tabulates."""


def complete_layouts(incomplete: str) -> list[str]:
    """Return the names of published tables that begin with what was typed."""
    from ltbench.tables.layouts import layouts

    return [name for name in layouts() if name.startswith(incomplete)]


def table(
    results: Results = DEFAULT_RESULTS,
    paper: Annotated[
        str | None,
        typer.Option(help="Layout of a published table (ltad-3, tailedcore-1).", autocompletion=complete_layouts),
    ] = None,
    published: Annotated[
        Literal["beside", "below", "off"], typer.Option(help="Where the paper's numbers stand, with --paper.")
    ] = "beside",
    dataset: Annotated[
        str | None, typer.Option(help="Only splits of this dataset; with --paper, in place of the paper's.")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", "-s", help="Only this split; repeat for more. With --paper, in place of the paper's."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help=f"Metric ids, separated by commas; {METRICS} by default. Also fit_seconds, predict_seconds and "
            "peak_memory_mib. With --paper, in place of the paper's."
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="Means over categories, separated by commas: avg (the default), high, low, all three, or ranges of "
            "normal training images: 1-5,6-20,21-. With --paper, in place of the paper's."
        ),
    ] = None,
    significance: Annotated[
        bool, typer.Option("--significance", help="Bold is all that a paired test cannot tell from the best.")
    ] = False,
    digits: Annotated[int, typer.Option(min=0, max=10, help="Decimals of percentages; a CSV has four.")] = 2,
    no_std: Annotated[bool, typer.Option("--no-std", help="Leave out ±.")] = False,
    sort: Annotated[
        str | None,
        typer.Option(help="Sort rows: method, or words that name a column, the best first (mvtec_step100,low)."),
    ] = None,
    transpose: Annotated[bool, typer.Option("--transpose", help="Methods as columns, splits as rows.")] = False,
    per: Annotated[
        Literal["metric", "split"] | None,
        typer.Option(help="A table a metric or a split; without, LaTeX is split where it would be too wide."),
    ] = None,
    form: Annotated[
        Literal["text", "markdown", "latex", "csv", "html"] | None,
        typer.Option(
            "--format", help="How to print; text on a terminal, else Markdown, or what the suffix of --out says."
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            min=40,
            help="Points of a LaTeX document's text (345 in article, 397 at NeurIPS, 496 at CVPR; 345 by default), or "
            "columns of text.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write to this file: .md, .tex, .csv, .html or .txt.")
    ] = None,
) -> None:
    """Print the comparison table of all finished runs, or a published table with our numbers beside the paper's.

    Examples:
      ltbench table --dataset mvtec --group all

      ltbench table -s mvtec_step100 --metric image_auroc,pixel_aupro_30 --out table.tex --no-std --digits 1

      ltbench table --metric image_auroc,fit_seconds,peak_memory_mib --group high,low,1-5,6-20,21- --per split

      ltbench table --dataset visa --sort visa_exp100,low --transpose

      ltbench table --paper ltad-3 --published below --significance

      ltbench table --paper tailedcore-1 --dataset parts --metric image_auroc,pixel_aupro_30 --group avg
    """
    from ltbench.console.records import print_problems
    from ltbench.console.tables import chosen_format, print_table
    from ltbench.sweeps.tabulation import tabulate
    from ltbench.tables.arrangement import sorted_by, turned
    from ltbench.tables.cells import Precision

    form, problems = chosen_format(form, out, per, width), list[str]()
    made = tabulate(
        results,
        problems,
        paper=paper,
        published=published,
        dataset=dataset,
        splits=split or (),
        metrics=[name.strip() for name in (metric or "").split(",") if name.strip()],
        group=group,
        significance=significance,
        precision=Precision(digits, not no_std),
    )
    print_problems(problems)
    made = made if sort is None else sorted_by(made, sort)
    print_table(turned(made) if transpose else made, form, per=per, width=width, out=out)


def compare(
    papers: Annotated[
        list[str] | None, typer.Argument(help="Published tables; all by default.", autocompletion=complete_layouts)
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest difference that agrees, in percentage points.")] = 1.0,
    claims: Annotated[bool, typer.Option("--claims", help="What the papers say of their tables, beside runs.")] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """List measured against published numbers; exit with 1 if one differs by more than the tolerance.

    Only runs of the papers' own settings count. A published number that contradicts another decides nothing.

    Examples:
      ltbench compare

      ltbench compare tailedcore-1 tailedcore-3 --tolerance 0.5 --json

      ltbench compare ltad-5 --claims
    """
    from ltbench.console.output import tell
    from ltbench.console.records import print_problems
    from ltbench.console.tables import print_agreements, print_verdicts
    from ltbench.records.record import stream_records
    from ltbench.tables.agreement import agreements, all_agree, left_out
    from ltbench.tables.cells import METRIC_TITLES
    from ltbench.tables.claims import published_claims, verdicts
    from ltbench.tables.layouts import layout_named, layouts
    from ltbench.tables.measurements import measure
    from ltbench.tables.paper import fill
    from ltbench.tables.published import published_numbers

    wanted = {name: layout_named(name) for name in papers or layouts()}
    problems: list[str] = []
    runs = measure(stream_records(results, problems), list(METRIC_TITLES))
    print_problems(problems)
    numbers = published_numbers()
    filled = {name: fill(layout, runs, numbers) for name, layout in wanted.items()}
    for sentence in (text for name, table in filled.items() for text in left_out(name, table)):
        tell(f"not compared: {sentence}")
    if claims:
        held = verdicts(published_claims(), filled, numbers)
        print_verdicts(held, tolerance, as_json)
        raise typer.Exit(1 if any(verdict.holds(tolerance) is False for verdict in held) else 0)
    found = [agreement for name, table in filled.items() for agreement in agreements(name, table, tolerance)]
    print_agreements(found, tolerance, as_json)
    raise typer.Exit(0 if all_agree(found) else 1)
