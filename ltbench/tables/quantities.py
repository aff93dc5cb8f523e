"""What the numbers of a column are: a metric in percent, or what a run took in seconds or memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ltbench.errors import SpecError, UnknownNameError
from ltbench.metrics.registry import is_lower_better
from ltbench.tables.cells import METRIC_TITLES, Cell, Precision

RUN = "run"
"""The group of what is measured of a run as a whole, and not of its categories."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """How the numbers of a column are printed.

    Args:
        title: what headings call it, with its unit unless that is percent.
        digits: decimals, unless a table sets those of percentages.
        is_resource: whether it is what a run took, and so has one value a run and no groups.
    """

    title: str
    digits: int = 2
    is_resource: bool = False

    @property
    def scale(self) -> int:
        """What a stored value is multiplied with to be printed: 100 where it is a share."""
        return 1 if self.is_resource else 100


RESOURCES = {
    "fit_seconds": Quantity("Fit (s)", 1, is_resource=True),
    "predict_seconds": Quantity("Predict (s)", 1, is_resource=True),
    "peak_memory_mib": Quantity("Peak memory (MiB)", 0, is_resource=True),
}
"""What a run took, by the names of `RunRecord.resources`."""

QUANTITIES = {name: Quantity(title) for name, title in METRIC_TITLES.items()} | RESOURCES
"""All that a column can hold, metrics first."""


def is_lowest_best(name: str) -> bool:
    """Return whether the smallest value of a metric or resource is the best."""
    return name in RESOURCES or is_lower_better(name)


def check_quantities(names: Iterable[str]) -> None:
    """Raise unless there is a name and each is a metric or a resource.

    Raises:
        UnknownNameError: an unknown name; the nearest one is offered.
        SpecError: there is none.
    """
    wanted = list(names)
    for name in wanted:
        if name not in QUANTITIES:
            raise UnknownNameError("metric", name, QUANTITIES)
    if not wanted:
        raise SpecError(f"Expected metrics, got none. Known: {', '.join(QUANTITIES)}.")


def printed_with(precision: Precision, cells: Sequence[Cell], metric: str) -> list[Cell]:
    """Return the cells of a column as exact as a table prints them; seconds and MiB keep their own decimals."""
    own = QUANTITIES[metric]
    digits = own.digits if own.is_resource else precision.digits
    return [replace(cell, digits=digits, std=cell.std if precision.has_std else None) for cell in cells]
