"""`ltbench figure`: figures from runs and splits, as PDF, PNG or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltbench.cli.command import App
from ltbench.cli.options import DEFAULT_RESULTS, DataRoot, Methods, Results, Run, Splits, complete_splits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ltbench.records.record import RunRecord
    from ltbench.tables.published import Published

app = App(help="Draw a figure from runs or splits, as PDF, PNG or SVG.", no_args_is_help=True)

Out = Annotated[Path, typer.Option("--out", "-o", help="A .pdf, .png or .svg file.")]
Metric = Annotated[str, typer.Option(help="Metric id.")]
Datasets = Annotated[str | None, typer.Option("--dataset", help="Only runs on this dataset.")]
Preset = Annotated[str | None, typer.Option(help="Only runs of this preset.")]
PublishedTables = Annotated[
    list[str] | None, typer.Option("--published", help="Add this published table (ltad-3, tailedcore-logs).")
]


@app.command("profiles")
def profiles(
    out: Out,
    split: Annotated[
        list[str], typer.Option("--split", "-s", help="Split name or file.", autocompletion=complete_splits)
    ],
    data_root: DataRoot = None,
) -> None:
    """Draw the training images of each category of splits.

    Examples:
      ltbench figure profiles -s mvtec_exp100 -s mvtec_step100 -s mvtec_k4_noisy10_seed1 --out profiles.pdf
    """
    from ltbench.datasets.index import load_listing
    from ltbench.figures.profiles import draw_profiles
    from ltbench.splits.files import find_split

    _save(draw_profiles([find_split(name, lambda dataset: load_listing(dataset, data_root)) for name in split]), out)


@app.command("categories")
def categories(
    out: Out,
    metric: Metric = "image_auroc",
    dataset: Datasets = None,
    split: Splits = None,
    method: Methods = None,
    preset: Preset = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw the score of each category, the largest first: one method against another, or one split against another.

    Examples:
      ltbench figure categories -s mvtec_exp100 --out categories.pdf

      ltbench figure categories -m patchcore --dataset visa --metric pixel_aupro_30 --out splits.png
    """
    from ltbench.figures.categories import draw_categories

    _save(draw_categories(_records(results, dataset, split, method, preset), metric), out)


@app.command("imbalance")
def imbalance(
    out: Out,
    metric: Metric = "image_auroc",
    dataset: Datasets = None,
    split: Splits = None,
    method: Methods = None,
    preset: Preset = None,
    published: PublishedTables = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw High, Low and Avg against the imbalance of the training images.

    Examples:
      ltbench figure imbalance --dataset mvtec --published ltad-3 --out imbalance.pdf
    """
    from ltbench.figures.trends import draw_imbalance

    _save(
        draw_imbalance(_records(results, dataset, split, method, preset), metric, _published(published, dataset)), out
    )


@app.command("noise")
def noise(
    out: Out,
    metric: Metric = "image_auroc",
    dataset: Datasets = None,
    split: Splits = None,
    method: Methods = None,
    preset: Preset = None,
    published: PublishedTables = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw High, Low and Avg against the share of contaminants among the training images.

    Examples:
      ltbench figure noise --dataset mvtec -m patchcore -m tailedcore --published tailedcore-logs --out noise.pdf
    """
    from ltbench.figures.trends import draw_noise

    _save(draw_noise(_records(results, dataset, split, method, preset), metric, _published(published, dataset)), out)


@app.command("learning")
def learning(
    out: Out,
    metric: Metric = "image_auroc",
    dataset: Datasets = None,
    split: Splits = None,
    method: Methods = None,
    preset: Preset = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw High, Low and Avg against the epoch, of runs that were made with --eval-every.

    Examples:
      ltbench run -m uniad -s shapes_step20 --preset offline --eval-every 5

      ltbench figure learning -s shapes_step20 --out learning.pdf
    """
    from ltbench.figures.learning import draw_learning

    _save(draw_learning(_records(results, dataset, split, method, preset), metric), out)


@app.command("curves")
def curves(
    out: Out,
    dataset: Datasets = None,
    split: Splits = None,
    method: Methods = None,
    preset: Preset = None,
    group: Annotated[Literal["avg", "high", "low"], typer.Option(help="Which categories.")] = "avg",
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw ROC and precision-recall curves of the image scores, averaged over categories.

    Examples:
      ltbench figure curves -s mvtec_step100 --group low --out curves.pdf
    """
    from ltbench.figures.curves import draw_curves

    _save(draw_curves(_records(results, dataset, split, method, preset), group), out)


@app.command("ranks")
def ranks(
    out: Out,
    metric: Metric = "image_auroc",
    dataset: Datasets = None,
    split: Splits = None,
    method: Methods = None,
    preset: Preset = None,
    group: Annotated[Literal["avg", "high", "low"], typer.Option(help="Mean over which categories.")] = "avg",
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw mean ranks of methods over splits; bars join methods that a test does not tell apart.

    Friedman's test says whether methods differ at all, Nemenyi's which; splits that a method lacks are left out.

    Examples:
      ltbench figure ranks --dataset mvtec --out ranks.pdf

      ltbench figure ranks -m patchcore -m softpatch -m tailedcore --metric pixel_auroc --group low --out ranks.png
    """
    from ltbench.figures.ranks import draw_ranks

    _save(draw_ranks(_records(results, dataset, split, method, preset), metric, group), out)


@app.command("tailsampler")
def tailsampler(
    out: Out,
    run: Run,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw the category sizes that a tail sampler predicts against the true ones, and what each memory keeps.

    Examples:
      ltbench figure tailsampler --run 0123abcd --out sizes.pdf
    """
    from ltbench.figures.diagnostics import draw_diagnostics
    from ltbench.records.inspection import find_run

    _save(draw_diagnostics(find_run(run, results)), out)


def _records(
    results: Path, dataset: str | None, splits: list[str] | None, methods: list[str] | None, preset: str | None
) -> list[RunRecord]:
    """Return the records that fit, and say which cannot be read; a split with or without a seed may be named."""
    from ltbench.console.records import print_problems
    from ltbench.records.record import stream_records
    from ltbench.tables.measurements import base_name

    problems: list[str] = []
    found = [
        record
        for record in stream_records(results, problems)
        if dataset in (None, record.dataset)
        and (not splits or record.spec.split in splits or base_name(record.spec.split) in splits)
        and (not methods or record.spec.method in methods)
        and preset in (None, record.preset)
    ]
    print_problems(problems)
    return found


def _published(tables: list[str] | None, dataset: str | None) -> list[Published]:
    """Return the cells of published tables named `<paper>-<table>`, of one data set if asked."""
    from ltbench.tables.published import published_numbers

    parts = [name.partition("-") for name in tables or ()]
    cells = [cell for paper, _, table in parts for cell in published_numbers().of(paper, table or None)]
    return [cell for cell in cells if dataset in (None, cell.dataset)]


def _save(figure: Figure, out: Path) -> None:
    from ltbench.console.output import say
    from ltbench.figures.style import save

    save(figure, out)
    say(out)
