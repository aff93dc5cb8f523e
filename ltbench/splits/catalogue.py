"""The splits that are committed under `splits/`, as recipes: `ltbench make-splits --all` writes them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ltbench.errors import UnknownNameError
from ltbench.splits.recipe import Profile, Recipe

NOISE_PERCENT = {"mvtec": 10, "visa": 5}
"""Contaminants in the committed noisy splits: the setting of TailedCore's tables."""

DECLINES = {
    "mvtec": ("full", "exp100", "exp200", "step100", "step200"),
    "visa": ("full", "exp100", "exp200", "exp500", "step100", "step200", "step500"),
}
"""LTAD's profiles (arXiv:2403.20236, tables 3 and 4), and all images for comparison; seed 0."""

DRAWN = ("pareto", "k4", "k1")
"""TailedCore's profiles (CVPR 2025)."""

DRAWN_SEEDS = range(1, 6)


def catalogue(dataset: str | None = None) -> list[Recipe]:
    """Return the recipes of the committed splits of a dataset, or of all.

    Raises:
        UnknownNameError: no splits of that dataset are committed.
    """
    if dataset is not None and dataset not in NOISE_PERCENT:
        raise UnknownNameError("dataset with committed splits", dataset, NOISE_PERCENT)
    return [recipe for name in NOISE_PERCENT if dataset in (None, name) for recipe in _recipes(name)]


def _recipes(dataset: str) -> Iterator[Recipe]:
    noise = NOISE_PERCENT[dataset]
    for text in DECLINES[dataset]:
        clean = Recipe(dataset, Profile.parse(text))
        yield clean
        yield replace(clean, noise_percent=noise)
    for text in DRAWN:
        for seed in DRAWN_SEEDS:
            yield Recipe(dataset, Profile.parse(text), noise_percent=noise, seed=seed)
