"""Score by category, sorted by size (LTAD, arXiv:2403.20236, figure 2b)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ltbench.figures.series import Series, TooFewRunsError, axis_title, names_of, series_of, shared_title, sizes
from ltbench.figures.style import drawing, legend_below, looks, panels
from ltbench.records.record import RunRecord


def draw_categories(records: Sequence[RunRecord], metric: str = "image_auroc") -> Figure:
    """Draw a line a method and split over the categories, the largest first; lists and seeds are averaged.

    Where the tail is another one in every seed or split, the axis is the rank by size instead of the category.

    Raises:
        SpecError: no record has the metric by category.
        UnknownNameError: an unknown metric.
    """
    label = axis_title(metric)
    series = series_of(records)
    orders = {_order(record) for record in records}
    with drawing():
        figure, (axes,) = panels(1, width=max(4.8, 0.42 * max(map(len, orders))), height=3.6)
        names = names_of(series)
        look = looks(names)
        drawn = 0
        for own, name in zip(series, names, strict=True):
            points = _points(own, metric)
            axes.plot(list(points), list(points.values()), label=name, **look[name].options())
            drawn += len(points)
        if not drawn:
            raise TooFewRunsError(f"Expected {metric} by category in the records, got none. Choose another --metric.")
        if len(orders) == 1:
            (order,) = orders
            first = sizes(records[0])
            same = len({tuple(sizes(record).items()) for record in records}) == 1
            ticks = [f"{category} ({first[category]})" if same else category for category in order]
            axes.set_xticks(range(len(order)), ticks, rotation=90)
            axes.set_xlabel("category (training images), the largest first" if same else "category, the largest first")
        else:
            axes.set_xlabel("rank of the category by training images, the largest first")
            axes.set_xticks(range(max(map(len, orders))), [str(1 + rank) for rank in range(max(map(len, orders)))])
        axes.set_ylabel(label)
        axes.set_title(shared_title(series), fontsize=9)
        legend_below(figure, axes, columns=3)
    return figure


def _order(record: RunRecord) -> tuple[str, ...]:
    """Return the categories, the largest first; the split's own order breaks ties."""
    own = sizes(record)
    return tuple(sorted(record.high + record.low, key=lambda category: -own[category]))


def _points(series: Series, metric: str) -> dict[int, float]:
    """Return rank -> mean over lists and seeds in percent of the category at that rank, where every run has one."""
    orders = [_order(record) for record in series.records]
    means = {}
    for rank in range(min(map(len, orders))):
        categories = [order[rank] for order in orders]
        mean = series.mean_of(
            [record.metrics.get(metric, {}).get(own) for record, own in zip(series.records, categories, strict=True)]
        )
        if mean is not None:
            means[rank] = mean
    return means
