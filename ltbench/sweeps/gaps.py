"""Why cells of tables are empty: runs that failed, and methods that cannot train on a split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ltbench.contract.registry import method_info
from ltbench.datasets.index import load_listing
from ltbench.errors import LtbenchError
from ltbench.records.failures import failed_runs, read_failure
from ltbench.runs.planning import why_not_applicable
from ltbench.splits.files import find_split
from ltbench.tables.measurements import base_name


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
    """Return where methods cannot train: (method, split without seed) -> the method's reason.

    A split that can neither be found nor made here, and a method that is not installed, tell nothing.
    """
    cells = {}
    for method, base in wanted:
        try:
            info = method_info(method)
            if info.min_images > 1:
                reason = why_not_applicable(info, find_split(base, lambda name: load_listing(name, data_root)))
                if reason is not None:
                    cells[method, base] = f"not applicable: {reason}"
        except LtbenchError:
            continue
    return cells
