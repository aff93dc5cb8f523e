"""Image and pixel metrics, exact: AUROC, AP, F1-max and AUPRO, by category and by group of categories."""

from __future__ import annotations

from ltbench.metrics.groups import (
    CategoryMetrics,
    GroupMetrics,
    aggregate,
    evaluate_category,
    image_scores,
)
from ltbench.metrics.ranking import UndefinedMetricError, ap, auroc, f1_max
from ltbench.metrics.region import PixelMetrics, aupro, pixel_metrics
from ltbench.metrics.registry import METRICS, Metric, Scored, is_lower_better, metric_ids, metric_titles
from ltbench.metrics.streaming import PixelHistogram

__all__ = [
    "METRICS",
    "CategoryMetrics",
    "GroupMetrics",
    "Metric",
    "PixelHistogram",
    "PixelMetrics",
    "Scored",
    "UndefinedMetricError",
    "aggregate",
    "ap",
    "aupro",
    "auroc",
    "evaluate_category",
    "f1_max",
    "image_scores",
    "is_lower_better",
    "metric_ids",
    "metric_titles",
    "pixel_metrics",
]
