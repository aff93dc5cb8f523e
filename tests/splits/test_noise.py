from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.errors import SpecError
from ltbench.splits.noise import Contamination, contamination
from ltbench.splits.recipe import Recipe, parse_name


def kept_of(counts: Mapping[str, int]) -> dict[str, list[str]]:
    return {category: [f"{category}/{n:04}" for n in range(count)] for category, count in counts.items()}


MANY = dict.fromkeys("abcdefghij", 10_000)


@pytest.mark.parametrize(
    ("percent", "normal", "contaminants"),
    [(10, 224, 22), (10, 267, 27), (10, 245, 24), (10, 60, 6), (5, 900, 45), (5, 450, 22), (5, 453, 23), (100, 7, 7)],
)
def test_head_categories_get_the_share_rounded_half_even(percent: int, normal: int, contaminants: int) -> None:
    recipe = parse_name(f"x_step100_noisy{percent:02}")
    noise = contamination(recipe, kept_of({"a": normal, "b": normal}), ["a"], MANY)
    assert noise == Contamination({"a": contaminants})


def test_a_clean_recipe_gets_none() -> None:
    assert contamination(parse_name("x_full"), kept_of({"a": 30}), ["a"], MANY) == Contamination()


def test_too_few_defective_images_cap_the_count_and_are_reported() -> None:
    recipe = parse_name("x_step100_noisy50")
    noise = contamination(recipe, kept_of({"a": 40, "b": 40}), ["a", "b"], {"a": 7, "b": 20})
    assert noise == Contamination({"a": 7, "b": 20}, {"a": {"asked": 20, "used": 7}})


def test_softpatch_takes_every_category_and_never_caps() -> None:
    recipe = parse_name("x_step100_noisy15_softpatch")
    kept = kept_of({"a": 99, "b": 13, "c": 6})
    assert contamination(recipe, kept, ["a"], MANY).used == {"a": 14, "b": 1, "c": 0}
    with pytest.raises(SpecError, match=r"at least 14 defective test images of category 'a'.*got 13"):
        contamination(recipe, kept, ["a"], {"a": 13, "b": 9, "c": 9})


def test_open_iad_takes_three_quarters_at_most() -> None:
    recipe = parse_name("x_step100_noisy15_open-iad")
    noise = contamination(recipe, kept_of({"a": 99, "b": 13}), ["a"], {"a": 13, "b": 9})
    assert noise == Contamination({"a": 9, "b": 1}, {"a": {"asked": 14, "used": 9}})


@pytest.mark.parametrize("name", ["x_step100_noisy05", "x_pareto_noisy50", "x_full_noisy05_softpatch"])
def test_a_noisy_split_without_a_contaminant_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="Expected contaminants in split"):
        contamination(parse_name(name), kept_of({"a": 9, "b": 9}), ["a"], MANY)
    with pytest.raises(SpecError, match=r"no test image is defective|at least"):
        contamination(parse_name(name), kept_of({"a": 90, "b": 9}), ["a"], {"a": 0, "b": 0})


@given(
    st.dictionaries(st.sampled_from("abcdefghij"), st.integers(5, 200), min_size=2),
    st.integers(0, 9),
    st.integers(5, 30),
)
def test_pareto_spreads_the_total_over_large_categories(counts: dict[str, int], seed: int, percent: int) -> None:
    recipe = Recipe("x", parse_name("x_pareto").profile, noise_percent=percent, seed=seed)
    large = {category: count for category, count in counts.items() if count >= 20}
    total = round(recipe.noise_ratio * sum(counts.values()))
    if not large or not total:
        with pytest.raises(SpecError):
            contamination(recipe, kept_of(counts), [], MANY)
        return
    noise = contamination(recipe, kept_of(counts), [], MANY)
    assert set(noise.used) <= set(large)
    assert sum(noise.used.values()) == min(total, sum(large.values()))
    assert all(noise.used[category] <= large[category] for category in noise.used)


def test_pareto_noise_is_proportional_on_average() -> None:
    counts = {"a": 264, "b": 100, "c": 29, "d": 19}
    sums = dict.fromkeys("abcd", 0)
    for seed in range(200):
        recipe = Recipe("x", parse_name("x_pareto").profile, noise_percent=10, seed=seed)
        for category, count in contamination(recipe, kept_of(counts), [], MANY).used.items():
            sums[category] += count
    assert sums["d"] == 0
    for category in "abc":
        assert sums[category] / 200 == pytest.approx(41 * counts[category] / 393, rel=0.08)
