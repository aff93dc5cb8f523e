"""The command line: parse, one call, print. Heavy packages are imported inside the commands, never by `--help`."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ltbench import __version__
from ltbench.errors import LtbenchError

if TYPE_CHECKING:
    from ltbench.core import Dataset

app = typer.Typer(
    name="ltbench",
    help="A benchmark suite for long-tailed and noisy visual anomaly detection.\n\n"
    "Start with [bold]ltbench doctor[/bold], then [bold]ltbench run --method patchcore --split shapes_step20 "
    "--preset offline[/bold] and [bold]ltbench table[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
datasets_app = typer.Typer(rich_markup_mode="rich")
methods_app = typer.Typer(rich_markup_mode="rich")
app.add_typer(datasets_app, name="datasets")
app.add_typer(methods_app, name="methods")

DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="LTBENCH_DATA", help="Folder that holds the datasets, or one dataset."),
]
Results = Annotated[Path, typer.Option("--results", envvar="LTBENCH_RESULTS", help="Folder of run records.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

DEFAULT_RESULTS = Path("results")
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line; an `LtbenchError` is one line on standard error and exit code 2."""
    try:
        app()
    except LtbenchError as error:
        print(f"ltbench: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("ltbench: interrupted; nothing is half-written, the same command starts again", file=sys.stderr)
        raise


def _complete_methods(incomplete: str) -> list[str]:
    from ltbench.registry import method_names

    return [name for name in method_names() if name.startswith(incomplete)]


def _complete_splits(incomplete: str) -> list[str]:
    from ltbench.splits.files import committed_names

    return [name for name in committed_names() if name.startswith(incomplete)]


def _complete_presets(context: typer.Context, incomplete: str) -> list[str]:
    from ltbench.registry import method_class, presets

    name = context.params.get("method")
    return [preset for preset in presets(method_class(name)) if preset.startswith(incomplete)] if name else []


Method = Annotated[str, typer.Option("--method", "-m", help="Method name.", autocompletion=_complete_methods)]
Split = Annotated[str, typer.Option("--split", "-s", help="Split name or file.", autocompletion=_complete_splits)]


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Accept the options before the command."""


@datasets_app.callback(invoke_without_command=True)
def datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the datasets with licence, citation, source and layout, or verify a folder.

    Examples:
      ltbench datasets

      ltbench datasets verify mvtec --data-root ~/data
    """
    if context.invoked_subcommand:
        return
    from ltbench.console import print_datasets
    from ltbench.datasets.index import SOURCES

    print_datasets(SOURCES.values(), as_json)


@datasets_app.command("verify")
def datasets_verify(
    name: Annotated[str, typer.Argument(help="Dataset name, or the name of a folder in MVTec layout.")],
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Compare a folder with the official listing; exit with 1 if a file is missing, extra or unreadable.

    Examples:
      ltbench datasets verify mvtec --data-root ~/data
    """
    from ltbench.console import print_verification
    from ltbench.datasets.index import locate, source_named

    root = locate(name, data_root)
    verification = source_named(name).verify(root)
    print_verification(name, root, verification, as_json)
    raise typer.Exit(0 if verification.ok else 1)


@methods_app.callback(invoke_without_command=True)
def methods(context: typer.Context, as_json: AsJson = False) -> None:
    """List the methods with paper, privileges and presets, or show one.

    Examples:
      ltbench methods

      ltbench methods show patchcore --preset offline
    """
    if context.invoked_subcommand:
        return
    from ltbench.console import print_methods

    print_methods(as_json)


@methods_app.command("show")
def methods_show(
    name: Annotated[str, typer.Argument(help="Method name.", autocompletion=_complete_methods)],
    preset: Annotated[str | None, typer.Option(help="Show the values of this preset.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a method's paper, privileges, hyper-parameters with types and defaults, presets and trainable parameters.

    Examples:
      ltbench methods show patchcore --json
    """
    from ltbench.console import print_method

    print_method(name, preset, as_json)


@app.command("make-splits")
def make_splits(
    names: Annotated[list[str] | None, typer.Argument(help="Split names.", autocompletion=_complete_splits)] = None,
    dataset: Annotated[str | None, typer.Option(help="All committed splits of this dataset.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All committed splits.")] = False,
    data_root: DataRoot = None,
    folder: Annotated[Path | None, typer.Option(help="A folder in MVTec layout to split.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of that dataset, or of the split of --from-list.")] = None,
    profile: Annotated[str, typer.Option(help="full, exp<beta>, step<beta>, pareto or k<K>.")] = "full",
    noise: Annotated[float, typer.Option(help="Contaminants in percent of the head's images.")] = 0.0,
    noise_rule: Annotated[str, typer.Option(help="tailedcore, softpatch or open-iad.")] = "tailedcore",
    disjoint: Annotated[bool, typer.Option("--disjoint", help="Take contaminants out of the test set.")] = False,
    reversed_order: Annotated[bool, typer.Option("--reversed", help="Reverse the class order.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images.")] = 0,
    official: Annotated[str | None, typer.Option(help="Import published lists: tailedcore.")] = None,
    source: Annotated[str | None, typer.Option(help="URL or folder of the published lists.")] = None,
    from_list: Annotated[Path | None, typer.Option(help="Import a list: csv `role,path`, or a path a line.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("splits"),
    check: Annotated[bool, typer.Option("--check", help="Re-derive files; exit with 1 on any difference.")] = False,
) -> None:
    """Write split files, from their names, from a folder of your own, or from lists.

    Examples:
      ltbench make-splits mvtec_step100 mvtec_exp200_noisy10_seed3

      ltbench make-splits --folder ~/parts --name parts --profile step20 --noise 10

      ltbench make-splits --official tailedcore --source ~/TailedCore/manifest --data-root ~/data

      ltbench make-splits --all --check --data-root ~/data
    """
    from ltbench.console import print_differences, print_split
    from ltbench.datasets.index import load_listing
    from ltbench.splits.files import check_splits, write_split
    from ltbench.splits.importers import TAILEDCORE_URL
    from ltbench.splits.making import SplitRequest

    request = SplitRequest(
        tuple(names or ()), dataset, every, folder, name, profile, noise, noise_rule, disjoint, reversed_order, seed,
        official, source or TAILEDCORE_URL, from_list,
    )  # fmt: skip

    @cache
    def load(dataset_name: str) -> Dataset:
        return load_listing(dataset_name, data_root)

    if check:
        same = print_differences(check_splits(out, load, [recipe.name for recipe in request.recipes()]))
        raise typer.Exit(0 if same else 1)
    for split in request.splits(load):
        print_split(write_split(split, out), split)


@app.command("run")
def run(
    method: Method,
    split: Split,
    seed: Annotated[int, typer.Option(help="Seed of the method.")] = 0,
    data_root: DataRoot = None,
    preset: Annotated[str | None, typer.Option(help="Preset name.", autocompletion=_complete_presets)] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="KEY=VALUE", help="Set a hyper-parameter.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="common, ltad, tailedcore or rlr.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    results: Results = DEFAULT_RESULTS,
    cache_size: Annotated[str, typer.Option(help="Bound of the feature store; 0 does without it.")] = "20GB",
    save_maps: Annotated[bool, typer.Option("--save-maps", help="Keep the anomaly maps.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Repeat a finished run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fit and score a method on a split, and keep a record; a finished run is found and not repeated.

    Examples:
      ltbench run --method patchcore --split mvtec_step100 --data-root ~/data

      ltbench run -m patchcore -s shapes_step20_noisy10 --preset offline -p coreset_ratio=0.05 --json
    """
    from ltbench.console import print_outcome
    from ltbench.runner import Harness, run_by_name

    harness = Harness.of(results, device, cache_size, force=force, save_maps=save_maps, quiet=as_json)
    outcome = run_by_name(method, split, data_root, harness, preset, parameter or (), protocol, seed)
    print_outcome(outcome, as_json)


@app.command("table")
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


@app.command("inspect")
def inspect(
    run: Annotated[str, typer.Option("--run", "-r", help="Folder of a run, or the first digits of its hash.")],
    results: Results = DEFAULT_RESULTS,
    out: Annotated[Path | None, typer.Option(help="Draw the picture into this PNG or PDF.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a method made of its training images: predicted tails and sizes, what each memory keeps.

    Examples:
      ltbench inspect --run results/runs/0123456789abcdef --out sizes.png
    """
    from ltbench.console import print_diagnostics
    from ltbench.inspection import diagnostics_of, draw, find_run

    record = find_run(run, results)
    print_diagnostics(diagnostics_of(record), as_json)
    if out is not None:
        draw(record, out)


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Method name.", autocompletion=_complete_methods)],
    as_json: AsJson = False,
) -> None:
    """Check that a method keeps the contract; exit with 1 if it does not.

    Examples:
      ltbench check my_method
    """
    from ltbench.checks import check_method
    from ltbench.console import print_checks

    passed = print_checks(check_method(name), as_json)
    raise typer.Exit(0 if passed else 1)


@app.command("doctor")
def doctor(data_root: DataRoot = None, results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> None:
    """Look at Python, devices, FAISS, weights, datasets and write access; say what to do about each problem.

    Examples:
      ltbench doctor --data-root ~/data
    """
    from ltbench.console import print_findings
    from ltbench.doctor import diagnose

    healthy = print_findings(diagnose(data_root, results), as_json)
    raise typer.Exit(0 if healthy else 1)


if __name__ == "__main__":
    main()
