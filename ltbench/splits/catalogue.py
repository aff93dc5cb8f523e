"""The splits of the papers, as recipes: `ltbench make-splits --all` writes them all.

Those of MVTec AD and VisA are committed under `splits/`; which images of DAGM are good stands in its labels alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ltbench.errors import UnknownNameError
from ltbench.splits.recipe import Profile, Recipe

NOISE_PERCENT = {"mvtec": 10, "visa": 5}
"""Contaminants in the noisy splits: the setting of TailedCore's tables, which has these datasets alone."""

DECLINES = {
    "mvtec": ("full", "exp100", "exp200", "step100", "step200"),
    "visa": ("full", "exp100", "exp200", "exp500", "step100", "step200", "step500"),
    "dagm": ("full", "exp50", "exp100", "exp200", "exp500", "step50", "step100", "step200", "step500"),
}
"""LTAD's profiles (arXiv:2403.20236, tables 2 to 5), and all images for comparison; seed 0."""

REVERSED = {"dagm": ("exp100", "exp200", "exp500", "step100", "step200", "step500")}
"""Those that LTAD also has in reversed class order (figure 8)."""

DRAWN = ("pareto", "k4", "k1")
"""TailedCore's profiles (CVPR 2025)."""

DRAWN_SEEDS = range(1, 6)


def catalogue(dataset: str | None = None) -> list[Recipe]:
    """Return the recipes of the papers' splits of a dataset, or of all.

    Raises:
        UnknownNameError: no paper has splits of that dataset.
    """
    if dataset is not None and dataset not in DECLINES:
        raise UnknownNameError("dataset with splits of the papers", dataset, DECLINES)
    return [recipe for name in DECLINES if dataset in (None, name) for recipe in _recipes(name)]


def _recipes(dataset: str) -> Iterator[Recipe]:
    noise = NOISE_PERCENT.get(dataset)
    for text in DECLINES[dataset]:
        clean = Recipe(dataset, Profile.parse(text))
        yield clean
        if noise is not None:
            yield replace(clean, noise_percent=noise)
    for text in REVERSED.get(dataset, ()):
        yield Recipe(dataset, Profile.parse(text), reversed_order=True)
    if noise is not None:
        for text in DRAWN:
            for seed in DRAWN_SEEDS:
                yield Recipe(dataset, Profile.parse(text), noise_percent=noise, seed=seed)
