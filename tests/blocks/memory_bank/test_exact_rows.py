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
from ltbench.blocks.memory_bank.exact_rows import NONE, Estimates, ExactRows, sketch_bytes
from ltbench.blocks.memory_bank.neighbours import CHUNK, PLAIN, NearestNeighbours
from ltbench.blocks.memory_bank.sketches import Centred, Principal, Sketch

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


def sketched(memory: Array) -> ExactRows:
    """Return a search by principal axes, whether they pay or not."""
    rows = ExactRows(memory)
    rows._sketched = Estimates(Principal(memory), memory, kept=True)
    return rows


def assert_exact(memory: Array, queries: Array, k: int) -> None:
    """Assert that every way finds what a measurement of all rows finds, and of those that are left without some."""
    ways = [ExactRows(memory)] + ([sketched(memory)] if memory.shape[1] >= 8 and np.isfinite(memory).all() else [])
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


@pytest.mark.parametrize("k", [1, 3])
def test_of_equal_rows_no_more_are_measured_than_are_found(k: int) -> None:
    memory = np.concatenate([features(5), np.repeat(features(1, seed=5), 2000, axis=0), features(5, seed=6)])
    queries = features(1, seed=5) + features(30, seed=7, shift=0) * np.float32(1e-3)
    distances, _, left = Estimates(Centred(memory), memory).choose(queries, k, 1000)
    assert 1000 - left.min() <= k + 10
    np.testing.assert_array_equal(distances, by_all(memory, queries, k)[0])


@pytest.mark.parametrize("sketch", [Centred, Principal])
@pytest.mark.parametrize("shift", [0, 1000])
def test_sketches_are_no_farther_apart_than_rows(sketch: type[Sketch], shift: float) -> None:
    """Tight: between rows that nearly coincide, and rows that differ in the sketched part alone."""
    memory = features(500, shift=shift)
    near = memory + features(500, seed=1, shift=0) * np.float32(1e-4)
    made = sketch(memory)  # type: ignore[call-arg]
    for one, other in ((memory, near), (memory, memory[::-1])):
        sketches = [made.of(rows).astype(np.float64) for rows in (one, other)]
        apart = np.linalg.norm(sketches[0] - sketches[1], axis=1)
        room = made.error * (np.linalg.norm(sketches[0], axis=1) + np.linalg.norm(sketches[1], axis=1))
        assert (apart <= np.linalg.norm(one.astype(np.float64) - other, axis=1) + room).all()
        assert (room <= 1e-4 * np.linalg.norm(memory - memory.mean(axis=0), axis=1).max()).all()


def test_few_rows_are_measured_among_features_and_noise_is_given_up() -> None:
    rows, queries = features(4000, 256), features(100, 256, seed=1)
    rng = np.random.default_rng(0)
    noise, others = (rng.standard_normal((count, 256)).astype(np.float32) for count in (4000, 100))
    for memory, asked, sketch, most in (
        (rows, queries, Principal, 200),
        (rows, queries, Centred, 30),
        (noise, others, Centred, 30),
    ):
        left = Estimates(sketch(memory), memory, kept=True).choose(asked, 1, 5000)[2]
        assert 5000 - left.mean() < most
    assert (Estimates(Principal(noise), noise, kept=True).choose(others, 1, 500)[2] == 0).mean() > 0.9
    for found, wanted in zip(sketched(noise).search(others, 1), by_all(noise, others, 1), strict=True):
        np.testing.assert_array_equal(found, wanted)


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


class TestInALongSearch:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exact_rows, "MIN_ROWS", 1000)
        monkeypatch.setattr(exact_rows, "MIN_COLUMNS", 64)

    def test_principal_axes_are_used_where_they_pay_and_find_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        memory, queries = features(2000), features((PLAIN + 2) * CHUNK + 100, seed=1)
        queries[-1] = memory[3]
        expected = ExactRows(memory).search(queries, 2)
        for threads in (1, 3):
            monkeypatch.setattr(neighbours_module, "usable_cores", lambda threads=threads: threads)
            neighbours = NearestNeighbours(memory)
            for found, wanted in zip(neighbours.search(queries, 2), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)
            assert neighbours._exact is not None
            assert neighbours._exact._sketched is not None

    def test_they_are_left_where_they_do_not(self) -> None:
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((1500, 64)).astype(np.float32)
        broken = features(1500)
        broken[3, 3] = np.inf
        many = features(PLAIN * CHUNK + 1, seed=1)
        for memory, queries in (
            (features(1500), many[:-1]),  # few queries
            (features(999), many),
            (features(1500, 63), many[:, :63]),
            (noise, rng.standard_normal(many.shape).astype(np.float32)),
        ):
            neighbours = NearestNeighbours(memory)
            neighbours.search(queries)
            assert neighbours._exact is not None
            assert neighbours._exact._sketched is None
        frugal = NearestNeighbours(features(1500), sketched=False)
        frugal.search(many)
        assert frugal._exact is not None
        assert frugal._exact._sketched is None
        rows = ExactRows(broken)
        rows.sketch(many, 1)
        assert rows._sketched is None


def test_the_bytes_of_principal_axes() -> None:
    rows, columns = exact_rows.MIN_ROWS, 1024
    assert sketch_bytes(rows, columns) > rows * columns  # a quarter of the columns, in float32
    assert sketch_bytes(rows - 1, columns) == sketch_bytes(rows, exact_rows.MIN_COLUMNS - 1) == 0
