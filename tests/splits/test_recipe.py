from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.errors import LtbenchError, SpecError, UnknownNameError
from ltbench.splits.readings import READINGS
from ltbench.splits.recipe import NOISE_RULES, Profile, Recipe, is_recipe_name, parse_name

NUMBERS = st.one_of(
    st.integers(1, 10**6), st.integers(100, 10**5).map(lambda n: n / 100), st.floats(1, 1e6, allow_nan=False)
)
PROFILES = st.one_of(
    st.sampled_from([Profile("full"), Profile("pareto")]),
    st.builds(Profile, st.sampled_from(["exp", "step"]), NUMBERS),
    st.builds(Profile, st.just("k"), st.integers(1, 500)),
)
DATASETS = st.one_of(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    st.sampled_from(["mvtec", "a_full", "x_exp100_reversed", "full", "my_set_noisy10", "s_seed3", "k4_k4"]),
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    recipe = Recipe(draw(DATASETS), draw(PROFILES), seed=draw(st.integers(0, 2**32 - 1)))
    if not recipe.profile.is_drawn:
        recipe = replace(recipe, reversed_order=draw(st.booleans()))
    elif draw(st.booleans()):
        recipe = replace(recipe, draw="authors")
    if draw(st.booleans()):
        percent = draw(st.one_of(st.integers(1, 100), st.integers(1, 9999).map(lambda n: n / 100)))
        rule = draw(st.sampled_from(NOISE_RULES)) if recipe.draw == "sha256" else NOISE_RULES[0]
        recipe = replace(recipe, noise_percent=percent, noise_rule=rule, reading=draw(st.sampled_from(READINGS)))
    return recipe


@given(recipes())
def test_name_and_recipe_are_inverse_of_each_other(recipe: Recipe) -> None:
    assert parse_name(recipe.name) == recipe
    assert parse_name(recipe.name).name == recipe.name


@given(recipes(), recipes())
def test_different_recipes_have_different_names(one: Recipe, other: Recipe) -> None:
    assert (one.name == other.name) == (one == other)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused_with_a_message(text: str) -> None:
    try:
        assert parse_name(text).name == text
    except LtbenchError as error:
        assert str(error).startswith("Expected ")


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("mvtec_full", Recipe("mvtec", Profile("full"))),
        ("mvtec_step100", Recipe("mvtec", Profile("step", 100))),
        ("visa_exp500_noisy05", Recipe("visa", Profile("exp", 500), noise_percent=5)),
        ("dagm_exp100_reversed", Recipe("dagm", Profile("exp", 100), reversed_order=True)),
        ("my_own_parts_step1.5", Recipe("my_own_parts", Profile("step", 1.5))),
        ("mvtec_k4_noisy10_seed1", Recipe("mvtec", Profile("k", 4), noise_percent=10, seed=1)),
        ("mvtec_pareto_authors_seed101", Recipe("mvtec", Profile("pareto"), draw="authors", seed=101)),
        (
            "mvtec_full_noisy12.5_open-iad_disjoint",
            Recipe("mvtec", Profile("full"), noise_percent=12.5, noise_rule="open-iad", reading="disjoint"),
        ),
    ],
)
def test_names_read_as_documented(name: str, recipe: Recipe) -> None:
    assert parse_name(name) == recipe
    assert recipe.name == name
    assert is_recipe_name(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mvtec_expp100", "Did you mean 'exp'?"),
        ("mvtec_stp100_noisy10", "Did you mean 'step'?"),
        ("mvtec_exp100_noizy10", "Did you mean 'noisy'?"),
        ("mvtec_exp100_disjont", "Did you mean 'disjoint'?"),
        ("mvtec_exp0.5", "imbalance of 1 or more, got 0.5"),
        ("mvtec_step0", "imbalance of 1 or more, got 0"),
        ("mvtec_exp", "Expected an imbalance after 'exp', got none"),
        ("mvtec_k0", "of 1 or more, got 0"),
        ("mvtec_k2.5", "whole number of tail images, got 2.5"),
        ("mvtec_full3", "no number after 'full'"),
        ("mvtec_full_noisy101", "0 to 100 percent, got 101"),
        ("mvtec_full_noisy100.5", "0 to 100 percent, got 100.5"),
        ("mvtec_full_disjoint", "Expected contaminants beside 'disjoint', got none"),
        ("mvtec_full_softpatch", "Expected contaminants beside 'softpatch', got none"),
        ("mvtec_full_noisy5", "Write 'mvtec_full_noisy05'"),
        ("mvtec_full_noisy00", "Write 'mvtec_full'"),
        ("mvtec_exp100.0", "Write 'mvtec_exp100'"),
        ("mvtec_exp0100", "Write 'mvtec_exp100'"),
        ("mvtec_full_seed0", "Write 'mvtec_full'"),
        ("mvtec_full_seed1.5", "whole number as seed, got 1.5"),
        ("mvtec_full_seed4294967296", "seed from 0 to 4294967295"),
        ("mvtec_k4_reversed", "no 'reversed' beside k4"),
        ("mvtec_exp100_authors", "profile pareto or k<K>"),
        ("full", "Put the dataset first"),
        ("seed3", "Expected the name of a split"),
        ("", "Choose another name"),
        ("../mvtec_full", "Choose another name"),
        ("mvtec_exp" + "9" * 5000, "Choose another name"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(name: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_name(name)
    assert says in str(caught.value)
    assert not is_recipe_name(name)


@pytest.mark.parametrize("noise", [-1, 100.01, float("nan"), float("inf")])
def test_noise_outside_0_to_100_is_refused(noise: float) -> None:
    with pytest.raises(SpecError, match="0 to 100 percent"):
        Recipe("mvtec", Profile("full"), noise_percent=noise)


@pytest.mark.parametrize("imbalance", [0, 0.99, -3, float("nan"), float("inf")])
def test_an_imbalance_below_1_is_refused(imbalance: float) -> None:
    with pytest.raises(SpecError, match="of 1 or more"):
        Profile("exp", imbalance)


def test_unknown_profile_and_rule_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'pareto'"):
        Profile.parse("parreto")
    with pytest.raises(UnknownNameError, match="Did you mean 'softpatch'"):
        Recipe("mvtec", Profile("full"), noise_percent=5, noise_rule="softpach")  # type: ignore[arg-type]


def test_numbers_mean_the_decimals_that_were_written() -> None:
    assert Profile.parse("exp1.1").imbalance == Fraction(11, 10)
    assert Recipe("mvtec", Profile("full"), noise_percent=0.1).noise_ratio == Fraction(1, 1000)
    assert Profile("exp", 100.0) == Profile("exp", 100)
