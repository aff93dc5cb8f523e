"""`ltbench run` and `ltbench inspect`: one run, and what it made of its training images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import (
    DEFAULT_RESULTS,
    AsJson,
    CacheSize,
    DataRoot,
    Device,
    Method,
    Protocol,
    Results,
    Run,
    SaveMaps,
    Split,
    complete_presets,
)


def run(
    method: Method,
    split: Split,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the method.")] = 0,
    data_root: DataRoot = None,
    preset: Annotated[str | None, typer.Option(help="Preset name.", autocompletion=complete_presets)] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="KEY=VALUE", help="Set a hyper-parameter.")
    ] = None,
    protocol: Protocol = None,
    device: Device = "auto",
    precision: Annotated[
        str | None,
        typer.Option(help="What the backbone computes in: float32, tf32 (CUDA) or bf16; -p backbone_precision=..."),
    ] = None,
    results: Results = DEFAULT_RESULTS,
    cache_size: CacheSize = "20GB",
    memory_limit: Annotated[
        str | None,
        typer.Option(envvar="LTBENCH_MEMORY_LIMIT", help="Bound of the process's memory, such as 8GB; see below."),
    ] = None,
    save_maps: SaveMaps = False,
    save_model: Annotated[bool, typer.Option("--save-model", help="Keep the fitted method, for predict.")] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="Keep this share of the training images aside, for thresholds."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Repeat a finished run.")] = False,
    eval_every: Annotated[
        int, typer.Option(min=0, metavar="EPOCHS", help="Add a learning curve to the record; chooses nothing by it.")
    ] = 0,
    checkpoint_minutes: Annotated[
        float,
        typer.Option(
            min=0, max=1e6, help="Minutes between a training's checkpoints; the same command goes on from one."
        ),
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Fit and score a method on a split, and keep a record; a finished run is found and not repeated.

    Every method says before the run what memory it will take. Above --memory-limit the large arrays of a memory bank go
    to a temporary file in the cache (LTBENCH_CACHE), with the same results to the last digit; if that does not fit
    either, the run is refused and the message says what would.

    A split with _selfexcluded in its name has a memory bank score each contaminant without what it holds of that very
    image; methods without a memory bank are refused there.

    Examples:
      ltbench run --method patchcore --split mvtec_step100 --data-root ~/data

      ltbench run -m patchcore -s shapes_step20_noisy10 --preset offline -p coreset_ratio=0.05 --json

      ltbench run -m tailedcore -s mvtec_k4_noisy10_seed1 --data-root ~/data --memory-limit 4GB

      ltbench run -m patchcore -s shapes_step20_noisy10_selfexcluded --preset offline

      ltbench run -m uniad -s shapes_step20 --preset offline --eval-every 5

      ltbench run -m patchcore -s shapes_full --preset offline --calibrate 10% --save-model

      ltbench run -m patchcore -s mvtec_full --data-root ~/data --device cuda --precision tf32
    """
    from ltbench.console.runs import print_outcome
    from ltbench.contract.parameters import parse_assignments
    from ltbench.runs.harness import Harness
    from ltbench.runs.runner import run_by_name
    from ltbench.splits.held_out import parse_percent

    harness = Harness.of(
        results,
        device,
        cache_size,
        force=force,
        save_maps=save_maps,
        quiet=as_json,
        memory_limit=memory_limit,
    )
    harness.save_model = save_model
    harness.eval_every, harness.checkpoint_minutes = eval_every, checkpoint_minutes
    assignments = [*(parameter or ()), *([f"backbone_precision={precision}"] if precision else [])]
    outcome = run_by_name(
        method,
        split,
        data_root,
        harness,
        preset,
        parse_assignments(assignments),
        protocol,
        seed,
        parse_percent(calibrate),
    )
    print_outcome(outcome, as_json)


def inspect(
    run: Run,
    results: Results = DEFAULT_RESULTS,
    out: Annotated[Path | None, typer.Option(help="Draw the picture into this PNG or PDF.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a method made of its training images: predicted tails and sizes, what each memory keeps.

    Examples:
      ltbench inspect --run results/runs/0123456789abcdef --out sizes.png
    """
    from ltbench.console.runs import print_diagnostics
    from ltbench.records.inspection import diagnostics_of, find_run

    record = find_run(run, results)
    print_diagnostics(diagnostics_of(record), as_json)
    if out is not None:
        from ltbench.figures.diagnostics import draw_diagnostics
        from ltbench.figures.style import save

        save(draw_diagnostics(record), out)
