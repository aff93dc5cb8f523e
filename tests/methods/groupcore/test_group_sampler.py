"""GroupSampler: groups and tails of synthetic and real embeddings, and what must not change them."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from ltbench.blocks.tails.cosine import CosineBlocks
from ltbench.errors import ContractError, SpecError
from methods.groupcore import GroupSampler
from methods.groupcore.group_sampler import embeddings, sampler_bytes
from tests.methods.tailedcore.test_tail_sampler import golden_embeddings
from tests.shared import SHARED

GOLDENS = SHARED / "specs" / "golden_tailsampler.json"
CASES: dict[str, Any] = json.loads(GOLDENS.read_text()) if GOLDENS.exists() else {}
TAIL = 20
"""A category is tail that has fewer images."""


def clouds(sizes: list[int], spread: float = 0.05, seed: int = 0) -> NDArray[np.float64]:
    """Return Gaussian clouds around orthogonal directions, one after the other."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.eye(len(sizes), 16), sizes, axis=0)
    return centres + spread * rng.standard_normal(centres.shape)


@pytest.mark.skipif(not CASES, reason="needs ../shared")
@pytest.mark.parametrize("name", list(CASES))
def test_finds_the_tails_of_synthetic_embeddings_and_no_others(name: str) -> None:
    params = CASES[name]["params"]
    sizes = params["sizes"] if isinstance(params, dict) else params[0]
    sampler = GroupSampler().fit(golden_embeddings(CASES[name]))
    true = np.repeat(sizes, sizes) < TAIL
    assert sampler.tail_indices_.tolist() == np.flatnonzero(true).tolist()
    assert sampler.group_sizes_.tolist() == list(sizes)


@pytest.mark.skipif(not GOLDENS.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["industrial7_ref1", "industrial8_ref0", "industrial8_ref2"])
def test_misses_no_tail_among_real_images(name: str) -> None:
    """With the deepest level alone; what the method finds with three is in test_reference.py."""
    with np.load(SHARED / "reference" / f"tailsampler_{name}.npz") as stored:
        E, paths = stored["E"], stored["paths"]
    listed = next(SHARED.joinpath("reference").glob(f"{name.split('_')[0]}_k4_noisy10_{name[-4:]}.csv"))
    with listed.open() as file:
        categories = [row["path"].split("/")[0] for row in csv.DictReader(file)]
    sizes = {category: categories.count(category) for category in set(categories)}
    true = {index for index, path in enumerate(paths) if sizes[str(path).split("/")[0]] < TAIL}
    assert true <= set(GroupSampler().fit(E).tail_indices_.tolist())


def test_an_odd_image_of_a_diverse_category_is_no_tail() -> None:
    """A chain from the middle of a category to its oddest image; each step is short, the whole is long."""
    angles = np.concatenate([np.zeros(30), np.radians(np.arange(1, 8) * 8)])
    diverse = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    E = np.concatenate([diverse, [[0.0, 0.0, 1.0]] * 2])
    sampler = GroupSampler().fit(E)
    assert sampler.labels_.tolist() == [0] * 37 + [1] * 2
    assert sampler.tail_indices_.tolist() == [37, 38]
    assert sampler.threshold_ == pytest.approx(np.cos(np.pi / 4))


def test_tails_are_small_groups() -> None:
    E = clouds([60, 50, 20, 19, 3, 1])
    assert GroupSampler().fit(E).tail_indices_.tolist() == list(range(130, 153))
    assert GroupSampler(tail_limit=2).fit(E).tail_indices_.tolist() == [152]
    assert GroupSampler(tail_limit=60).fit(E).tail_indices_.tolist() == list(range(153))


def test_equal_embeddings_are_one_group() -> None:
    sampler = GroupSampler().fit(np.ones((30, 3)))
    assert sampler.group_sizes_.tolist() == [30]
    assert sampler.tail_indices_.tolist() == []


def test_a_zero_embedding_is_a_group_of_its_own() -> None:
    assert GroupSampler().fit(np.concatenate([np.ones((5, 3)), np.zeros((1, 3))])).labels_.tolist() == [0] * 5 + [1]


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6), seed=st.integers(0, 99), spread=st.floats(0.01, 0.6))
def test_groups_are_the_components_of_the_graph_of_like_images(sizes: list[int], seed: int, spread: float) -> None:
    E = clouds([*sizes, 2], spread, seed)
    sampler = GroupSampler().fit(E)
    [(_, similarities)] = CosineBlocks(E, 2**28)
    _, components = connected_components(similarities >= sampler.threshold_, directed=False)
    assert len({*zip(components, sampler.labels_, strict=True)}) == len(set(components)) == len(sampler.group_sizes_)
    firsts = np.unique(sampler.labels_, return_index=True)[1]
    assert (np.diff(firsts) > 0).all(), "groups are numbered by their first images"
    small = GroupSampler(block_mib=1e-4).fit(E)
    np.testing.assert_array_equal(small.labels_, sampler.labels_)
    order = np.random.default_rng(seed).permutation(len(E))
    moved = GroupSampler().fit(E[order])
    assert sorted(order[moved.tail_indices_].tolist()) == sampler.tail_indices_.tolist()
    assert len({*zip(moved.labels_, sampler.labels_[order], strict=True)}) == len(sampler.group_sizes_)


@pytest.mark.parametrize(("setting", "message"), [({"tail_limit": 0}, "tail_limit"), ({"block_mib": 0}, "block_mib")])
def test_hyper_parameters_out_of_range(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        GroupSampler(**setting)


def test_embeddings_that_are_none() -> None:
    with pytest.raises(ContractError, match="row 1"):
        GroupSampler().fit(np.array([[1.0, 2.0], [np.nan, 1.0]]))


def test_the_estimate_grows_with_the_images() -> None:
    assert sampler_bytes(100, 8) < sampler_bytes(1000, 8) < sampler_bytes(1000, 800)


def test_levels_have_the_same_say() -> None:
    rng = np.random.RandomState(0)
    found = embeddings([rng.rand(5, 3).astype(np.float32), 100 * rng.rand(5, 7).astype(np.float32)])
    assert found.shape == (5, 10)
    for level in (found[:, :3], found[:, 3:]):
        assert np.linalg.norm(level, axis=1).mean() == pytest.approx(1)
    assert not embeddings([np.zeros((2, 3), np.float32)]).any()
