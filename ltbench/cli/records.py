"""`ltbench runs`: list, show, compare, verify, remove, unlock, export and exchange what runs have left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli import exchange
from ltbench.cli.command import App
from ltbench.cli.options import DEFAULT_RESULTS, AsJson, DataRoot, Results
from ltbench.errors import SpecError

app = App()

Run = Annotated[str, typer.Argument(help="Folder of a run, or the first digits of its hash.")]


@app.callback(invoke_without_command=True)
def list_runs(context: typer.Context, results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> None:
    """List the finished runs, or show, compare, verify, remove, unlock or export some.

    Examples:
      ltbench runs

      ltbench runs show 0123ab

      ltbench runs export --out runs.csv
    """
    if context.invoked_subcommand:
        return
    from ltbench.console.records import print_problems, print_runs
    from ltbench.records.record import stream_records

    problems: list[str] = []
    print_runs(stream_records(results, problems), as_json)
    print_problems(problems)


@app.command("show")
def show(
    run: Run,
    interval: Annotated[
        bool, typer.Option("--interval", help="Add 95 % intervals of the image metrics over the test images.")
    ] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Show a run: what was run, its metrics, its seconds and memory, and on what it ran.

    Examples:
      ltbench runs show 0123ab

      ltbench runs show 0123ab --interval

      ltbench runs show results/runs/0123456789abcdef --json
    """
    from ltbench.console.records import print_run
    from ltbench.records.inspection import find_run

    intervals = None
    record = find_run(run, results)
    if interval:
        from ltbench.runs.intervals import image_intervals

        intervals = image_intervals(record)
    print_run(record, as_json, intervals)


@app.command("diff")
def diff(before: Run, after: Run, results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> None:
    """Show in what two runs differ: specification, environment and metrics.

    Examples:
      ltbench runs diff 0123ab 4567cd
    """
    from ltbench.console.records import print_differences
    from ltbench.records.exports import differences
    from ltbench.records.inspection import find_run

    first, second = find_run(before, results), find_run(after, results)
    print_differences(first, second, differences(first, second), as_json)


@app.command("verify")
def verify(
    runs: Annotated[list[str] | None, typer.Argument(help="Folders of runs, or first digits; all by default.")] = None,
    data_root: DataRoot = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Check what runs left: checksums, image metrics by scores, pixel metrics by maps; exit with 1 if any differs.

    Pixel metrics need the masks, and so --data-root; without it a line says that they were not checked.

    Examples:
      ltbench runs verify

      ltbench runs verify 0123ab --data-root ~/data
    """
    from functools import cache

    from ltbench.console.records import print_verifications
    from ltbench.datasets.index import load_dataset
    from ltbench.runs.progress import ConsoleProgress
    from ltbench.runs.removal import runs_named
    from ltbench.runs.verification import runs_on_disk, verify_run

    known = runs_on_disk(results)
    chosen = runs_named(results, runs, known) if runs else known
    find = None if data_root is None else cache(lambda name: load_dataset(name, data_root))
    progress = ConsoleProgress(quiet=as_json)
    found = [verify_run(results, run, find) for run in progress.track(chosen, "verify")]
    print_verifications(found, as_json)
    raise typer.Exit(0 if all(one.ok for one in found) else 1)


@app.command("rm")
def remove(
    runs: Annotated[list[str] | None, typer.Argument(help="Folders of runs, or the first digits of hashes.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="What is left of all runs that failed.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="All runs whose record cannot be read.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Remove runs with all that they left.

    Examples:
      ltbench runs rm 0123ab 4567cd

      ltbench runs rm --failed --yes
    """
    from ltbench.console.output import print_json, say
    from ltbench.records.failures import failed_runs
    from ltbench.runs.removal import damaged_runs, remove_run, runs_named

    chosen = runs_named(results, runs or [])
    chosen += failed_runs(results) if failed else []
    chosen += damaged_runs(results) if damaged else []
    chosen = list(dict.fromkeys(chosen))
    if chosen and not yes and not sys.stdin.isatty():
        raise SpecError(f"Expected --yes to remove {len(chosen)} runs where nobody can be asked. Add --yes.")
    if chosen and not yes:
        typer.confirm(f"Remove {len(chosen)} runs from {results}?", abort=True, err=True)
    for run in chosen:
        remove_run(results, run)
    if as_json:
        print_json({"removed": chosen})
    else:
        say(f"{len(chosen)} removed")


@app.command("unlock")
def unlock(run: Run, results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> None:
    """Take a run away from a process that hangs, so that another may do it; if the first goes on, it keeps nothing.

    A process that is dead needs none of it: its runs are free at once on its own machine, elsewhere in three minutes.

    Examples:
      ltbench runs unlock 0123abcd
    """
    from ltbench.console.output import print_json, say
    from ltbench.runs import claims
    from ltbench.runs.removal import runs_named

    (chosen,) = runs_named(results, [run], claims.held(results))
    who = claims.unlock(results, chosen)
    if as_json:
        print_json({"run": chosen, "taken_from": who})
    else:
        say(f"run {chosen} is free; it was taken from {who}")


@app.command("export")
def export_runs(
    out: Annotated[Path, typer.Option(help="File to write: .csv or .parquet.")],
    scores: Annotated[bool, typer.Option("--scores", help="A row a test image instead of a row a metric.")] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write all finished runs into one file: a row for each run, metric and group, or for each run and test image.

    Examples:
      ltbench runs export --out runs.csv

      ltbench runs export --scores --out scores.parquet
    """
    from ltbench.console.output import print_json, say
    from ltbench.console.records import print_problems
    from ltbench.records.exports import export, metric_rows, score_rows
    from ltbench.records.record import stream_records

    problems: list[str] = []
    rows = (score_rows if scores else metric_rows)(stream_records(results, problems))
    count = export(rows, out)
    print_problems(problems)
    if as_json:
        print_json({"file": str(out), "rows": count})
    else:
        say(f"{out}: {count} rows")


app.command("bundle")(exchange.bundle)
app.command("import")(exchange.import_runs)
app.command("merge")(exchange.merge)
