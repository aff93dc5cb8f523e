"""Image and pixel metrics, exact: AUROC, AP, F1-max and AUPRO, by category and by group of categories."""

from __future__ import annotations

from ltbench.metrics.groups import (
    CategoryMetrics,
    GroupMetrics,
    aggregate,
    evaluate_category,
    image_scores,
    metric_ids,
)
from ltbench.metrics.ranking import UndefinedMetricError, ap, auroc, f1_max
from ltbench.metrics.region import PixelMetrics, aupro, pixel_metrics
from ltbench.metrics.streaming import PixelHistogram

__all__ = [
    "CategoryMetrics",
    "GroupMetrics",
    "PixelHistogram",
    "PixelMetrics",
    "UndefinedMetricError",
    "aggregate",
    "ap",
    "aupro",
    "auroc",
    "evaluate_category",
    "f1_max",
    "image_scores",
    "metric_ids",
    "pixel_metrics",
]
