"""How many contaminants each category gets: defective test images that train as if they were good.

Contaminants come on top of a category's normal images and from the same category. Three public rules, by name:

- `tailedcore` (default): only head categories get any, round-half-even(ratio * n_c) each; under the Pareto profile
  round-half-even(ratio * sum n) in all, spread in proportion over the categories that keep at least 20 images. Capped
  at the defective images there are. Source: TailedCore's generator (github.com/roomo7time/tailedcore).
- `softpatch`: every category gets int(ratio * n_c), and it is an error when there are too few defective images.
  Source: SoftPatch (NeurIPS 2022), github.com/TencentYoutuResearch/AnomalyDetection-SoftPatch.
- `open-iad`: the same, but at most int(0.75 * defective images).
  Source: github.com/M-3LAB/open-iad, `data_io/noisy.py`.

TailedCore's contaminants stay in the test set, those of the other two leave it unless asked otherwise. Here the default
is to stay for every rule, and `_disjoint` says that they leave: `_noisy10_softpatch_disjoint` is SoftPatch's protocol.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ltbench.core import Split
from ltbench.errors import SpecError
from ltbench.splits.profiles import TAIL_BELOW, Counts
from ltbench.splits.ranking import ranked
from ltbench.splits.recipe import Recipe

OPEN_IAD_SHARE = Fraction(3, 4)
"""The largest share of a category's defective images that open-iad takes."""


@dataclass(frozen=True, slots=True)
class Contamination:
    """How many contaminants each category gets.

    Args:
        used: category -> contaminants.
        capped: category -> {"asked", "used"}, where a category has too few defective images.
    """

    used: Counts = field(default_factory=dict)
    capped: Mapping[str, Counts] = field(default_factory=dict)


def contamination(
    recipe: Recipe, kept: Mapping[str, Sequence[str]], high: Collection[str], defective: Counts
) -> Contamination:
    """Return how many contaminants each category gets under a recipe.

    Args:
        recipe: with the noise ratio and rule.
        kept: category -> paths of its normal training images.
        high: the head categories.
        defective: category -> defective test images.

    Raises:
        SpecError: the rule asks for more than there are (softpatch), or the ratio gives not a single contaminant.
    """
    if not recipe.noise_percent:
        return Contamination()
    limits = dict(defective)
    if recipe.noise_rule == "tailedcore":
        asked = _walk(recipe, kept) if recipe.profile.kind == "pareto" else _head_share(recipe, kept, high)
    else:
        asked = {category: int(recipe.noise_ratio * len(paths)) for category, paths in kept.items()}
        if recipe.noise_rule == "open-iad":
            limits = {category: int(OPEN_IAD_SHARE * count) for category, count in defective.items()}
        else:
            _require_enough(asked, defective)
    return capped(recipe, asked, limits)


def capped(recipe: Recipe, asked: Counts, limits: Counts) -> Contamination:
    """Return the contaminants asked for, no more than there are, and where that made a difference.

    Raises:
        SpecError: none is left in any category: such a split would be called noisy without being so.
    """
    used = {category: min(count, limits[category]) for category, count in asked.items()}
    if not any(used.values()):
        raise SpecError(
            f"Expected contaminants in split {recipe.name!r}, got none: {recipe.noise_percent} % of the images of each "
            "category that may get some is less than one, or no test image is defective. Raise or drop the noise."
        )
    differences = {c: {"asked": count, "used": used[c]} for c, count in asked.items() if count > used[c]}
    return Contamination(used, differences)


def _head_share(recipe: Recipe, kept: Mapping[str, Sequence[str]], high: Collection[str]) -> dict[str, int]:
    return {category: round(recipe.noise_ratio * len(paths)) for category, paths in kept.items() if category in high}


def _walk(recipe: Recipe, kept: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return shares as TailedCore draws them: walk the kept images in random order, count those of large categories."""
    total = round(recipe.noise_ratio * sum(len(paths) for paths in kept.values()))
    category_of = {p: category for category, paths in kept.items() if len(paths) >= TAIL_BELOW for p in paths}
    walked = Counter(category_of[path] for path in ranked(category_of, recipe.seed, "walk")[:total])
    return {category: walked[category] for category in kept if category in walked}


def _require_enough(asked: Counts, defective: Counts) -> None:
    for category, count in asked.items():
        if count > defective[category]:
            raise SpecError(
                f"Expected at least {count} defective test images of category {category!r} under noise rule softpatch, "
                f"got {defective[category]}. Lower the noise, or take rule tailedcore or open-iad, which cap it."
            )


def shortfalls(split: Split) -> list[str]:
    """Return a sentence for each category of a split that has fewer contaminants than its recipe asks for."""
    return [
        f"{category}: {counts['used']} contaminants of {counts['asked']} asked for (no more defective images)"
        for category, counts in sorted(split.recipe.get("capped", {}).items())
    ]
