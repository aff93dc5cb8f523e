"""All metrics by name. Every list of metrics (runs, tables, figures, report) reads `METRICS`, in its order.

A metric is added by a function, a line here and a test of the function; where a smaller value is better, the line says
so, and bold cells, tests of significance and sorting follow. A metric that few papers publish is a line of `REQUESTED`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ltbench.core import Protocol
from ltbench.metrics.ranking import Flags, RankingMetrics, Values, ranking_of_sorted, sorted_classes
from ltbench.metrics.region import aupro_of_sorted, split_pixels

Level = Literal["image", "pixel"]


@dataclass(frozen=True)
class Scored:
    """What the metrics of one category are computed from: scores of images, or of all pixels, by class.

    Args:
        positives: (P,) ascending scores of what is anomalous, P > 0.
        negatives: (N,) ascending scores of what is normal, N > 0.
        maps: (I, H, W) anomaly maps; None at the level of images.
        masks: (I, H, W) booleans, True = defect; None at the level of images.
        labels: (I,) True for an anomalous image; None at the level of images.
        limit: false-positive rate up to which AUPRO integrates.
        connectivity: 4 or 8, the neighbours that join two pixels to one region.
    """

    positives: Values
    negatives: Values
    maps: Values | None = None
    masks: Flags | None = None
    labels: Flags | None = None
    limit: float = 0.3
    connectivity: int = 8

    @classmethod
    def of(cls, scores: Values, labels: Flags) -> Scored:
        """Return the scores of images by class.

        Raises:
            UndefinedMetricError: one class only.
            ContractError: a score that is not finite.
        """
        return cls(*sorted_classes(scores[labels], scores[~labels], of="images"))

    @cached_property
    def ranking(self) -> RankingMetrics:
        """AUROC, AP and F1-max, from one pass."""
        return ranking_of_sorted(self.positives, self.negatives)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: its id; `{limit}` in it, and in the title, stands for the percentage up to which AUPRO integrates.
        title: what tables, figures and the report call it.
        level: what is ranked, images or pixels; a category without masks has no pixel metrics.
        compute: the value in [0, 1]. It may raise `UndefinedMetricError` with the reason why there is none.
        lower_is_better: whether 0 is the best value.
    """

    name: str
    title: str
    level: Level
    compute: Callable[[Scored], float]
    lower_is_better: bool = False

    def id(self, limit: float = 0.3) -> str:
        """Return the id under an AUPRO limit."""
        return self.name.format(limit=f"{100 * limit:g}")


def _aupro(of: Scored) -> float:
    assert of.maps is not None  # a pixel metric
    assert of.masks is not None
    return aupro_of_sorted(of.maps, of.masks, of.negatives, of.limit, of.connectivity)


def _defective_auroc(of: Scored) -> float:
    assert of.maps is not None  # a pixel metric
    assert of.masks is not None
    assert of.labels is not None
    return ranking_of_sorted(*split_pixels(of.maps[of.labels], of.masks[of.labels])).auroc


METRICS = (
    Metric("image_auroc", "Image AUROC", "image", lambda of: of.ranking.auroc),
    Metric("image_ap", "Image AP", "image", lambda of: of.ranking.ap),
    Metric("image_f1_max", "Image F1-max", "image", lambda of: of.ranking.f1_max),
    Metric("pixel_auroc", "Pixel AUROC", "pixel", lambda of: of.ranking.auroc),
    Metric("pixel_ap", "Pixel AP", "pixel", lambda of: of.ranking.ap),
    Metric("pixel_f1_max", "Pixel F1-max", "pixel", lambda of: of.ranking.f1_max),
    Metric("pixel_aupro_{limit}", "Pixel AUPRO-{limit}", "pixel", _aupro),
)

REQUESTED = (Metric("pixel_auroc_defective", "Pixel AUROC, defective images", "pixel", _defective_auroc),)
"""What a protocol with `defective_pixels` gives besides: MKD (arXiv:2011.11108) was published with it."""


def metrics_of(protocol: Protocol) -> tuple[Metric, ...]:
    """Return the metrics that runs under a protocol have."""
    return (*METRICS, *REQUESTED) if protocol.defective_pixels else METRICS


def metric_ids(limit: float = 0.3) -> tuple[str, ...]:
    """Return the metric ids of every run in the order of tables; AUPRO's says up to which percentage it integrates."""
    return tuple(metric.id(limit) for metric in METRICS)


def metric_titles(limit: float = 0.3) -> dict[str, str]:
    """Return every metric's title by its id."""
    return {metric.id(limit): metric.title.format(limit=f"{100 * limit:g}") for metric in (*METRICS, *REQUESTED)}


def is_lower_better(metric: str) -> bool:
    """Return whether the smaller of two values of a metric is the better one."""
    return any(own.lower_is_better for own in (*METRICS, *REQUESTED) if own.id() == metric)
