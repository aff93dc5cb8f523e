"""Bounds against a search of all rows: the same rows and distances, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltbench.blocks.memory_bank import bounds
from ltbench.blocks.memory_bank.bounds import Bounds, bounds_bytes, suited
from ltbench.blocks.memory_bank.neighbours import CHUNK, SCANNED, NearestNeighbours

Array = NDArray[np.float32]


def features(count: int, columns: int = 256, seed: int = 0, shift: float = 3) -> Array:
    """Rows that mostly vary along few axes, as features do, away from the origin."""
    rng = np.random.default_rng(seed)
    falling = 1 / np.arange(1, columns + 1)
    rows: Array = (shift + rng.standard_normal((count, columns)) * falling).astype(np.float32)
    return rows


def by_all(memory: Array, queries: Array, k: int) -> tuple[Array, NDArray[np.int64]]:
    """Return what is to be found: float32 distances, and of equally near rows those of smaller index."""
    distances = np.stack([((memory - query) ** 2).sum(axis=1) for query in queries])
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, nearest, axis=1), nearest


def assert_same(memory: Array, queries: Array, k: int) -> NDArray[np.int64]:
    """Assert that what bounds find is right where they find anything, and return the queries that they give up."""
    with np.errstate(invalid="ignore", over="ignore"):
        distances, indices, given_up = Bounds(memory).search(queries, k)
        expected = by_all(memory, queries, k)
    known = np.setdiff1d(np.arange(len(queries)), given_up)
    np.testing.assert_array_equal(distances[known], expected[0][known])
    np.testing.assert_array_equal(indices[known], expected[1][known])
    return given_up


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bounds, "BLOCK", 300)
    yield


@given(
    rows=st.integers(200, 900),
    columns=st.sampled_from([8, 64, 257]),
    k=st.integers(1, 5),
    copies=st.integers(1, 4),
    shift=st.sampled_from([0, 3, 1000]),
    scale=st.sampled_from([1e-24, 1e-3, 1, 1e12]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_equals_a_search_of_all(
    rows: int, columns: int, k: int, copies: int, shift: float, scale: float, seed: int
) -> None:
    """Far from the origin, tiny and huge, with duplicates."""
    memory = np.repeat(features(rows, columns, seed, shift), copies, axis=0) * np.float32(scale)
    near = memory[:: rows // 20] + features(len(memory[:: rows // 20]), columns, seed + 1, 0) * np.float32(scale * 1e-3)
    assert_same(memory, np.concatenate([near, memory[:5]]), k)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 3, 9])
def test_nothing_is_given_up_among_features_in_many_blocks(k: int) -> None:
    given_up = assert_same(features(5000), features(200, seed=1), k)
    assert len(given_up) == 0


def test_equally_near_rows_are_taken_by_index_or_given_up() -> None:
    memory = np.repeat(features(100), [3] * 50 + [bounds._ROOM + 5] * 50, axis=0)
    queries = memory[[0, 3, 149, 151, len(memory) - 1]]
    given_up = assert_same(memory, queries, 2)
    np.testing.assert_array_equal(given_up, [3, 4])
    found = Bounds(memory).search(queries[:1], 3)
    np.testing.assert_array_equal(found[1], [[0, 1, 2]])


def test_what_is_not_finite_or_too_large_is_given_up() -> None:
    memory, queries = features(1000), features(5, seed=1)
    queries[1, 7], queries[2, 0], queries[3] = np.nan, np.inf, 1e30
    np.testing.assert_array_equal(assert_same(memory, queries, 1), [1, 2, 3])


def test_noise_is_given_up_and_does_not_pay() -> None:
    rng = np.random.default_rng(0)
    memory, queries = (rng.standard_normal((n, 256)).astype(np.float32) for n in (9000, 200))
    made = Bounds(memory)
    assert not made.pay(queries, 1)
    assert len(made.search(queries, 1)[2]) > 100
    assert Bounds(features(9000)).pay(features(200, seed=1), 1)


def test_a_lower_precision_of_the_program_changes_nothing() -> None:
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch has no fp32_precision before 2.9")
    memory, queries = features(3000), features(100, seed=1)
    before = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    try:
        assert len(assert_same(memory, queries, 1)) == 0
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before  # type: ignore[attr-defined]


def test_what_is_suited() -> None:
    memory = features(bounds.MIN_ROWS)
    assert suited(memory)
    assert not suited(memory[1:])
    assert not suited(memory[:, 1:])
    memory[-1, -1] = np.nan
    assert not suited(memory)
    assert bounds_bytes(bounds.MIN_ROWS, 1024) > bounds.MIN_ROWS * 1024  # a quarter of the columns, in float32
    assert bounds_bytes(bounds.MIN_ROWS - 1, 1024) == 0


@pytest.fixture(scope="module")
def memory() -> Array:
    return features(9000)


class TestInASearch:
    def test_it_finds_the_same_as_faiss_alone_on_any_number_of_threads(self) -> None:
        """Around the origin, where FAISS loses no neighbour to rounding."""
        memory, queries = features(9000, shift=0), features((SCANNED + 2) * CHUNK + 100, seed=1, shift=0)
        queries[-1] = memory[3]
        expected = NearestNeighbours(memory, bounded=False).search(queries, 2)
        before = faiss.omp_get_max_threads()
        try:
            for threads in (1, 3):
                faiss.omp_set_num_threads(threads)
                neighbours = NearestNeighbours(memory)
                for one, other in zip(neighbours.search(queries, 2), expected, strict=True):
                    np.testing.assert_array_equal(one, other)
                assert neighbours._bounds is not None
        finally:
            faiss.omp_set_num_threads(before)

    def test_queries_that_are_given_up_are_found_all_the_same(self) -> None:
        memory = np.concatenate([features(9000), np.repeat(features(1, seed=5, shift=9), 60, axis=0)])
        queries = features((SCANNED + 1) * CHUNK, seed=1)
        queries[-3:] = memory[-1] + features(3, seed=6, shift=0) * np.float32(0.01)
        neighbours = NearestNeighbours(memory)
        found = neighbours.search(queries)
        assert neighbours._bounds is not None
        np.testing.assert_array_equal(neighbours._bounds.search(queries[-CHUNK:], 1)[2], CHUNK - 3 + np.arange(3))
        expected = by_all(memory, queries[-3:], 1)
        np.testing.assert_array_equal(found[0][-3:], expected[0])

    def test_few_queries_and_unbounded_searches_make_none(self, memory: Array) -> None:
        few, many = features(SCANNED * CHUNK, seed=1), features(SCANNED * CHUNK + 1, seed=1)
        for neighbours, queries in (
            (NearestNeighbours(memory), few),
            (NearestNeighbours(memory, bounded=False), many),
            (NearestNeighbours(memory[:100]), many),
        ):
            neighbours.search(queries)
            assert neighbours._bounds is None
