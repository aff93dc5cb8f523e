"""The exact search by all its ways against a measurement of all rows: the same rows and distances, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltbench.blocks.memory_bank import exact_rows
from ltbench.blocks.memory_bank import neighbours as neighbours_module
from ltbench.blocks.memory_bank.exact_rows import NONE, ExactRows, PlainRows, RoundedRows
from ltbench.blocks.memory_bank.neighbours import CHUNK, NearestNeighbours
from tests.blocks.memory_bank.bytes_products import exact_bytes as exact_bytes

pytestmark = pytest.mark.usefixtures("exact_bytes")

Array = NDArray[np.float32]


def features(count: int, columns: int = 64, seed: int = 0, shift: float = 3) -> Array:
    """Rows that mostly vary along few axes, as features do, away from the origin."""
    rng = np.random.default_rng(seed)
    rows: Array = (shift + rng.standard_normal((count, columns)) / np.arange(1, columns + 1)).astype(np.float32)
    return rows


def by_all(memory: Array, queries: Array, k: int) -> tuple[Array, NDArray[np.int64]]:
    """Return what is to be found: float32 distances, of equally near rows those of smaller index, NaN last."""
    with np.errstate(over="ignore", invalid="ignore"):
        distances = np.stack([((memory - query) ** 2).sum(axis=1) for query in queries])
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, nearest, axis=1), nearest


def mean(rows: Array) -> Array:
    found: Array = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return found


def plain(memory: Array) -> ExactRows:
    """Return a search by rows as they are, however few the queries."""
    rows = ExactRows(memory)
    rows._few = rows._little = 0
    return rows


def measuring(memory: Array) -> ExactRows:
    """Return a search that measures all rows where float32 holds their squares, however many the queries."""
    rows = ExactRows(memory)
    rows._few = 2**31
    return rows


def rounding(memory: Array) -> ExactRows:
    """Return a search by rounded rows, whether this machine multiplies them faster or not."""
    rows = plain(memory)
    rows._rounded = RoundedRows(memory, mean(memory))
    return rows


def assert_exact(memory: Array, queries: Array, k: int) -> None:
    """Assert that every way finds what a measurement of all rows finds, and of those that are left without some."""
    can_be_rounded = memory.shape[1] >= 8 and np.linalg.norm(memory.astype(np.float64), axis=1).max() < 2.0**60
    ways = [ExactRows(memory), plain(memory), measuring(memory)] + ([rounding(memory)] if can_be_rounded else [])
    some = np.random.default_rng(len(queries)).permutation(len(memory))[: min(len(memory) // 3, len(memory) - k)]
    for without in (NONE, some) if len(some) else (NONE,):
        left = np.setdiff1d(np.arange(len(memory)), without)
        near, places = by_all(memory[left], queries, k)
        for way in ways:
            distances, indices = way.search(queries, k, without)
            np.testing.assert_array_equal(distances, near)
            np.testing.assert_array_equal(indices, left[places])
            assert distances.dtype == np.float32


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_rows, "BLOCK", 50)


@given(
    kind=st.sampled_from(["clusters", "features", "few values", "noise"]),
    rows=st.integers(1, 300),
    columns=st.sampled_from([1, 3, 8, 64, 257]),
    k=st.integers(1, 5),
    copies=st.integers(1, 3),
    shift=st.sampled_from([0, 3, 1000, 1e6]),
    scale=st.sampled_from([1e-41, 1e-24, 1e-3, 1, 1e12, 1e19]),
    zeros=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_equals_a_measurement_of_all(
    kind: str, rows: int, columns: int, k: int, copies: int, shift: float, scale: float, zeros: bool, seed: int
) -> None:
    """Near-equal rows far from the origin, duplicates, denormals, squares beyond float32, zero rows, a single row."""
    rng = np.random.default_rng(seed)
    values = {
        "clusters": shift * rng.standard_normal((4, columns))[rng.integers(0, 4, rows)]
        + 1e-3 * rng.standard_normal((rows, columns)),
        "features": shift + rng.standard_normal((rows, columns)) / np.arange(1, columns + 1),
        "few values": shift + rng.integers(0, 2, (rows, columns)),
        "noise": rng.standard_normal((rows, columns)),
    }[kind]
    memory = np.repeat(values * scale, copies, axis=0).astype(np.float32)
    memory[::7] *= 0 if zeros else 1
    with np.errstate(over="ignore"):
        near = memory[rng.integers(0, len(memory), 20)] * np.float32(1 + 1e-6)
    assert_exact(memory, np.concatenate([near, memory[:5], np.zeros((1, columns), np.float32)]), min(k, len(memory)))


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("k", [1, 4, 70])
def test_in_many_blocks(k: int) -> None:
    """More neighbours than a block has rows, too."""
    assert_exact(features(777), features(90, seed=1), k)


@pytest.mark.parametrize("k", [1, 3])
def test_rows_and_queries_that_are_not_finite(k: int) -> None:
    memory, queries = features(200), features(6, seed=1)
    queries[1, 7], queries[2, 0], queries[3], queries[4, 1] = np.nan, np.inf, 1e30, -3e38
    assert_exact(memory, queries, k)
    memory[5, 3], memory[100, 0], memory[101] = np.nan, np.inf, 2e25
    assert_exact(memory, queries, k)


def test_all_rows_equally_near_are_taken_by_index() -> None:
    memory = np.eye(300, dtype=np.float32)
    found = ExactRows(memory).search(np.zeros((40, 300), np.float32), 3)
    np.testing.assert_array_equal(found[1], np.tile([0, 1, 2], (40, 1)))
    np.testing.assert_array_equal(found[0], 1)


@pytest.mark.parametrize("way", [PlainRows, RoundedRows])
@pytest.mark.parametrize("k", [1, 3])
def test_of_equal_rows_no_more_are_measured_than_are_found(k: int, way: type[PlainRows | RoundedRows]) -> None:
    memory = np.concatenate([features(5), np.repeat(features(1, seed=5), 2000, axis=0), features(5, seed=6)])
    queries = features(1, seed=5) + features(30, seed=7, shift=0) * np.float32(1e-3)
    distances, _, left = way(memory, mean(memory)).choose(queries, k, 1000)
    assert 1000 - left.min() <= k + 10
    np.testing.assert_array_equal(distances, by_all(memory, queries, k)[0])


def test_few_rows_are_measured_in_either_way() -> None:
    rng = np.random.default_rng(0)
    noise, others = (rng.standard_normal((count, 256)).astype(np.float32) for count in (4000, 100))
    for memory, queries in ((features(4000, 256), features(100, 256, seed=1)), (noise, others)):
        for way, most in ((PlainRows, 15), (RoundedRows, 100)):
            left = way(memory, mean(memory)).choose(queries, 1, 5000)[2]
            assert 5000 - left.mean() < most


def test_what_rounded_rows_cannot_tell_apart_is_found_and_they_are_asked_no_more() -> None:
    """Clusters of rows that are nearer to one another than a step of int8."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 64))
    memory, queries = (
        (centres[rng.integers(0, 4, n)] + 1e-3 * rng.standard_normal((n, 64))).astype(np.float32) for n in (3000, 50)
    )
    assert (RoundedRows(memory, mean(memory)).choose(queries, 1, 187)[2] == 0).all()
    rows = rounding(memory)
    for _ in range(2):
        np.testing.assert_array_equal(rows.search(queries, 1)[1], by_all(memory, queries, 1)[1])
        rows.prepare()
        assert rows._rounded is None


def test_a_lower_precision_of_the_program_changes_nothing() -> None:
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch has no fp32_precision before 2.9")
    before = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert_exact(features(3000), features(100, seed=1), 1)
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before  # type: ignore[attr-defined]


def test_nor_does_a_torch_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    assert_exact(features(3000), features(100, seed=1), 2)


class TestInASearch:
    def test_rounded_rows_find_the_same_on_any_number_of_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exact_rows, "multiplies_bytes", lambda columns: columns == 64)
        memory, queries = features(2000), features(3 * CHUNK + 100, seed=1)
        queries[-1] = memory[3]
        expected = NearestNeighbours(memory, rounded=False).search(queries, 2)
        for threads in (1, 3):
            monkeypatch.setattr(neighbours_module, "usable_cores", lambda threads=threads: threads)
            neighbours = NearestNeighbours(memory)
            for found, wanted in zip(neighbours.search(queries, 2), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)
            assert neighbours._exact is not None
            assert neighbours._exact._rounded is not None

    def test_they_are_left_where_they_are_not_wanted_or_cannot_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        memory, broken = features(300), features(300)
        broken[3, 3] = np.inf
        many = features(CHUNK, seed=1)
        for rows, queries, rounded, faster in (
            (memory, many, False, True),
            (memory, many, True, False),
            (memory, many[:500], True, True),
            (broken, many, True, True),
        ):
            monkeypatch.setattr(exact_rows, "multiplies_bytes", lambda _, faster=faster: faster)
            neighbours = NearestNeighbours(rows, rounded=rounded)
            neighbours.search(queries)
            assert neighbours._exact is not None
            assert neighbours._exact._rounded is None
