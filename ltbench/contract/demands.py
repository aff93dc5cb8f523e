"""What checks demand: a condition, or that two predictions are the same."""

from __future__ import annotations

import numpy as np

from ltbench.core import Prediction
from ltbench.errors import ContractError


def require(kept: object, reason: str) -> None:
    """Raise `ContractError` with the reason unless a condition holds."""
    if not kept:
        raise ContractError(reason)


def require_equal(got: Prediction, wanted: Prediction, after: str) -> None:
    """Raise `ContractError` unless two predictions are the same to the last bit.

    Args:
        got: a prediction.
        wanted: what it has to be.
        after: what may not have changed it, in words.
    """
    difference = max(
        float(np.abs(got.scores - wanted.scores).max(initial=0)), float(np.abs(got.maps - wanted.maps).max(initial=0))
    )
    require(difference == 0, f"{after} changed scores or maps by up to {difference:.3g}")
