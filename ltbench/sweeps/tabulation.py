"""From a results folder to a table: the finished runs, why cells are empty, and a published layout if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltbench.records.record import stream_records
from ltbench.sweeps.gaps import failed_cells, inapplicable_cells
from ltbench.tables.cells import USUAL, Placement, Precision, Table
from ltbench.tables.comparison import make_table
from ltbench.tables.groups import counted, parse_groups
from ltbench.tables.layouts import layout_named
from ltbench.tables.measurements import measure
from ltbench.tables.paper import fill, table_of, wanted_cells
from ltbench.tables.published import published_numbers
from ltbench.tables.quantities import check_quantities

METRICS = ("image_auroc", "pixel_auroc")
"""What a table shows by default."""


def tabulate(
    results: Path,
    problems: list[str],
    *,
    paper: str | None = None,
    published: Placement = "beside",
    dataset: str | None = None,
    splits: Sequence[str] = (),
    metrics: Sequence[str] = (),
    group: str | None = None,
    significance: bool = False,
    precision: Precision = USUAL,
) -> Table:
    """Return the table of all finished runs, or a published table with the runs in it.

    Args:
        results: the results folder.
        problems: gets a message for each record that cannot be read.
        paper: a layout ("ltad-3"), or None.
        published: where the paper's numbers stand.
        dataset: only splits of this one; with `paper`, in place of the paper's.
        splits: only these; with `paper`, in place of the paper's.
        metrics: their ids; `METRICS`, or the paper's, by default.
        group: means over categories, as `parse_groups` reads them; `avg`, or the paper's, by default.
        significance: whether bold is all that a paired test cannot tell from the best.
        precision: how numbers are printed.

    Raises:
        UnknownNameError: no such layout or metric.
        SpecError: groups that cannot be read.
    """
    check_quantities(metrics or METRICS)
    ranges = () if group is None else counted(parse_groups(group))
    if paper is None:
        runs = measure(stream_records(results, problems), list(metrics or METRICS), dataset, ranges)
        return make_table(
            runs, splits=splits, metrics=metrics or METRICS, group=group or "avg", significance=significance,
            reasons=failed_cells(results), precision=precision,
        )  # fmt: skip
    layout = layout_named(paper)
    runs = measure(stream_records(results, problems), list(metrics or layout.metrics), None, ranges)
    reasons = inapplicable_cells(wanted_cells(layout, dataset, splits)) | failed_cells(results)
    filled = fill(
        layout, runs, published_numbers(), dataset=dataset, splits=splits, metrics=metrics, group=group, reasons=reasons
    )
    return table_of(filled, placement=published, significance=significance, name=paper, precision=precision)
