"""Against splits made with TailedCore's generator on one known listing order (5 % noise, seeds 101 to 105)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltbench.core import Dataset
from ltbench.errors import SpecError
from ltbench.splits.authors import draw_tail
from ltbench.splits.generate import make_split
from ltbench.splits.recipe import parse_name

SEEDS = ("101", "102", "103", "104", "105")


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "splits" / "generator_golden_mvtec_nr05.json").read_text())
    return loaded


@pytest.mark.parametrize("seed", SEEDS)
def test_pareto_sizes_and_noise(mvtec_listing: Dataset, golden: dict[str, Any], seed: str) -> None:
    recipe = parse_name(f"mvtec_pareto_authors_noisy05_seed{seed}")
    split = make_split(mvtec_listing, recipe, golden["listing_order"])
    expected = golden["pareto"][seed]
    assert {c: n["normal"] for c, n in split.counts.items()} == expected["good"]
    assert {c: n["contaminant"] for c, n in split.counts.items() if n["contaminant"]} == expected["noise"]
    assert sum(n["contaminant"] for n in split.counts.values()) == expected["total_noise"]


@pytest.mark.parametrize("seed", SEEDS)
def test_k_shot_tails_and_noise(mvtec_listing: Dataset, golden: dict[str, Any], seed: str) -> None:
    expected = golden["step"][seed]
    drawn = draw_tail(random.Random(int(seed)), golden["listing_order"])
    assert drawn == expected["tail_classes_in_draw_order"]
    for shots in (4, 1):
        recipe = parse_name(f"mvtec_k{shots}_authors_noisy05_seed{seed}")
        split = make_split(mvtec_listing, recipe, golden["listing_order"])
        assert set(split.low) == set(drawn)
        assert {split.counts[category]["normal"] for category in drawn} == {shots}
        assert {c: n["contaminant"] for c, n in split.counts.items() if n["contaminant"]} == expected["noise"]


@pytest.mark.parametrize("seed", ("0", "1", *SEEDS))
def test_a_sorted_listing(mvtec_listing: Dataset, golden: dict[str, Any], seed: str) -> None:
    expected = golden["alphabetical_variant"][seed]
    suffix = "" if seed == "0" else f"_seed{seed}"
    pareto = make_split(mvtec_listing, parse_name(f"mvtec_pareto_authors{suffix}"))
    assert {c: n["normal"] for c, n in pareto.counts.items()} == expected["pareto_good"]
    assert draw_tail(random.Random(int(seed)), sorted(mvtec_listing.categories)) == expected["step_tail"]
    assert set(make_split(mvtec_listing, parse_name(f"mvtec_k4_authors{suffix}")).low) == set(expected["step_tail"])


def test_published_figures_of_seed_0(mvtec_listing: Dataset) -> None:
    split = make_split(mvtec_listing, parse_name("mvtec_pareto_authors"))
    sizes = [split.counts[category]["normal"] for category in sorted(mvtec_listing.categories)]
    assert sizes == [129, 16, 8, 6, 5, 35, 81, 5, 5, 11, 5, 52, 213, 23, 5]
    tail = ["wood", "leather", "transistor", "zipper", "bottle", "grid", "pill", "metal_nut", "carpet"]
    assert draw_tail(random.Random(0), sorted(mvtec_listing.categories)) == tail


def test_files_follow_the_generator_statement_by_statement(mvtec_listing: Dataset) -> None:
    """The K-shot draw written as the generator has it, on the global generators."""
    listing = sorted(mvtec_listing.categories)
    state, state_np = random.getstate(), np.random.get_state()
    try:
        random.seed(7)
        tail = random.sample(listing, 9)
        kept: dict[str, set[str]] = {}
        for category in tail:
            paths = [s.path for s in mvtec_listing.train_of(category)]
            random.shuffle(paths)
            kept[category] = set(paths[:4])
        noise = {}
        for category in (c for c in listing if c not in tail):
            defective = [s.path for s in mvtec_listing.test_of(category) if s.is_anomalous]
            count = min(len(defective), round(len(mvtec_listing.train_of(category)) * 0.1))
            noise[category] = set(random.sample(defective, count))
    finally:
        random.setstate(state)
        np.random.set_state(state_np)
    split = make_split(mvtec_listing, parse_name("mvtec_k4_authors_noisy10_seed7"))
    assert {c: set(split.train[c].normal) for c in tail} == kept
    assert {c: set(split.train[c].contaminant) for c in noise} == noise


def test_global_generators_are_left_alone(mvtec_listing: Dataset) -> None:
    random.seed(1)
    before, before_np = random.getstate(), str(np.random.get_state())
    make_split(mvtec_listing, parse_name("mvtec_pareto_authors_noisy10"))
    assert random.getstate() == before
    assert str(np.random.get_state()) == before_np


def test_another_listing_is_another_split_and_says_so(mvtec_listing: Dataset) -> None:
    recipe = parse_name("mvtec_k4_authors_noisy10_seed1")
    listing = sorted(mvtec_listing.categories, reverse=True)
    split = make_split(mvtec_listing, recipe, listing)
    assert split.name == "mvtec_k4_authors_noisy10_seed1_listed"
    assert split.recipe["listing"] == listing
    assert make_split(mvtec_listing, recipe, sorted(listing)) == make_split(mvtec_listing, recipe)


def test_a_listing_that_does_not_fit_is_refused(mvtec_listing: Dataset) -> None:
    with pytest.raises(SpecError, match="Expected a listing of"):
        make_split(mvtec_listing, parse_name("mvtec_k4_authors"), ["bottle"])
    with pytest.raises(SpecError, match="Expected no listing"):
        make_split(mvtec_listing, parse_name("mvtec_k4"), sorted(mvtec_listing.categories))
