"""`ltbench plan`, `ltbench sweep` and `ltbench status`: many runs, and how far they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ltbench.cli.options import (
    DEFAULT_RESULTS,
    AsJson,
    CacheSize,
    DataRoot,
    Device,
    Protocol,
    Results,
    SaveMaps,
    complete_methods,
    complete_splits,
)

if TYPE_CHECKING:
    from ltbench.sweeps.request import SweepRequest


def complete_grids(incomplete: str) -> list[str]:
    """Return the grids that begin with what was typed."""
    from ltbench.sweeps.grid import grid_names

    return [name for name in grid_names() if name.startswith(incomplete)]


def complete_executors(incomplete: str) -> list[str]:
    """Return the executors that begin with what was typed."""
    from ltbench.executors.interface import executor_names

    return [name for name in executor_names() if name.startswith(incomplete)]


Methods = Annotated[
    str,
    typer.Option(
        "--methods",
        "-m",
        help="Names or patterns: a,b. With --config in place of the grid's; +a,b adds to them.",
        autocompletion=complete_methods,
    ),
]
Splits = Annotated[
    str,
    typer.Option(
        "--splits",
        "-s",
        help="Names, patterns or files: 'mvtec_*'. With --config in place of the grid's; +a,b adds to them.",
        autocompletion=complete_splits,
    ),
]
Seeds = Annotated[
    str,
    typer.Option(
        help="Seeds: 0-4 or 0,2. With --config in place of the grid's; +1-2 adds to them.  [default: 0]",
        show_default=False,
    ),
]
Presets = Annotated[
    str, typer.Option("--preset", help="Preset names: a,b. Without, the one that goes with each split.")
]
Parameter = Annotated[
    list[str] | None, typer.Option("--parameter", "-p", metavar="KEY=V1,V2", help="Values of a hyper-parameter.")
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config", "-c", help="A grid in a YAML file, or one that ships by name.", autocompletion=complete_grids
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Runs at a time.")]
MemoryLimit = Annotated[
    str | None,
    typer.Option(envvar="LTBENCH_MEMORY_LIMIT", help="Bound of the memory of all runs at a time on this machine."),
]


def plan(
    methods: Methods = "",
    splits: Splits = "",
    seeds: Seeds = "",
    preset: Presets = "",
    parameter: Parameter = None,
    protocol: Protocol = None,
    config: Config = None,
    data_root: DataRoot = None,
    results: Results = DEFAULT_RESULTS,
    workers: Workers = None,
    cache_size: CacheSize = "20GB",
    memory_limit: MemoryLimit = None,
    as_json: AsJson = False,
) -> None:
    """Show what a sweep consists of: what is done, what is to be run and how long it takes; nothing is run.

    Examples:
      ltbench plan --methods patchcore,softpatch --splits 'mvtec_step*' --seeds 0-2

      ltbench plan --config tailedcore-main --data-root ~/data

      ltbench plan -c ltad-main --methods uniad --splits 'visa_*' --json

      ltbench plan -c card --methods +dinomaly --splits +visa_step100 --seeds 0-2
    """
    from ltbench.console.sweeps import print_plan
    from ltbench.executors.cells import Settings
    from ltbench.sweeps.plan import make_plan
    from ltbench.sweeps.request import share_of

    request = _request(methods, splits, seeds, preset, parameter, protocol, config)
    limit = share_of(memory_limit, workers or 1)
    made = make_plan(request.requests(), Settings(results, data_root, cache_size=cache_size, memory_limit=limit))
    print_plan(made, workers or 1, as_json)


def sweep(
    methods: Methods = "",
    splits: Splits = "",
    seeds: Seeds = "",
    preset: Presets = "",
    parameter: Parameter = None,
    protocol: Protocol = None,
    config: Config = None,
    data_root: DataRoot = None,
    results: Results = DEFAULT_RESULTS,
    executor: Annotated[
        str | None, typer.Option(help="local, slurm or print.  [default: local]", autocompletion=complete_executors)
    ] = None,
    workers: Workers = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-x", metavar="KEY=VALUE", help="Set an option of the executor (docs/clusters.md)."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run again what failed.")] = False,
    retry_stale: Annotated[
        bool, typer.Option("--retry-stale", help="Run again what is done, but of images, weights or code that changed.")
    ] = False,
    device: Device = "auto",
    cache_size: CacheSize = "20GB",
    memory_limit: MemoryLimit = None,
    save_maps: SaveMaps = False,
    as_json: AsJson = False,
) -> None:
    """Run all of a grid that is not done yet; killed anywhere, the same command goes on. Exit with 1 if a run failed.

    Examples:
      ltbench sweep --methods patchcore,softpatch --splits 'mvtec_step*' --seeds 0-2 --data-root ~/data --workers 4

      ltbench sweep --config demo

      ltbench sweep -c tailedcore-main --data-root ~/data --executor slurm -x partition=gpu -x gpus=1 -x time=4h

      ltbench sweep -m tailedcore -s 'mvtec_k4*' --data-root ~/data --workers 2 --memory-limit 16GB

      ltbench sweep -m patchcore -s shapes_step20 --preset offline -p coreset_ratio=0.01,0.1 --executor print > runs.sh
    """
    from ltbench.console.sweeps import SweepView, print_end
    from ltbench.executors.cells import Settings
    from ltbench.sweeps import sweep as sweeps
    from ltbench.sweeps.plan import make_plan
    from ltbench.sweeps.request import share_of

    request = _request(methods, splits, seeds, preset, parameter, protocol, config)
    runs_it = request.executor(executor, workers, option or ())
    at_once = runs_it.at_once(device)
    settings = Settings(results, data_root, device, cache_size, save_maps, share_of(memory_limit, at_once))
    made = make_plan(request.requests(), settings)
    to_run = made.to_run(retry_failed=retry_failed, retry_stale=retry_stale)
    view = SweepView(len(to_run), quiet=as_json)
    view.print_plan(made, workers or at_once, to_run)
    view.show(sweeps.sweep(made, settings, runs_it, retry_failed=retry_failed, retry_stale=retry_stale))
    well = print_end(made, view, as_json, retried=retry_failed, repeated=retry_stale)
    raise typer.Exit(0 if well else 1)


def status(
    results: Results = DEFAULT_RESULTS,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again until nothing is left to wait for.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far the sweeps into a results folder are; exit with 1 if a run failed.

    Examples:
      ltbench status

      ltbench status --watch --results /shared/results
    """
    from ltbench.console.sweeps import print_status
    from ltbench.sweeps.status import Status

    well = print_status(Status(results), as_json, watch=watch)
    raise typer.Exit(0 if well else 1)


def _request(
    methods: str,
    splits: str,
    seeds: str,
    preset: str,
    parameter: list[str] | None,
    protocol: str | None,
    config: str | None,
) -> SweepRequest:
    from ltbench.sweeps.request import SweepRequest

    return SweepRequest(methods, splits, seeds, preset, tuple(parameter or ()), protocol, config)
