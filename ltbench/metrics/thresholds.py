"""Thresholds on image scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def f1_threshold(scores: NDArray[np.float64], is_anomalous: NDArray[np.bool_]) -> float:
    """Return the threshold of the largest F1, the highest of equal ones; at or above it an image is anomalous."""
    thresholds = np.unique(scores)[::-1]
    true = np.array([np.sum(is_anomalous & (scores >= threshold)) for threshold in thresholds])
    flagged = np.array([np.sum(scores >= threshold) for threshold in thresholds])
    return float(thresholds[np.argmax(2 * true / (flagged + is_anomalous.sum()))])
