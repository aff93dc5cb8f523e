"""Performance against imbalance (LTAD, figure 8c-d) and against the share of contaminants (TailedCore's ablation)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from ltbench.errors import LtbenchError, SpecError
from ltbench.figures.series import Series, axis_title, series_of
from ltbench.figures.style import drawing, legend_below, looks, panels
from ltbench.records.record import RunRecord
from ltbench.splits.recipe import Recipe, parse_name
from ltbench.tables.cells import GROUP_TITLES
from ltbench.tables.published import Published

Points = dict[str, dict[str, dict[float, float]]]
"""Line -> group -> x -> percent."""


def draw_imbalance(
    records: Sequence[RunRecord], metric: str = "image_auroc", published: Sequence[Published] = ()
) -> Figure:
    """Draw High, Low and Avg against the imbalance: normal images of the largest over those of the smallest category.

    A line is a method and a kind of profile (exp, step, k, pareto), at one share of contaminants; the split with all
    images belongs to each of them.

    Args:
        records: what to draw.
        metric: metric id.
        published: published numbers on exp and step splits, drawn hollow and dotted.

    Raises:
        SpecError: no line has two points.
        UnknownNameError: an unknown metric.
    """
    every = series_of(records)
    members: dict[str, list[Series]] = defaultdict(list)
    for series in every:
        kinds = [_kind(series)]
        if kinds == ["full"]:
            kinds = sorted({_kind(other) for other in every if _noise(other) == _noise(series)} - {"full"})
        for kind in kinds:
            members[_joined(series.method, kind, _noise(series))].append(series)
    measured = _points(members, metric, lambda series: series.imbalance)
    printed = _printed(published, metric, lambda recipe: recipe.profile.number, ("exp", "step"))
    return _draw(measured, printed, metric, "imbalance: largest / smallest category", log=True)


def draw_noise(
    records: Sequence[RunRecord], metric: str = "image_auroc", published: Sequence[Published] = ()
) -> Figure:
    """Draw High, Low and Avg against the share of contaminants; a line is a method and a profile.

    Args:
        records: what to draw.
        metric: metric id.
        published: published numbers on the same profiles, drawn hollow and dotted.

    Raises:
        SpecError: no line has two points.
        UnknownNameError: an unknown metric.
    """
    members: dict[str, list[Series]] = defaultdict(list)
    for series in series_of(records):
        recipe = series.first.recipe
        customs = ["disjoint"] * bool(recipe.get("disjoint"))
        members[_joined(series.method, str(recipe.get("profile", series.base)), *customs)].append(series)
    measured = _points(members, metric, lambda series: float(series.first.recipe.get("noise_percent", 0)))
    kinds = ("pareto", "k", "exp", "step", "full")
    printed = _printed(published, metric, lambda recipe: recipe.noise_percent, kinds)
    return _draw(measured, printed, metric, "contaminants (% of the head's normal images)", log=False)


def _draw(measured: Points, printed: Points, metric: str, x_title: str, *, log: bool) -> Figure:
    lines = {name: groups for name, groups in measured.items() if any(len(own) > 1 for own in groups.values())}
    if not lines and not printed:
        raise SpecError(
            "Expected runs of one method at two or more points of the axis, got none. Run it on more splits, or see "
            "which are there with `ltbench table`."
        )
    label = axis_title(metric)
    with drawing():
        figure, axes = panels(len(GROUP_TITLES), sharey=True, height=3.3)
        look = looks(sorted({*lines, *printed}))
        for panel, (group, title) in zip(axes, GROUP_TITLES.items(), strict=True):
            for name, groups in sorted(lines.items()):
                points = sorted(groups[group].items())
                panel.plot([x for x, _ in points], [y for _, y in points], label=name, **look[name].options())
            for name, groups in sorted(printed.items()):
                points = sorted(groups[group].items())
                style = look[name].options() | {"linestyle": ":", "markerfacecolor": "white"}
                panel.plot([x for x, _ in points], [y for _, y in points], label=f"{name}, published", **style)
            panel.set_title(title, fontsize=9)
            panel.set_xscale("log" if log else "linear")
            if log:
                ticks = sorted({round(x) for groups in lines.values() for own in groups.values() for x in own})
                panel.set_xticks(ticks, [str(tick) for tick in ticks])
                panel.minorticks_off()
        axes[0].set_ylabel(label)
        axes[1].set_xlabel(x_title)
        legend_below(figure, axes[-1], columns=3)
    return figure


def _nested() -> Points:
    return defaultdict(lambda: defaultdict(dict))


def _points(members: Mapping[str, Sequence[Series]], metric: str, place: Callable[[Series], float]) -> Points:
    """Return the points of each line, over the seeds that all its points have, if there is such a seed.

    Another seed of a k or pareto split has another tail, which would show as a bend of the line.
    """
    points: Points = _nested()
    for name, own in members.items():
        common = set.intersection(*({_seeds(record) for record in series.records} for series in own))
        for series in own:
            kept = tuple(record for record in series.records if not common or _seeds(record) in common)
            fair = replace(series, records=kept)
            for group in GROUP_TITLES:
                value = fair.mean(metric, group)
                if value is not None:
                    points[name][group][place(fair)] = value
    return points


def _seeds(record: RunRecord) -> tuple[int, int]:
    return (record.split_seed, record.spec.seed)


def _kind(series: Series) -> str:
    return re.sub(r"[0-9.]+$", "", str(series.first.recipe.get("profile", series.base)))


def _noise(series: Series) -> str:
    percent = series.first.recipe.get("noise_percent", 0)
    return f"{percent} % contaminants" if percent else ""


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _printed(
    cells: Sequence[Published], metric: str, place: Callable[[Recipe], float | None], kinds: Sequence[str]
) -> Points:
    points: Points = _nested()
    for cell in cells:
        try:
            recipe = parse_name(cell.split)
        except LtbenchError:  # the split of a paper that ltbench has no recipe for
            continue
        x = place(recipe)
        if cell.metric != metric or cell.value is None or x is None or recipe.profile.kind not in kinds:
            continue
        kind = recipe.profile.kind if place(recipe) == recipe.profile.number else str(recipe.profile)
        points[_joined(cell.method, kind)][cell.group][float(x)] = cell.value
    return {name: groups for name, groups in points.items() if _is_line(groups)}


def _is_line(groups: Mapping[str, Mapping[float, float]]) -> bool:
    return any(len(own) > 1 for own in groups.values())
