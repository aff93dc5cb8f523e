"""Why cells of tables are empty: runs that failed, and methods that cannot take a split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ltbench.contract.registry import method_class, method_info
from ltbench.datasets.index import load_listing
from ltbench.errors import LtbenchError
from ltbench.records.failures import failed_runs, read_failure
from ltbench.runs.planning import why_not_applicable, why_not_self_excluded
from ltbench.splits.files import find_split
from ltbench.tables.measurements import base_name
from ltbench.tables.settings import recipe_of


def failed_cells(results: Path) -> dict[tuple[str, str], str]:
    """Return why runs failed: (method, split without seed) -> one line."""
    cells = {}
    for run in failed_runs(results):
        failure = read_failure(results, run)
        if failure is not None and failure.spec:
            key = (str(failure.spec.get("method")), base_name(str(failure.spec.get("split"))))
            cells[key] = f"failed: {failure.reason}"
    return cells


def inapplicable_cells(wanted: Iterable[tuple[str, str]], data_root: Path | None = None) -> dict[tuple[str, str], str]:
    """Return where methods cannot run: (method, split without seed) -> the method's reason.

    A split that can neither be found nor made here, and a method that is not installed, tell nothing.
    """
    cells = {}
    for method, base in wanted:
        try:
            reason = _why_not(method, base, data_root)
        except LtbenchError:
            continue
        if reason is not None:
            cells[method, base] = f"not applicable: {reason}"
    return cells


def _why_not(method: str, base: str, data_root: Path | None) -> str | None:
    """Return why a method cannot take a split; neither is looked at where there is nothing to speak against it."""
    info, recipe = method_info(method), recipe_of(base)
    is_self_excluded = recipe is not None and recipe.reading == "selfexcluded"
    if info.min_images == 1 and not is_self_excluded:
        return None
    split = find_split(base, lambda name: load_listing(name, data_root))
    reason = why_not_applicable(info, split)
    return why_not_self_excluded(method_class(method), split) if reason is None and is_self_excluded else reason
