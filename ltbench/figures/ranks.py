"""Critical-difference diagram: mean ranks of methods over splits, joined where a test does not tell them apart."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltbench.figures.series import series_of
from ltbench.figures.style import CAPTION_INCHES, CAPTION_LETTERS_AN_INCH, drawing
from ltbench.metrics.registry import is_lower_better
from ltbench.records.record import RunRecord
from ltbench.tables.cells import METRIC_TITLES
from ltbench.tables.comparison import check_metrics
from ltbench.tables.groups import group_title
from ltbench.tables.ranks import ALPHA, Ranking, rank

WIDTH, LINE, HEAD = 7.4, 0.24, 0.85
"""Inches: the figure, a method's line, and what stands above the lines."""

LONGEST = 30
"""Letters of a method's name and rank in a row."""

BAR = 0.35
"""The distance of two bars of methods that are not told apart, in lines."""


def ranking_of(records: Sequence[RunRecord], metric: str, group: str) -> Ranking:
    """Return the ranks of the methods of records over splits, each the mean over its lists and seeds.

    Raises:
        UnknownNameError: an unknown metric.
        SpecError: too few methods or splits.
    """
    check_metrics([metric])
    values: dict[str, dict[str, float]] = {}
    for own in series_of(records):
        mean = own.mean(metric, group)
        values.setdefault(own.method, {})
        if mean is not None:
            values[own.method][own.base] = mean
    return rank(values, lower_is_better=is_lower_better(metric))


def draw_ranks(records: Sequence[RunRecord], metric: str = "image_auroc", group: str = "avg") -> Figure:
    """Draw mean ranks over splits on a line, the best on the left; bars join methods that are not told apart.

    Raises:
        UnknownNameError: an unknown metric.
        SpecError: too few methods or splits.
    """
    ranking = ranking_of(records, metric, group)
    lines = math.ceil(len(ranking.ranks) / 2) * _rows(ranking)
    bars = len(ranking.cliques)
    caption = textwrap.wrap(_caption(ranking, metric, group), int(WIDTH * CAPTION_LETTERS_AN_INCH))
    height = HEAD + LINE * (lines + BAR * bars + 0.6) + CAPTION_INCHES * len(caption)
    with drawing():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        _draw_scale(axes, ranking)
        _draw_cliques(axes, ranking)
        _draw_methods(axes, ranking, 0.6 + BAR * bars)
        figure.supxlabel("\n".join(caption), fontsize=7, linespacing=1.3)
    return figure


def _draw_scale(axes: Axes, ranking: Ranking) -> None:
    """Draw the line of ranks and, above it, how long the critical difference is."""
    last = len(ranking.ranks)
    room = 0.45 * (last - 1)  # for the names at either side
    axes.set(xlim=(1 - room, last + room))
    axes.plot([1, last], [0, 0], color="black", linewidth=1)
    for tick in range(1, last + 1):
        axes.plot([tick, tick], [0, -0.18], color="black", linewidth=1)
        axes.text(tick, -0.3, str(tick), ha="center", va="bottom", fontsize=8)
    end = 1 + ranking.critical_difference
    axes.plot([1, 1, 1, end, end, end], [-1.5, -1.3, -1.4, -1.4, -1.3, -1.5], color="black", linewidth=1)
    axes.text((1 + end) / 2, -1.5, f"critical difference {ranking.critical_difference:.2f}", ha="center", va="bottom")


def _draw_cliques(axes: Axes, ranking: Ranking) -> None:
    for number, names in enumerate(ranking.cliques):
        ends = [ranking.ranks[names[0]] - 0.03, ranking.ranks[names[-1]] + 0.03]
        axes.plot(ends, [0.35 + BAR * number] * 2, color="#0072B2", linewidth=3, solid_capstyle="butt")


def _draw_methods(axes: Axes, ranking: Ranking, top: float) -> None:
    """Draw each method's name beside the line: the better half on the left, the others on the right."""
    last, rows = len(ranking.ranks), _rows(ranking)
    half = math.ceil(last / 2)
    for place, (name, mean) in enumerate(ranking.ranks.items()):
        is_left = place < half
        y = top + rows * ((place if is_left else last - 1 - place) + 0.5)
        edge = 1 - 0.04 * (last - 1) if is_left else last + 0.04 * (last - 1)
        axes.plot([mean, mean, edge], [0, y, y], color="#555555", linewidth=0.8)
        shown = textwrap.fill(f"{name}  {mean:.2f}" if is_left else f"{mean:.2f}  {name}", LONGEST)
        gap = -0.02 * (last - 1) if is_left else 0.02 * (last - 1)
        axes.text(edge + gap, y, shown, ha="right" if is_left else "left", va="center")
    axes.set_ylim(top + rows * half + 0.2, -2.4)


def _rows(ranking: Ranking) -> int:
    """Return how many rows the longest name takes."""
    return max(len(textwrap.wrap(f"{name}  0.00", LONGEST)) for name in ranking.ranks)


def _caption(ranking: Ranking, metric: str, group: str) -> str:
    """Return what is ranked, over which splits, and what the tests say."""
    told = (
        f"Bars join methods that Nemenyi's test does not tell apart (level {ALPHA:g})."
        if ranking.is_told_apart
        else f"It does not tell the methods apart at level {ALPHA:g}."
    )
    gaps = "; ".join(f"{split} (no {', '.join(names)})" for split, names in ranking.left_out.items())
    left = f" Left out: {gaps}." if gaps else ""
    return (
        f"Mean rank by {METRIC_TITLES[metric]}, {group_title(group)}, over {len(ranking.splits)} splits: "
        f"{', '.join(ranking.splits)}. Friedman's test: p = {ranking.p:.2g}. {told}{left}"
    )
