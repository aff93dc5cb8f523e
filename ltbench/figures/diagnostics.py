"""What a tail sampler predicts against the truth, and what each memory of a method keeps."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ltbench.figures.series import TooFewRunsError
from ltbench.figures.style import COLOURS, drawing, panels, plain_log
from ltbench.records.inspection import diagnostics_of
from ltbench.records.record import RunRecord


def draw_diagnostics(record: RunRecord) -> Figure:
    """Draw the predicted against the true category sizes, and what each memory keeps, as far as the run noted them.

    Raises:
        SpecError: there is nothing to draw.
    """
    diagnostics = diagnostics_of(record)
    draws = {"sizes": _draw_sizes, "memories": _draw_memories}
    parts = [name for name in draws if name in diagnostics]
    if not parts:
        raise TooFewRunsError(f"Expected sizes or memories in the diagnostics of run {record.spec.hash}, got neither.")
    with drawing():
        figure, axes = panels(len(parts), width=4.8, height=4.4)
        for panel, name in zip(axes, parts, strict=True):
            draws[name](panel, diagnostics[name])
        figure.suptitle(f"{record.method.title} on {record.spec.split}", fontsize=9)
    return figure


def _draw_sizes(axes: Axes, sizes: dict[str, Any]) -> None:
    """Draw a line a category, the largest on top: its true size, and the sizes predicted for its images."""
    ordered = sorted(sizes.items(), key=lambda item: (item[1]["true"], item[0]))
    for place, (_, size) in enumerate(ordered):
        axes.plot([size["predicted_min"], size["predicted_max"]], [place, place], color=COLOURS[0], linewidth=1.2)
    places = range(len(ordered))
    medians = [size["predicted_median"] for _, size in ordered]
    axes.plot(medians, places, "o", color=COLOURS[0], label="predicted: median and range")
    axes.plot([size["true"] for _, size in ordered], places, "|", color="black", markersize=14, label="true")
    axes.set_yticks(places, [category for category, _ in ordered])
    axes.set(xscale="log", xlabel="images in the category")
    plain_log(axes.xaxis)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _draw_memories(axes: Axes, memories: dict[str, Any]) -> None:
    roles = ("head", "tail", "contaminant")
    width = 0.8 / len(memories)
    for number, (name, memory) in enumerate(sorted(memories.items())):
        heights = [memory[role]["patches_per_image"] or 0 for role in roles]
        places = [place + (number - (len(memories) - 1) / 2) * width for place in range(len(roles))]
        bars = axes.bar(places, heights, width, label=f"{name} memory", color=COLOURS[number])
        axes.bar_label(bars, [f"{height:.1f}" for height in heights], fontsize=7)
    axes.set_xticks(range(len(roles)), [f"{role} images" for role in roles])
    axes.set_ylabel("patches kept an image")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(memories))
    axes.margins(y=0.12)
