"""What a notebook calls: `ltbench.run`, `ltbench.load` and `ltbench.table`, over what the command line calls."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltbench.apply.scoring import Scorer
from ltbench.apply.thresholds import threshold_of
from ltbench.runs.harness import Harness
from ltbench.runs.models import find_model
from ltbench.runs.runner import Outcome, run_by_name
from ltbench.sweeps.tabulation import tabulate
from ltbench.tables.frame import frame_of

if TYPE_CHECKING:
    import pandas


def run(
    method: str,
    split: str,
    *,
    data_root: str | Path | None = None,
    preset: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    seed: int = 0,
    results: str | Path | None = None,
    device: str = "auto",
    cache_size: str = "20GB",
    memory_limit: str | None = None,
    calibrate: int = 0,
    save_maps: bool = False,
    save_model: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Fit and score a method on a split, and keep a record; a finished run is found and not repeated.

    Args:
        method: registry name ("patchcore").
        split: name or file of a split ("mvtec_step100").
        data_root: folder of the datasets; the environment's `LTBENCH_DATA` by default.
        preset: preset name, or None for the one that the paper's authors would take on this split.
        parameters: hyper-parameters that override the preset.
        protocol: protocol name, or None.
        seed: seed of the method.
        results: folder of the records; the environment's `LTBENCH_RESULTS`, else `results`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        cache_size: bound of the feature store, "0" for none.
        memory_limit: bound of the memory of the process ("8GB").
        calibrate: percent of the training images that are kept aside for thresholds.
        save_maps: keep the anomaly maps.
        save_model: keep the fitted method, for `load`.
        force: repeat a finished run.
        quiet: show no progress.

    Returns:
        The record (`metrics`, `scores`, `seconds`, ...), its folder, and whether it was found.

    Raises:
        LtbenchError: whatever speaks against the run, with the remedy.
    """
    harness = Harness.of(
        _results(results), device, cache_size, force=force, save_maps=save_maps, quiet=quiet, memory_limit=memory_limit
    )
    harness.save_model = save_model
    return run_by_name(method, split, _data_root(data_root), harness, preset, parameters, protocol, seed, calibrate)


def load(
    run: str | Path,
    *,
    threshold: str | None = None,
    category: str | None = None,
    results: str | Path | None = None,
) -> Scorer:
    """Return the fitted method that a run kept (`save_model=True`), ready to score any images.

    `ltbench.load("0123ab").score(["new/"])` gives a list of scored images.

    Args:
        run: folder of a run or of its model, or the first digits of its hash.
        threshold: `false_alarms=P%`, `f1_max` or a number, by which images are called defective; or None.
        category: what all images show, for methods that are told categories.
        results: folder of the records.

    Raises:
        SpecError: the run kept no method, or it was fitted with other code or weights.
        DataError: what it kept cannot be read.
    """
    model = find_model(str(run), _results(results))
    rule = threshold_of(model, threshold, category) if threshold is not None else None
    return Scorer(model, model.load(), category, rule)


def table(
    *,
    paper: str | None = None,
    dataset: str | None = None,
    splits: Sequence[str] = (),
    metrics: Sequence[str] = (),
    group: str | None = None,
    results: str | Path | None = None,
) -> pandas.DataFrame:
    """Return the comparison table of all finished runs as a frame with a row a cell.

    Columns: method, split, metric, group, column, mean and std (percent), lists, seeds, rank, reason (why there is no
    mean), published, difference (percentage points), note, runs. `table().pivot(index="method", columns=["split",
    "metric", "group"], values="mean")` gives the printed shape.

    Args:
        paper: layout of a published table ("ltad-3"), or None.
        dataset: only splits of this one.
        splits: only these.
        metrics: metric ids; image and pixel AUROC, or the paper's, by default.
        group: "avg", "high", "low", "all" or ranges of training images ("1-5,6-20,21-").
        results: folder of the records.

    Raises:
        LtbenchError: no such layout, metric or group, or no finished run.
    """
    problems: list[str] = []
    made = tabulate(
        _results(results), problems, paper=paper, dataset=dataset, splits=splits, metrics=metrics, group=group
    )
    for problem in problems:
        warnings.warn(f"left out: {problem}", stacklevel=2)
    return frame_of(made)


def _results(results: str | Path | None) -> Path:
    return Path(os.environ.get("LTBENCH_RESULTS", "results") if results is None else results).expanduser()


def _data_root(data_root: str | Path | None) -> Path | None:
    found = os.environ.get("LTBENCH_DATA") if data_root is None else data_root
    return Path(found).expanduser() if found else None
