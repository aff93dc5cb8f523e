"""How many training images each category keeps, and which categories are the head and the tail.

Everything here works on counts: category -> available training images, in class order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from ltbench.errors import SpecError
from ltbench.splits.recipe import Profile

Counts = Mapping[str, int]
"""Category -> number of images."""

TAIL_BELOW = 20
"""A category with fewer training images is a tail category in TailedCore's protocol (CVPR 2025), and under its Pareto
profile it gets no contaminants."""

TAIL_SHARE = Fraction(3, 5)
"""Share of the categories that are the tail of a K-shot profile (TailedCore's generator)."""

PARETO_ALPHA = 6.0
PARETO_EPSILON = 0.01
PARETO_LEAST = 5
"""Shape of the density, probability cut off at either end, and the fewest images a category keeps (same source)."""


def halves(order: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the majority and the minority half of the class order: 7 and 8 of MVTec's 15 categories.

    LTAD's tables give the 7: Avg = (7 High + 8 Low) / 15 holds for all their MVTec rows. A single category is high.
    """
    cut = max(1, len(order) // 2)
    return tuple(order[:cut]), tuple(order[cut:])


def groups_by_size(counts: Counts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the categories with at least 20 training images, and the others, in class order.

    Where all fall on one side there is no tail by that rule; then the larger half is high, so that a comparison of
    head and tail still says something.
    """
    high = tuple(category for category, count in counts.items() if count >= TAIL_BELOW)
    if not high or len(high) == len(counts):
        high, _ = halves(sorted(counts, key=lambda category: -counts[category]))  # stable: class order breaks ties
    return (
        tuple(category for category in counts if category in high),
        tuple(category for category in counts if category not in high),
    )


def declining_counts(profile: Profile, available: Counts) -> dict[str, int]:
    """Return the counts of a "full", "exp" or "step" profile.

    With C categories, the first of which has c = 0, and n_max the largest category's images:
    exp: n_c = min(available, floor(n_max * beta^(-c / (C - 1)))); step: min(available, n_max) in the majority half and
    min(available, floor(n_max / beta)) in the other. Source: LTAD (arXiv:2403.20236), Table 2; the floor follows
    from its tables, where MVTec at beta 200 leaves one image (391 / 200 = 1.96).

    Raises:
        SpecError: the smallest category would keep no image, or there is a single category.
    """
    if profile.kind == "full":
        return dict(available)
    n_max, last = max(available.values()), len(available) - 1
    if not last:
        raise SpecError(f"Expected at least 2 categories for profile {profile}, got 1. Use profile full.")
    if profile.imbalance > n_max:
        raise SpecError(
            f"Expected an imbalance that leaves the smallest category an image, got {profile}, when the largest has "
            f"{n_max} images. The largest possible imbalance is {n_max}."
        )
    if profile.kind == "exp":
        targets = [exponential(n_max, profile.imbalance, c, last) for c in range(last + 1)]
    else:
        high, low = halves(tuple(available))
        targets = [n_max] * len(high) + [int(n_max / profile.imbalance)] * len(low)
    return {category: min(count, target) for (category, count), target in zip(available.items(), targets, strict=True)}


def exponential(n_max: int, beta: Fraction, c: int, last: int) -> int:
    """Return floor(n_max * beta^(-c / last)).

    It is the largest n with n^last * beta^c <= n_max^last, which integers decide exactly; floating point could fall
    on either side where the power is a whole number (320 * 64^(-5/6) = 10 gives 9).
    """
    bound = n_max**last * beta.denominator**c
    return bisect_right(range(n_max + 1), bound, key=lambda n: n**last * beta.numerator**c) - 1


def tail_size(categories: int) -> int:
    """Return how many categories a K-shot profile makes the tail: round(0.6 C), 9 of 15 and 7 of 12.

    Raises:
        SpecError: there is a single category.
    """
    if categories < 2:
        raise SpecError(f"Expected at least 2 categories for a K-shot profile, got {categories}. Use profile full.")
    return round(TAIL_SHARE * categories)


def pareto_masses(categories: int) -> list[float]:
    """Return the share of each category under the Pareto profile, the largest first.

    The mass of a Pareto density with x_min = 1, F(x) = 1 - x^-6, on as many cells of equal width as there are
    categories, between its 1 % and 99 % quantiles. Source: TailedCore's generator (github.com/roomo7time/tailedcore).
    """
    low = (1 - PARETO_EPSILON) ** (-1 / PARETO_ALPHA)
    high = PARETO_EPSILON ** (-1 / PARETO_ALPHA)
    grid = [low + (high - low) * i / categories for i in range(categories + 1)]
    cdf = [1 - x**-PARETO_ALPHA for x in grid]
    return [right - left for left, right in pairwise(cdf)]


def pareto_counts(masses: Mapping[str, float], available: Counts) -> dict[str, int]:
    """Return the counts of a Pareto profile: the category with the largest mass keeps all, the others in proportion.

    A category keeps round-half-even(mass * N_top / mass_top) images, at least 5 and at most what it has.

    Args:
        masses: category -> share, however drawn.
        available: category -> training images.
    """
    top = max(masses, key=lambda category: masses[category])
    factor = available[top] / masses[top]
    return {
        category: min(max(round(masses[category] * factor), PARETO_LEAST), count)
        for category, count in available.items()
    }
