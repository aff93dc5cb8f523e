"""Anomaly maps over test images, several methods side by side (LTAD, arXiv:2403.20236, figure 7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from ltbench.core import GOOD, Dataset
from ltbench.errors import SpecError
from ltbench.figures.examples import OUTSIDE, Example, SavedMaps, picture_of
from ltbench.figures.series import names_of, series_of
from ltbench.figures.style import drawing

OUTLINE = (0, 255, 255)
"""Cyan, which neither the colour map nor most objects have."""
STRENGTH = 0.55
"""Share of the map's colour in an overlay."""

Picture = NDArray[np.uint8]


def outlined(image: Picture, mask: NDArray[np.bool_] | None) -> Picture:
    """Return an image with the outside edge of the defect, two pixels wide, in `OUTLINE`."""
    if mask is None or not mask.any():
        return image
    edge = binary_dilation(mask, iterations=2) & ~mask
    return np.where(edge[..., None], np.array(OUTLINE, np.uint8), image).astype(np.uint8)


def overlay(image: Picture, scaled: NDArray[np.float32]) -> Picture:
    """Return an image under its map, scaled to 0 to 1, from dark (cold) to yellow (hot)."""
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    colours = np.asarray(colormaps["inferno"](scaled))[..., :3] * 255
    return np.asarray((1 - STRENGTH) * grey + STRENGTH * colours).astype(np.uint8)


def panels_of(example: Example, dataset: Dataset, runs: Sequence[SavedMaps]) -> list[tuple[str, Picture | None]]:
    """Return the image, the defect's outline, and an overlay a run, each with its title; None if it was not tested."""
    image, mask = picture_of(dataset, runs[0].record, example.path)
    panels: list[tuple[str, Picture | None]] = [("image", image), ("defect", outlined(image, mask))]
    for name, run in zip(run_names(runs), runs, strict=True):
        scaled = run.map_of(example.path)
        own = image if run is runs[0] else picture_of(dataset, run.record, example.path)[0]
        panels.append((name, None if scaled is None else overlay(own, scaled)))
    return panels


def told_of(example: Example, dataset: Dataset, runs: Sequence[SavedMaps]) -> str:
    """Return what is said of an example, and that its defect lies outside the crop of the first run's protocol."""
    mask = picture_of(dataset, runs[0].record, example.path)[1]
    is_cropped = runs[0].record.spec.protocol.crop is not None
    is_outside = is_cropped and example.defect_type != GOOD and mask is not None and not mask.any()
    return f"{example.title}, {OUTSIDE}" if is_outside else example.title


def run_names(runs: Sequence[SavedMaps]) -> list[str]:
    """Return what each run is called: by method or split, and by its hash where both are shared."""
    series = series_of([run.record for run in runs])
    names = dict[str, str]()
    for own, name in zip(series, names_of(series), strict=True):
        for record in own.records:
            names[record.spec.hash] = name if len(own.records) == 1 else f"{name} {record.spec.hash[:6]}"
    return [names[run.record.spec.hash] for run in runs]


def draw_heatmaps(examples: Sequence[Example], dataset: Dataset, runs: Sequence[SavedMaps]) -> Figure:
    """Draw a row an example: image, outline of the defect, and the map of each run over the image.

    Raises:
        SpecError: there is no example.
    """
    if not examples:
        raise SpecError("Expected images to draw, got none: the run has no miss and no false alarm, or no defect.")
    with drawing():
        columns = 2 + len(runs)
        figure = Figure(figsize=(1.7 * columns, 0.3 + 1.95 * len(examples)), layout="constrained")
        grid = figure.subplots(len(examples), columns, squeeze=False)
        for number, (row, example) in enumerate(zip(grid, examples, strict=True)):
            for axes, (title, picture) in zip(row, panels_of(example, dataset, runs), strict=True):
                if picture is None:
                    axes.text(0.5, 0.5, "not in its\ntest set", ha="center", va="center", fontsize=8)
                else:
                    axes.imshow(picture, interpolation="nearest")
                axes.set_axis_off()
                if number == 0:
                    axes.set_title(title, fontsize=8)
            told = row[0].text(
                0, -0.04, told_of(example, dataset, runs), transform=row[0].transAxes, fontsize=7, va="top"
            )
            told.set_in_layout(False)  # it runs below the whole row
        figure.set_layout_engine("constrained", hspace=0.12)
    return figure
