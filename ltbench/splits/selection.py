"""ltbench's own draw: from a dataset and a recipe to the images that train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ltbench.core import Dataset, TrainImages
from ltbench.splits.noise import contamination
from ltbench.splits.profiles import (
    Counts,
    declining_counts,
    groups_by_size,
    halves,
    pareto_counts,
    pareto_masses,
    tail_size,
)
from ltbench.splits.ranking import ranked
from ltbench.splits.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Selection:
    """What a draw decides.

    Args:
        high: head categories, in class order.
        low: tail categories, in class order.
        train: category -> training images, sorted by path.
        capped: category -> {"asked", "used"} contaminants, where there were too few.
    """

    high: tuple[str, ...]
    low: tuple[str, ...]
    train: Mapping[str, TrainImages]
    capped: Mapping[str, Counts] = field(default_factory=dict)


def defective_paths(dataset: Dataset, category: str) -> list[str]:
    """Return the paths of the defective test images of a category, sorted."""
    return [sample.path for sample in dataset.test_of(category) if sample.is_anomalous]


def train_paths(dataset: Dataset, category: str) -> list[str]:
    """Return the paths of the published training images of a category, sorted."""
    return [sample.path for sample in dataset.train_of(category)]


def select(dataset: Dataset, recipe: Recipe) -> Selection:
    """Return the images that a recipe draws from a dataset.

    Every draw orders names by `ranking.ranked` and takes the first ones: normal images, contaminants, the tail of a
    K-shot profile, the sizes of a Pareto profile. The result does not depend on the order of the dataset's samples.
    """
    order = tuple(reversed(dataset.categories)) if recipe.reversed_order else dataset.categories
    listed = {category: train_paths(dataset, category) for category in order}
    counts, high, low = _counts(recipe, {category: len(paths) for category, paths in listed.items()})
    kept = {c: tuple(sorted(ranked(listed[c], recipe.seed, "normal")[: counts[c]])) for c in dataset.categories}
    defective = {category: defective_paths(dataset, category) for category in dataset.categories}
    noise = contamination(recipe, kept, high, {category: len(paths) for category, paths in defective.items()})
    train = {
        c: TrainImages(kept[c], tuple(sorted(ranked(defective[c], recipe.seed, "contaminant")[: noise.used.get(c, 0)])))
        for c in dataset.categories
    }
    return Selection(high, low, train, noise.capped)


def _counts(recipe: Recipe, available: Counts) -> tuple[dict[str, int], tuple[str, ...], tuple[str, ...]]:
    """Return how many normal images each category keeps, and the head and the tail."""
    profile = recipe.profile
    if profile.kind == "k":
        tail = ranked(available, recipe.seed, "tail")[: tail_size(len(available))]
        counts = k_shot_counts(profile.shots, tail, available)
        return counts, tuple(c for c in available if c not in tail), tuple(c for c in available if c in tail)
    if profile.kind == "pareto":
        order = ranked(available, recipe.seed, "size")
        masses = dict(zip(order, pareto_masses(len(order)), strict=True))
        counts = pareto_counts(masses, available)
        return counts, *groups_by_size(counts)
    return declining_counts(profile, available), *halves(tuple(available))


def k_shot_counts(shots: int, tail: list[str], available: Counts) -> dict[str, int]:
    """Return the counts of a K-shot profile: K images of a tail category, all of a head category."""
    return {category: min(shots, count) if category in tail else count for category, count in available.items()}
