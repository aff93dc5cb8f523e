"""The draw of TailedCore's own generator (github.com/roomo7time/tailedcore), random number for random number.

It exists to repeat splits made with that generator. It draws from Python's and numpy's global generators in a fixed
sequence, so its result depends on the order in which the operating system lists the folders; the published splits were
made on an unknown order and can only be imported (`ltbench.splits.importers`). Here the generators are private ones
with the same seeds, which give the same numbers, files are sorted by path, and categories come in the given order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ltbench.core import Dataset, TrainImages
from ltbench.splits.noise import Contamination, capped
from ltbench.splits.profiles import TAIL_BELOW, Counts, groups_by_size, pareto_counts, pareto_masses, tail_size
from ltbench.splits.recipe import Recipe
from ltbench.splits.selection import Selection, defective_paths, k_shot_counts, train_paths


def select_as_authors(dataset: Dataset, recipe: Recipe, listing: Sequence[str]) -> Selection:
    """Return the images that TailedCore's generator draws.

    Args:
        dataset: where from.
        recipe: a "k" or "pareto" profile with a seed and noise.
        listing: the categories in the order in which the generator met them.
    """
    rng = random.Random(recipe.seed)
    listed = {category: train_paths(dataset, category) for category in listing}
    defective = {category: defective_paths(dataset, category) for category in listing}
    available = {category: len(paths) for category, paths in listed.items()}
    limits = {category: len(paths) for category, paths in defective.items()}
    if recipe.profile.kind == "k":
        tail = draw_tail(rng, listing)
        counts = k_shot_counts(recipe.profile.shots, tail, available)
        keeps = {category: counts[category] for category in tail}  # the generator prunes in the order of the draw
        asked = {c: round(recipe.noise_ratio * available[c]) for c in listing if c not in tail}
        high = tuple(category for category in dataset.categories if category not in tail)
        low = tuple(category for category in dataset.categories if category in tail)
    else:
        counts = keeps = _pareto(recipe.seed, available)
        asked = _walk(rng, counts, round(recipe.noise_ratio * sum(counts.values())))
        high, low = groups_by_size({category: counts[category] for category in dataset.categories})
    noise = capped(recipe, asked, limits) if recipe.noise_percent else Contamination()
    kept = listed | {category: _keep(rng, listed[category], count) for category, count in keeps.items()}
    drawn = {category: rng.sample(defective[category], count) for category, count in noise.used.items()}
    return Selection(high, low, _train(dataset.categories, kept, drawn), noise.capped)


def draw_tail(rng: random.Random, listing: Sequence[str]) -> list[str]:
    """Return the tail categories of a K-shot profile in the order in which they are drawn."""
    return rng.sample(list(listing), tail_size(len(listing)))


def _train(
    categories: Sequence[str], kept: Mapping[str, list[str]], drawn: Mapping[str, list[str]]
) -> dict[str, TrainImages]:
    return {c: TrainImages(tuple(sorted(kept[c])), tuple(sorted(drawn.get(c, ())))) for c in categories}


def _pareto(seed: int, available: Counts) -> dict[str, int]:
    masses = np.array(pareto_masses(len(available)))
    np.random.RandomState(seed).shuffle(masses)
    return pareto_counts(dict(zip(available, masses.tolist(), strict=True)), available)


def _walk(rng: random.Random, counts: Counts, total: int) -> dict[str, int]:
    """Return contaminants of each category, in the order in which the walk meets the categories.

    The generator's own walk does not stop when nothing is asked for; this one does.
    """
    images = [category for category, count in counts.items() for _ in range(count)]
    rng.shuffle(images)
    return dict(Counter([category for category in images if counts[category] >= TAIL_BELOW][:total]))


def _keep(rng: random.Random, paths: list[str], count: int) -> list[str]:
    """Return `count` random paths; the generator draws nothing where all are kept."""
    if len(paths) <= count:
        return paths
    shuffled = list(paths)
    rng.shuffle(shuffled)
    return shuffled[:count]
