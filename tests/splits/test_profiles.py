from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ltbench.core import Dataset
from ltbench.datasets import dagm
from ltbench.errors import SpecError
from ltbench.splits.profiles import (
    declining_counts,
    exponential,
    groups_by_size,
    halves,
    pareto_counts,
    pareto_masses,
    tail_size,
)
from ltbench.splits.recipe import Profile


def uncapped(profile: str, categories: int, n_max: int) -> list[int]:
    """Return the targets, as if every category had as many images as the largest."""
    return list(declining_counts(Profile.parse(profile), {f"c{i}": n_max for i in range(categories)}).values())


def of_dataset(profile: str, dataset: Dataset) -> list[int]:
    available = {category: len(dataset.train_of(category)) for category in dataset.categories}
    return list(declining_counts(Profile.parse(profile), available).values())


@pytest.mark.parametrize(
    ("profile", "n_max", "targets"),
    [
        ("exp100", 391, "391 281 202 145 104 75 54 39 28 20 14 10 7 5 3"),
        ("exp200", 391, "391 267 183 125 86 58 40 27 18 12 8 6 4 2 1"),
        ("step100", 391, " ".join(["391"] * 7 + ["3"] * 8)),
        ("step200", 391, " ".join(["391"] * 7 + ["1"] * 8)),
        ("exp100", 905, "905 595 391 257 169 111 73 48 31 20 13 9"),
        ("exp200", 905, "905 559 345 213 131 81 50 31 19 11 7 4"),
        ("exp500", 905, "905 514 292 166 94 53 30 17 9 5 3 1"),
        ("step100", 905, " ".join(["905"] * 6 + ["9"] * 6)),
        ("step200", 905, " ".join(["905"] * 6 + ["4"] * 6)),
        ("step500", 905, " ".join(["905"] * 6 + ["1"] * 6)),
        ("exp50", 1000, "1000 647 419 271 175 113 73 47 30 20"),
        ("exp100", 1000, "1000 599 359 215 129 77 46 27 16 10"),
        ("exp200", 1000, "1000 555 308 170 94 52 29 16 9 5"),
        ("exp500", 1000, "1000 501 251 125 63 31 15 7 3 2"),
        ("step50", 1000, " ".join(["1000"] * 5 + ["20"] * 5)),
        ("step100", 1000, " ".join(["1000"] * 5 + ["10"] * 5)),
        ("step200", 1000, " ".join(["1000"] * 5 + ["5"] * 5)),
        ("step500", 1000, " ".join(["1000"] * 5 + ["2"] * 5)),
    ],
)
def test_targets_are_those_of_ltad(profile: str, n_max: int, targets: str) -> None:
    expected = [int(target) for target in targets.split()]
    assert uncapped(profile, len(expected), n_max) == expected


@pytest.mark.parametrize(
    ("profile", "counts", "total"),
    [
        ("exp100", "280 264 202 145 104 75 54 39 28 20 14 10 7 5 3", 1250),
        ("exp200", "280 264 183 125 86 58 40 27 18 12 8 6 4 2 1", 1114),
        ("step100", "280 264 245 230 247 209 224 3 3 3 3 3 3 3 3", 1723),
        ("step200", "280 264 245 230 247 209 224 1 1 1 1 1 1 1 1", 1707),
        ("full", "280 264 245 230 247 209 224 219 391 220 267 320 60 213 240", 3629),
    ],
)
def test_mvtec_keeps_what_its_categories_have(mvtec_listing: Dataset, profile: str, counts: str, total: int) -> None:
    assert of_dataset(profile, mvtec_listing) == [int(count) for count in counts.split()]
    assert sum(of_dataset(profile, mvtec_listing)) == total


@pytest.mark.parametrize(
    ("profile", "counts", "total"),
    [
        ("exp100", "900 542 391 257 169 111 73 48 31 20 13 9", 2564),
        ("step100", "900 542 450 453 450 900 9 9 9 9 9 9", 3749),
        ("full", "900 542 450 453 450 900 900 904 901 905 904 450", 8659),
    ],
)
def test_visa_keeps_what_its_categories_have(visa_listing: Dataset, profile: str, counts: str, total: int) -> None:
    assert of_dataset(profile, visa_listing) == [int(count) for count in counts.split()]
    assert sum(of_dataset(profile, visa_listing)) == total


def test_maxima_are_the_published_ones(mvtec_listing: Dataset, visa_listing: Dataset) -> None:
    for dataset, n_max in ((mvtec_listing, 391), (visa_listing, 905)):
        assert max(of_dataset("full", dataset)) == n_max
    good = [dagm.IMAGE_COUNTS[c] - dagm.DEFECTIVE_COUNTS[c]["Train"] for c in dagm.CATEGORIES]
    assert max(good) == 1000


@given(st.integers(1, 3000), st.fractions(1, 3000, max_denominator=100), st.integers(1, 30), st.data())
def test_the_exponential_floor_is_exact(n_max: int, beta: Fraction, last: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, last))
    n = exponential(n_max, beta, c, last)
    assert n**last * beta**c <= n_max**last < (n + 1) ** last * beta**c
    with localcontext() as context:
        context.prec = 60
        power = (Decimal(beta.numerator) / Decimal(beta.denominator)) ** (Decimal(-c) / Decimal(last))
        assert n in {floor(n_max * power + Decimal(sign) * Decimal("1e-40")) for sign in (-1, 0, 1)}


def test_whole_powers_are_not_rounded_down() -> None:
    for beta, c, last in ((64, 5, 6), (512, 5, 9), (128, 10, 14)):
        assert exponential(320, Fraction(beta), c, last) == 10
        assert floor(320 * beta ** (-c / last)) == 9  # what floating point makes of it


@given(
    st.lists(st.integers(1, 1000), min_size=2, max_size=15),
    st.sampled_from(["exp", "step"]),
    st.integers(1, 1000),
)
def test_counts_decline_and_never_exceed_what_there_is(sizes: list[int], kind: str, beta: int) -> None:
    available = {f"c{i}": size for i, size in enumerate(sizes)}
    if beta > max(sizes):
        with pytest.raises(SpecError, match=f"largest possible imbalance is {max(sizes)}"):
            declining_counts(Profile.parse(f"{kind}{beta}"), available)
        return
    counts = declining_counts(Profile.parse(f"{kind}{beta}"), available)
    targets = uncapped(f"{kind}{beta}", len(sizes), max(sizes))
    assert list(counts.values()) == [min(size, target) for size, target in zip(sizes, targets, strict=True)]
    assert targets == sorted(targets, reverse=True)
    assert targets[0] == max(sizes)
    assert targets[-1] == max(sizes) // beta >= 1


def test_an_imbalance_of_1_keeps_all() -> None:
    assert uncapped("exp1", 7, 50) == uncapped("step1", 7, 50) == [50] * 7


def test_a_single_category_has_no_tail() -> None:
    for profile in ("exp2", "step2"):
        with pytest.raises(SpecError, match="at least 2 categories"):
            declining_counts(Profile.parse(profile), {"bolt": 9})
    with pytest.raises(SpecError, match="at least 2 categories"):
        tail_size(1)
    assert halves(["bolt"]) == (("bolt",), ())


def test_groups() -> None:
    high, low = halves([f"c{i}" for i in range(15)])
    assert (len(high), len(low)) == (7, 8)
    assert groups_by_size({"a": 19, "b": 20, "c": 300}) == (("b", "c"), ("a",))
    assert groups_by_size({"a": 30, "b": 20, "c": 300, "d": 31}) == (("c", "d"), ("a", "b"))
    assert groups_by_size({"a": 3, "b": 3, "c": 3}) == (("a",), ("b", "c"))
    assert (tail_size(15), tail_size(12), tail_size(7), tail_size(2)) == (9, 7, 4, 1)


def test_pareto_masses_are_those_of_the_density() -> None:
    published = {
        15: "1 .606113 .379901 .245198 .162400 .110058 .076133 .053647 .038439 .027963 .020626 .015409 .011646 .008898"
        " .006866",
        12: "1 .540047 .306628 .181660 .111630 .070811 .046188 .030878 .021101 .014707 .010433 .007522",
    }
    for categories, relative in published.items():
        masses = pareto_masses(categories)
        grid = np.linspace(stats.pareto.ppf(0.01, 6), stats.pareto.ppf(0.99, 6), categories + 1)
        np.testing.assert_allclose(masses, np.diff(stats.pareto.cdf(grid, 6)), rtol=1e-12)
        np.testing.assert_allclose(np.divide(masses, masses[0]), [float(r) for r in relative.split()], atol=5e-7)
        assert sum(masses) == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("top", "ladder"),
    [
        (264, "264 160 100 65 43 29 20 14 10 7 5 5 5 5 5"),
        (213, "213 129 81 52 35 23 16 11 8 6 5 5 5 5 5"),
        (209, "209 127 79 51 34 23 16 11 8 6 5 5 5 5 5"),
        (320, "320 194 122 78 52 35 24 17 12 9 7 5 5 5 5"),
        (280, "280 170 106 69 45 31 21 15 11 8 6 5 5 5 5"),
        (900, "900 486 276 163 100 64 42 28 19 13 9 7"),
        (453, "453 245 139 82 51 32 21 14 10 7 5 5"),
        (450, "450 243 138 82 50 32 21 14 9 7 5 5"),
        (905, "905 489 277 164 101 64 42 28 19 13 9 7"),
    ],
)
def test_pareto_ladders(top: int, ladder: str) -> None:
    expected = [int(rung) for rung in ladder.split()]
    masses = {f"c{i:02}": mass for i, mass in enumerate(pareto_masses(len(expected)))}
    assert list(pareto_counts(masses, dict.fromkeys(masses, top)).values()) == expected
    few = {category: top if i == 0 else 3 for i, category in enumerate(masses)}
    assert list(pareto_counts(masses, few).values()) == [top] + [3] * (len(expected) - 1)


def test_no_pareto_count_hangs_on_the_last_bit() -> None:
    """Powers differ by a bit between machines; no count of a committed split may be that near to a half."""
    for categories, tops in ((15, (60, 209, 213, 219, 220, 224, 230, 240, 245, 247, 264, 267, 280, 320, 391)),
                             (12, (450, 453, 542, 900, 901, 904, 905))):  # fmt: skip
        relative = np.divide(pareto_masses(categories), pareto_masses(categories)[0])
        for top in tops:
            assert np.abs(relative * top % 1 - 0.5).min() > 1e-6
