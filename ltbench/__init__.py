"""ltbench: a benchmark suite for long-tailed and noisy visual anomaly detection.

`ltbench.run`, `ltbench.load` and `ltbench.table` are what a notebook needs; they are imported when first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltbench.api import load, run, table

__version__ = "0.1.0"

__all__ = ["__version__", "load", "run", "table"]


def __getattr__(name: str) -> Any:
    """Return one of the functions of `ltbench.api`, imported when it is asked for."""
    if name in ("load", "run", "table"):
        from ltbench import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
