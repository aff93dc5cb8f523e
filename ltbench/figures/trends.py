"""Performance against imbalance (LTAD, figure 8c-d) and against the share of contaminants (TailedCore's ablation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltbench.figures.series import TooFewRunsError, axis_title, series_of
from ltbench.figures.style import Look, drawing, label_panels, legend_below, looks, panels
from ltbench.figures.trend_lines import Axis, Line, Place, Trends, measured_trends, printed_trends, realised
from ltbench.records.record import RunRecord
from ltbench.tables.cells import GROUP_TITLES
from ltbench.tables.published import Published

_X_TITLES: Mapping[Axis, str] = {
    "imbalance": "imbalance: nominal for exp and step, else largest / smallest category",
    "noise": "contaminants (% of the head's normal images)",
}


def draw_imbalance(
    records: Sequence[RunRecord], metric: str = "image_auroc", published: Sequence[Published] = ()
) -> Figure:
    """Draw High, Low and Avg against the imbalance.

    A line is a method and a kind of profile (exp, step, k, pareto), in one order of the classes, with one share, rule
    and place of contaminants, of one draw; the split with all images belongs to each profile. Profiles exp and step
    stand at the imbalance that they ask for, as published numbers do, with the split of all images at 1; the caption
    says what their splits have. Others stand at normal images of the largest over those of the smallest category.

    Args:
        records: what to draw.
        metric: metric id.
        published: published numbers on exp and step splits, drawn hollow and dotted.

    Raises:
        SpecError: no line has two points, or a line has two values at one place.
        UnknownNameError: an unknown metric.
    """
    return _draw(records, metric, published, "imbalance")


def draw_noise(
    records: Sequence[RunRecord], metric: str = "image_auroc", published: Sequence[Published] = ()
) -> Figure:
    """Draw High, Low and Avg against the share of contaminants.

    A line is a method and a profile, in one order of the classes, with one rule and place of contaminants, of one draw;
    the split without contaminants belongs to each rule and place.

    Args:
        records: what to draw.
        metric: metric id.
        published: published numbers on the same profiles, drawn hollow and dotted.

    Raises:
        SpecError: no line has two points, or a line has two values at one place.
        UnknownNameError: an unknown metric.
    """
    return _draw(records, metric, published, "noise")


def _draw(records: Sequence[RunRecord], metric: str, published: Sequence[Published], axis: Axis) -> Figure:
    label = axis_title(metric)
    series = series_of(records)
    measured, printed = measured_trends(series, axis, metric), printed_trends(published, axis, metric)
    lines, hollow = measured.drawn(), printed.drawn()
    datasets = list(dict.fromkeys(dataset for dataset, _ in [*lines, *hollow]))
    if not lines and not hollow:
        raise TooFewRunsError(
            "Expected runs of one method at two or more points of the axis, got none. Run it on more splits, or see "
            "which are there with `ltbench table`."
        )
    with drawing():
        figure, axes = panels(len(GROUP_TITLES), sharey=True, height=3.3)
        look = looks(sorted({*lines, *hollow}))
        for panel, (group, title) in zip(axes, GROUP_TITLES.items(), strict=True):
            for line, points in lines.items():
                _plot(panel, points, group, _name(line, datasets), look[line])
            for line, points in hollow.items():
                name = f"{_name(line, datasets)}, published"
                _plot(panel, points, group, name, look[line], linestyle=":", markerfacecolor="white")
            panel.set_title(title, fontsize=9)
            _scale(panel, axis, [x for points in (*lines.values(), *hollow.values()) for x in points])
        label_panels(axes, _X_TITLES[axis], label)
        told = realised(series) if axis == "imbalance" else ""
        legend_below(figure, axes[-1], columns=3, caption=_caption(datasets, told, measured, printed))
    return figure


def _plot(panel: Axes, points: Mapping[float, Place], group: str, label: str, look: Look, **more: object) -> None:
    there = [(x, values[group]) for x, values in sorted(points.items()) if group in values]
    if there:
        panel.plot([x for x, _ in there], [y for _, y in there], label=label, **(look.options() | more))


def _scale(panel: Axes, axis: Axis, places: Sequence[float]) -> None:
    if axis == "imbalance":
        panel.set_xscale("log")
        ticks = sorted({round(x) for x in places})
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()


def _name(line: Line, datasets: Sequence[str]) -> str:
    """Return what a line is called: with its data set where there are several, or where it is not the drawn one."""
    dataset, text = line
    return text if list(datasets) == [dataset] else f"{text}, {dataset}"


def _caption(datasets: Sequence[str], told: str, measured: Trends, printed: Trends) -> str:
    """Return what the lines are of, what imbalance the splits have, and what is not drawn."""
    single = [_name(line, datasets) for line in measured.single()]
    single += [f"{_name(line, datasets)}, published" for line in printed.single()]
    sentences = [
        ", ".join(datasets),
        f"Realised imbalance, largest / smallest category in normal images: {told}" if told else "",
        "; ".join(f"{_name(line, datasets)}: {note}" for line, note in measured.notes),
        f"Not drawn, of one point: {'; '.join(single)}" if single else "",
    ]
    return " ".join(f"{sentence}." for sentence in sentences if sentence)
