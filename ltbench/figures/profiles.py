"""Class-size profiles of splits (LTAD, arXiv:2403.20236, figures 2a and 8a-b)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ltbench.core import Split
from ltbench.errors import SpecError
from ltbench.figures.style import COLOURS, drawing, panels, plain_log


def draw_profiles(splits: Sequence[Split]) -> Figure:
    """Draw the training images of each category, the largest first, a panel a split; contaminants are hatched on top.

    The minority categories are lighter.

    Raises:
        SpecError: there is no split.
    """
    if not splits:
        raise SpecError("Expected splits, got none. Pass --split NAME.")
    with drawing():
        longest = max(len(split.train) for split in splits)
        figure, axes = panels(len(splits), width=max(2.6, 0.24 * longest), height=3.4, sharey=True)
        for place, (panel, split) in enumerate(zip(axes, splits, strict=True)):
            counts = split.counts
            order = sorted(counts, key=lambda own: (-sum(counts[own].values()), split.categories.index(own)))
            normal = [counts[category]["normal"] for category in order]
            contaminant = [counts[category]["contaminant"] for category in order]
            shades = [COLOURS[0] if category in split.high else COLOURS[4] for category in order]
            panel.bar(range(len(order)), normal, color=shades, width=0.8)
            bars = panel.bar(
                range(len(order)), contaminant, bottom=normal, color="white", edgecolor=COLOURS[1], hatch="////",
                linewidth=0.8, width=0.8,
            )  # fmt: skip
            for bar, category in zip(bars, order, strict=True):
                bar.set_visible(counts[category]["contaminant"] > 0)
            tops = [a + b for a, b in zip(normal, contaminant, strict=True)]
            for column, top in enumerate(tops):
                panel.annotate(str(top), (column, top), (0, 1), textcoords="offset points", ha="center", fontsize=6.5)
            panel.set_yscale("log")
            plain_log(panel.yaxis)
            panel.set_ylim(0.8, 1.5 * max(tops))
            panel.set_xticks(range(len(order)), order, rotation=90)
            panel.grid(axis="x", visible=False)
            panel.set_title(split.name, fontsize=9)
            if place == 0:
                panel.set_ylabel("training images")
        keys = [(COLOURS[0], "majority"), (COLOURS[4], "minority")]
        handles = [axes[0].bar([0], [0], color=colour, label=label) for colour, label in keys]
        if any(count["contaminant"] for split in splits for count in split.counts.values()):
            hatched = axes[0].bar([0], [0], color="white", edgecolor=COLOURS[1], hatch="////", label="contaminants")
            handles.append(hatched)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure
