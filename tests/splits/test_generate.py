from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.core import Dataset, Sample, Split
from ltbench.datasets.index import load_listing
from ltbench.errors import DataError, LtbenchError, SpecError
from ltbench.splits.files import render_split
from ltbench.splits.generate import make_split
from ltbench.splits.profiles import TAIL_BELOW
from ltbench.splits.ranking import ranked
from ltbench.splits.readings import READINGS
from ltbench.splits.recipe import NOISE_RULES, Profile, Recipe, parse_name

LISTING = load_listing("mvtec", None)


def build(sizes: list[tuple[int, int, int]]) -> Dataset:
    train, test = [], []
    for number, (normal, good, defective) in enumerate(sizes):
        category = f"c{number}"
        train += [Sample(f"{category}/train/good/{n:03}.png", category) for n in range(normal)]
        test += [Sample(f"{category}/test/good/{n:03}.png", category) for n in range(good)]
        test += [Sample(f"{category}/test/hole/{n:03}.png", category, "hole") for n in range(defective)]
    return Dataset("parts", tuple(f"c{n}" for n in range(len(sizes))), tuple(train), tuple(test))


SIZES = st.tuples(st.integers(5, 60), st.integers(1, 5), st.integers(2, 20))
DATASETS = st.lists(SIZES, min_size=2, max_size=8).map(build)
PROFILES = st.sampled_from(["full", "exp2", "exp5", "step3", "step1.5", "pareto", "k1", "k4"]).map(Profile.parse)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    recipe = Recipe("parts", draw(PROFILES), seed=draw(st.integers(0, 5)))
    if recipe.profile.is_drawn:
        recipe = replace(recipe, draw=draw(st.sampled_from(["sha256", "authors"])))
    else:
        recipe = replace(recipe, reversed_order=draw(st.booleans()))
    percent = draw(st.sampled_from([0, 5, 10, 40]))
    if not percent:
        return recipe
    rule = draw(st.sampled_from(NOISE_RULES)) if recipe.draw == "sha256" else NOISE_RULES[0]
    return replace(recipe, noise_percent=percent, noise_rule=rule, reading=draw(st.sampled_from(READINGS)))


def made(dataset: Dataset, recipe: Recipe) -> Split | None:
    """Return the split, or None where the recipe cannot be followed with this dataset."""
    try:
        return make_split(dataset, recipe)
    except SpecError as error:
        assert recipe.noise_percent, error
        return None


@given(DATASETS, recipes(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_a_split_is_what_its_recipe_says(dataset: Dataset, recipe: Recipe, chance: random.Random) -> None:
    split = made(dataset, recipe)
    if split is None:
        return
    contaminants = {path for images in split.train.values() for path in images.contaminant}
    for category in dataset.categories:
        images, test = split.train[category], split.test[category]
        published = {sample.path: sample for sample in (*dataset.train_of(category), *dataset.test_of(category))}
        assert set(images.normal) <= {sample.path for sample in dataset.train_of(category)}
        assert all(published[path].is_anomalous for path in images.contaminant)
        assert list(images.normal) == sorted(set(images.normal))
        assert list(images.contaminant) == sorted(set(images.contaminant))
        gone = contaminants if recipe.reading == "disjoint" else set()
        expected = [s.path for s in dataset.test_of(category) if s.path not in gone]
        assert list(test) == expected
        assert not set(test) & set(images.normal)
    assert bool(contaminants) == bool(recipe.noise_percent)
    assert set(split.high) | set(split.low) == set(dataset.categories)

    train, test_samples = list(dataset.train), list(dataset.test)
    chance.shuffle(train)
    chance.shuffle(test_samples)
    shuffled = replace(dataset, train=tuple(train), test=tuple(test_samples))
    assert render_split(make_split(shuffled, recipe)) == render_split(split)


@given(DATASETS, st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_fewer_images_are_a_subset_of_more(dataset: Dataset, seed: int) -> None:
    def split(name: str) -> Split:
        return make_split(dataset, parse_name(f"parts_{name}" + (f"_seed{seed}" if seed else "")))

    for more, fewer in (("full", "exp2"), ("exp2", "exp5"), ("exp5", "step5"), ("k4", "k1"), ("full", "k4")):
        for category in dataset.categories:
            one, other = split(more).train[category].normal, split(fewer).train[category].normal
            assert set(one) >= set(other) if len(one) >= len(other) else set(one) < set(other)
    assert split("k4").low == split("k1").low


def test_noise_leaves_the_normal_images_and_grows_by_addition() -> None:
    clean, some, more = (make_split(LISTING, parse_name(f"mvtec_exp100{n}")) for n in ("", "_noisy05", "_noisy10"))
    for category in LISTING.categories:
        assert clean.train[category].normal == some.train[category].normal == more.train[category].normal
        assert set(some.train[category].contaminant) <= set(more.train[category].contaminant)
        assert bool(more.train[category].contaminant) == (category in more.high)


def test_disjoint_only_takes_the_contaminants_out_of_the_test_set() -> None:
    overlap = make_split(LISTING, parse_name("mvtec_step100_noisy10"))
    disjoint = make_split(LISTING, parse_name("mvtec_step100_noisy10_disjoint"))
    assert overlap.train == disjoint.train
    assert sum(map(len, overlap.test.values())) == 1725
    for category, images in overlap.train.items():
        assert set(overlap.test[category]) - set(disjoint.test[category]) == set(images.contaminant)


def test_seeds_differ_and_the_class_order_runs_backwards() -> None:
    first, other = (make_split(LISTING, parse_name(f"mvtec_exp100{seed}")) for seed in ("", "_seed1"))
    assert first.counts == other.counts
    assert first.train != other.train
    backwards = make_split(LISTING, parse_name("mvtec_exp100_reversed"))
    assert backwards.high == tuple(reversed(LISTING.categories))[:7]
    assert list(backwards.train) == list(LISTING.categories)
    assert [backwards.counts[c]["normal"] for c in reversed(LISTING.categories)] == [
        240, 213, 60, 145, 104, 75, 54, 39, 28, 20, 14, 10, 7, 5, 3,
    ]  # fmt: skip


def test_reversed_names_of_dagm_work() -> None:
    dataset = replace(build([(1000, 5, 5)] * 10), name="dagm")
    split = make_split(dataset, parse_name("dagm_exp100_reversed"))
    assert [split.counts[f"c{n}"]["normal"] for n in range(9, -1, -1)] == [
        1000, 599, 359, 215, 129, 77, 46, 27, 16, 10,
    ]  # fmt: skip
    assert split.low == ("c4", "c3", "c2", "c1", "c0")


@pytest.mark.parametrize("shots", [1, 4])
@pytest.mark.parametrize("seed", range(1, 6))
def test_k_shot_splits_keep_the_invariants(shots: int, seed: int) -> None:
    split = make_split(LISTING, parse_name(f"mvtec_k{shots}_noisy10_seed{seed}"))
    assert (len(split.high), len(split.low)) == (6, 9)
    assert all(split.counts[category] == {"normal": shots, "contaminant": 0} for category in split.low)
    for category in split.high:
        available = len(LISTING.train_of(category))
        assert split.counts[category] == {"normal": available, "contaminant": round(available * 0.1)}


@pytest.mark.parametrize("seed", range(1, 6))
def test_pareto_splits_keep_the_invariants(seed: int) -> None:
    split = make_split(LISTING, parse_name(f"mvtec_pareto_noisy10_seed{seed}"))
    normal = {category: counts["normal"] for category, counts in split.counts.items()}
    noise = {category: counts["contaminant"] for category, counts in split.counts.items()}
    assert sum(noise.values()) == round(sum(normal.values()) * 0.1)
    for category, count in normal.items():
        assert 5 <= count <= len(LISTING.train_of(category))
        assert (category in split.high) == (count >= TAIL_BELOW)
        assert count >= TAIL_BELOW or noise[category] == 0
    assert any(count == len(LISTING.train_of(category)) for category, count in normal.items())


def test_capped_noise_is_in_the_recipe() -> None:
    split = make_split(build([(50, 3, 4), (50, 3, 30)]), parse_name("parts_full_noisy40"))
    assert split.recipe["capped"] == {"c0": {"asked": 20, "used": 4}}
    assert split.counts["c0"] == {"normal": 50, "contaminant": 4}
    assert "capped" not in make_split(build([(50, 3, 20), (50, 3, 30)]), parse_name("parts_full_noisy40")).recipe


def test_what_cannot_be_followed_is_refused() -> None:
    dataset = build([(50, 3, 4), (50, 3, 30)])
    with pytest.raises(SpecError, match=r"Expected defective test images of category 'c0' beside its 4 contaminants"):
        make_split(dataset, parse_name("parts_full_noisy40_disjoint"))
    with pytest.raises(SpecError, match="largest possible imbalance is 50"):
        make_split(dataset, parse_name("parts_step51"))
    with pytest.raises(SpecError, match="Expected dataset 'mvtec'"):
        make_split(dataset, parse_name("mvtec_full"))


@pytest.mark.parametrize(("sizes", "part"), [((0, 3, 3), "training"), ((9, 0, 0), "test")])
def test_an_empty_category_is_refused(sizes: tuple[int, int, int], part: str) -> None:
    with pytest.raises(DataError, match=f"Expected {part} images of category 'c1'"):
        make_split(build([(9, 3, 3), sizes]), parse_name("parts_full"))


def test_a_dataset_without_categories_is_refused() -> None:
    with pytest.raises(LtbenchError, match="Expected categories"):
        make_split(build([]), parse_name("parts_full"))


def test_the_rank_of_names_is_fixed_forever() -> None:
    # for x in a b c d; do printf "0:normal:$x" | sha256sum | sed "s/-/$x/"; done | sort
    assert ranked(["a", "b", "c", "d"], 0, "normal") == ["c", "d", "b", "a"]
    assert ranked("dcba", 0, "normal") == ranked("abcd", 0, "normal")
    assert ranked("abcdefgh", 0, "normal") != ranked("abcdefgh", 1, "normal") != ranked("abcdefgh", 0, "tail")


def test_the_same_bytes_under_another_hash_seed() -> None:
    code = (
        "from ltbench.datasets.index import load_listing; from ltbench.splits.generate import make_split;"
        "from ltbench.splits.recipe import parse_name;"
        "print([make_split(load_listing('mvtec', None), parse_name('mvtec_' + n)).sha256"
        " for n in ('pareto_noisy10_seed1', 'pareto_authors_noisy10_seed1')])"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": h}, capture_output=True, check=True).stdout
        for h in ("1", "2")
    }
    assert len(outputs) == 1
