"""Learning curves: performance on the test set after some epochs of a training, by which nothing was chosen."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ltbench.figures.series import Series, TooFewRunsError, axis_title, names_of, series_of, shared_title
from ltbench.figures.style import drawing, label_panels, legend_below, looks, panels
from ltbench.records.record import RunRecord
from ltbench.runs.examination import CURVE
from ltbench.tables.cells import GROUP_TITLES


def draw_learning(records: Sequence[RunRecord], metric: str = "image_auroc") -> Figure:
    """Draw High, Low and Avg against the epoch, a line a method and split, averaged where all runs have a point.

    Args:
        records: what to draw; those without a learning curve are left out.
        metric: metric id.

    Raises:
        SpecError: no record has a learning curve with this metric.
        UnknownNameError: an unknown metric.
    """
    label = axis_title(metric)
    series = series_of([record for record in records if record.notes.get(CURVE)])
    curves = {group: [curve_of(own, metric, group) for own in series] for group in GROUP_TITLES}
    if not any(any(own) for own in curves.values()):
        raise TooFewRunsError(f"Expected learning curves of {metric}, got none. Choose another metric.")
    with drawing():
        figure, axes = panels(len(GROUP_TITLES), sharey=True, height=3.3)
        names = names_of(series)
        look = looks(names)
        for panel, (group, title) in zip(axes, GROUP_TITLES.items(), strict=True):
            for points, name in zip(curves[group], names, strict=True):
                panel.plot(list(points), list(points.values()), label=name, **look[name].options())
            panel.set_title(title, fontsize=9)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        label_panels(axes, "epoch", label)
        figure.suptitle(shared_title(series), fontsize=9)
        legend_below(figure, axes[-1], columns=3)
    return figure


def curve_of(series: Series, metric: str, group: str) -> dict[int, float]:
    """Return epoch -> percent, mean over lists and seeds, at the epochs where every run has a number."""
    curves: list[dict[int, float]] = [
        {
            point["epoch"]: value
            for point in record.notes[CURVE]
            if (value := point["metrics"].get(metric, {}).get(group)) is not None
        }
        for record in series.records
    ]
    shared = sorted(set.intersection(*map(set, curves)))
    means = {epoch: series.mean_of([curve[epoch] for curve in curves]) for epoch in shared}
    return {epoch: mean for epoch, mean in means.items() if mean is not None}
