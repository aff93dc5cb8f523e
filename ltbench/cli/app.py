"""The `ltbench` command: every subcommand in the order of its help, and what an error becomes."""

from __future__ import annotations

import atexit
import gc
import io
import sys
from typing import Annotated

import typer

from ltbench import __version__
from ltbench.cli import (
    datasets,
    doctor,
    evaluate,
    figures,
    heatmaps,
    methods,
    predict,
    records,
    report,
    runs,
    splits,
    sweeps,
    tables,
)
from ltbench.cli.command import App
from ltbench.system import as_ours

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""

app = App(
    name="ltbench",
    help="A benchmark suite for long-tailed and noisy visual anomaly detection.\n\n"
    "Start with [bold]ltbench doctor[/bold], then [bold]ltbench run --method patchcore --split shapes_step20 "
    "--preset offline[/bold] and [bold]ltbench table[/bold].",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; an `LtbenchError`, or what the system refuses, is one line and exit code 2."""
    atexit.register(gc.freeze)  # the process ends without looking once more through all that was imported
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name of any bytes, a terminal of any encoding
    try:
        app()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _tell("interrupted; nothing is half-written, the same command goes on or starts again")
        raise
    except Exception as error:
        if (ours := as_ours(error)) is None:
            raise
        _tell(str(ours))
        _drop_unwritten()
        sys.exit(2)


def _tell(text: str) -> None:
    from ltbench.console.output import tell

    tell(text)


def _drop_unwritten() -> None:
    """Let the interpreter end without another word where standard output can take no more."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Accept the options before the command."""


app.add_typer(datasets.app, name="datasets")
app.add_typer(methods.app, name="methods")
app.command("make-splits")(splits.make_splits)
app.command("run")(runs.run)
app.command("plan")(sweeps.plan)
app.command("sweep")(sweeps.sweep)
app.command("status")(sweeps.status)
app.add_typer(records.app, name="runs")
app.command("table")(tables.table)
app.command("compare")(tables.compare)
app.add_typer(figures.app, name="figure")
app.command("heatmaps")(heatmaps.heatmaps)
app.command("report")(report.report)
app.command("board")(report.board)
app.command("inspect")(runs.inspect)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("check")(methods.check)
app.command("doctor")(doctor.doctor)
