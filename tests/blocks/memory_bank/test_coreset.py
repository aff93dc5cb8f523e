"""Greedy coresets against plain loops, on real embeddings, and against values made with the authors' released code."""

from __future__ import annotations

import itertools

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numba.core import caching
from numpy.typing import NDArray

from ltbench.blocks.memory_bank.coreset import (
    SOFTPATCH_STARTS,
    approximate_greedy_coreset,
    coreset_size,
    draw_start,
    draw_starts,
    greedy_coreset,
    official_greedy_coreset,
    random_projection,
)
from ltbench.compiled import compiled
from ltbench.errors import ContractError, SpecError
from tests.shared import SHARED

REFERENCE = SHARED / "reference"

Points = NDArray[np.float32]
Picks = NDArray[np.int64]


def squares_to(points: Points, row: int) -> NDArray[np.float64]:
    """Squared distances to one row, column by column, as `squared_distance` defines them."""
    total = np.zeros(len(points))
    for column in np.ascontiguousarray(points.T, np.float64):
        total += (column - column[row]) ** 2
    return total


def loop(points: Points, count: int, anchors: NDArray[np.float64], first: int, keep: NDArray[np.bool_]) -> Picks:
    """Pick row by row: `first`, then the largest anchor among the unpicked, the smallest index among equals."""
    picks = [first]
    free = np.ones(len(points), bool)
    while len(picks) < count:
        anchors = np.minimum(anchors, squares_to(points, picks[-1]) * keep)
        free[picks[-1]] = False
        picks.append(int(np.where(free, anchors, -1).argmax()))
    return np.array(picks)


def greedy_loop(points: Points, count: int, start: int) -> Picks:
    return loop(points, count, np.full(len(points), np.inf), start, np.ones(len(points), bool))


def approximate_loop(points: Points, count: int, starts: Picks, keep: NDArray[np.bool_]) -> Picks:
    mean = np.mean([np.sqrt(squares_to(points, row)) for row in starts], axis=0)
    return loop(points, count, mean**2, int(mean.argmax()), keep)


def clusters(n: int, columns: int, seed: int) -> Points:
    """Rows of unequal clusters that vary along few directions, as patch features do, some of them twice."""
    rng = np.random.RandomState(seed)
    directions = rng.randn(columns, columns) * np.geomspace(1, 0.01, columns)[:, None]
    points = rng.randn(n, columns) @ directions + rng.randn(7, columns)[rng.randint(7, size=n)] * 3
    points[n // 2 : n // 2 + n // 10] = points[: n // 10]
    return points.astype(np.float32)


@st.composite
def grids(draw: st.DrawFn) -> Points:
    """Small integer points: full of ties and duplicates, and exact in every arithmetic."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 18)))
    return draw(hnp.arrays(np.float32, shape, elements=st.integers(-2, 2).map(float)))


@given(grids(), st.data())
@settings(deadline=None, max_examples=120)
def test_equals_the_loop_on_ties_and_duplicates(points: Points, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(points)))
    start = data.draw(st.integers(0, len(points) - 1))
    picks = greedy_coreset(points, count, start=start, threads=1)
    assert picks.dtype == np.int64
    assert picks.tolist() == greedy_loop(points, count, start).tolist()


@given(st.integers(0, 2**32 - 1), st.integers(-36, 34), st.floats(-1e3, 1e3), st.integers(1, 40))
@settings(deadline=None, max_examples=80)
def test_equals_the_loop_at_every_scale_and_offset(seed: int, exponent: int, offset: float, columns: int) -> None:
    rng = np.random.RandomState(seed)
    points = ((rng.randn(60, columns) + offset) * 10.0**exponent).astype(np.float32)
    assert greedy_coreset(points, 40, start=3, threads=1).tolist() == greedy_loop(points, 40, 3).tolist()


@pytest.mark.parametrize("columns", [3, 16, 37, 152])
def test_equals_the_loop_over_many_tiles(columns: int) -> None:
    points = clusters(3000, columns, seed=columns)
    assert greedy_coreset(points, 700, start=11).tolist() == greedy_loop(points, 700, 11).tolist()


def test_equals_the_loop_where_one_row_dwarfs_the_others() -> None:
    points = clusters(900, 20, seed=1)
    points[5] *= 1e12
    assert greedy_coreset(points, 300, start=0).tolist() == greedy_loop(points, 300, 0).tolist()


@pytest.mark.skipif(not REFERENCE.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["tailsampler_industrial7_ref1", "tailsampler_industrial8_ref0"])
def test_equals_a_plain_numpy_loop_on_real_embeddings(name: str) -> None:
    with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as file:
        points = np.ascontiguousarray(file["E"], np.float32)
    exact, nearest, picks = points.astype(np.float64), np.full(len(points), np.inf), [7]
    for _ in range(len(points) // 2):
        nearest = np.minimum(nearest, ((exact - exact[picks[-1]]) ** 2).sum(axis=1))
        picks.append(int(nearest.argmax()))
    assert greedy_coreset(points, len(picks), start=7).tolist() == picks


@pytest.mark.parametrize("points", [clusters(4000, 24, seed=3), clusters(2500, 24, seed=4).round()])
def test_picks_do_not_depend_on_threads(points: Points) -> None:
    once = greedy_coreset(points, 500, start=9, threads=1)
    starts = np.arange(10)
    approximate = approximate_greedy_coreset(points, 500, starts=starts, threads=1)
    for threads in (2, 5, None):
        assert np.array_equal(greedy_coreset(points, 500, start=9, threads=threads), once)
        assert np.array_equal(approximate_greedy_coreset(points, 500, starts=starts, threads=threads), approximate)


@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(-8, 8))
@settings(deadline=None, max_examples=40)
def test_invariants(seed: int, n: int, exponent: int) -> None:
    rng = np.random.RandomState(seed)
    points = rng.randn(n, 12).astype(np.float32)
    start = int(rng.randint(n))
    picks = greedy_coreset(points, n, start=start)
    assert picks[0] == start
    assert sorted(picks) == list(range(n))
    reached = [min(squares_to(points, p)[picks[:i]].min() for p in picks[i : i + 1]) for i in range(1, n)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(reached))
    assert np.array_equal(greedy_coreset(points * np.float32(2.0**exponent), n, start=start), picks)
    assert np.array_equal(greedy_coreset(points, n // 2 + 1, start=start), picks[: n // 2 + 1])


def test_equal_points_are_picked_in_order() -> None:
    points = np.full((500, 9), 0.1, np.float32)
    assert greedy_coreset(points, 300, start=4).tolist() == [4, *range(4), *range(5, 300)]


def test_accepts_strided_points() -> None:
    points = clusters(300, 24, seed=2)
    assert np.array_equal(
        greedy_coreset(points[::2, ::3], 40, start=1), greedy_loop(np.ascontiguousarray(points[::2, ::3]), 40, 1)
    )


@given(grids(), st.data())
@settings(deadline=None, max_examples=80)
def test_approximate_equals_the_loop(points: Points, data: st.DataObject) -> None:
    n = len(points)
    count = data.draw(st.integers(1, n))
    starts = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=10, unique=True)))
    keep = data.draw(hnp.arrays(np.bool_, n))
    picks = approximate_greedy_coreset(points, count, starts=starts, weights=keep, threads=1)
    assert picks.tolist() == approximate_loop(points, count, starts, keep).tolist()


def test_approximate_equals_the_loop_over_many_tiles() -> None:
    points, rng = clusters(3000, 20, seed=8), np.random.RandomState(0)
    starts, keep = draw_starts(3000, rng), rng.rand(3000) < 0.85
    picks = approximate_greedy_coreset(points, 500, starts=starts, weights=keep)
    assert picks.tolist() == approximate_loop(points, 500, starts, keep).tolist()
    assert keep[picks[1:]].all()


@given(grids(), st.data())
@settings(deadline=None, max_examples=60)
def test_official_starts_at_the_largest_row_of_the_distance_matrix(points: Points, data: st.DataObject) -> None:
    squares = np.array([squares_to(points, row) for row in range(len(points))])
    norms = squares.sum(axis=1)  # integers: exact, so that ties are ties
    picks = official_greedy_coreset(points, data.draw(st.integers(1, len(points))))
    assert norms[picks[0]] == norms.max()
    assert picks.tolist() == loop(points, len(picks), norms, int(picks[0]), np.ones(len(points), bool)).tolist()


def golden_points() -> Points:
    points: Points = np.random.RandomState(2).randn(60, 128).astype(np.float32)
    points[10] *= 4
    points[33] *= 3
    return points


def test_golden_values_of_the_released_code() -> None:
    """Picks made with patchcore-inspection, TailedCore and SoftPatch, NumPy seeded with 0 just before sampling."""
    points = golden_points()
    count = coreset_size(0.1, 60)
    start = draw_start(60, np.random.RandomState(0))
    assert greedy_coreset(points, count, start=start).tolist() == [44, 10, 33, 50, 23, 17]
    starts = draw_starts(60, np.random.RandomState(0))
    assert starts.tolist() == [26, 35, 59, 28, 11, 2, 34, 58, 40, 22]
    assert approximate_greedy_coreset(points, count, starts=starts).tolist() == [10, 33, 23, 56, 45, 17]
    assert official_greedy_coreset(points, count).tolist() == [10, 33, 0, 58, 21, 38]


def test_golden_value_of_softpatch_with_row_10_masked() -> None:
    """All 60 rows are starting rows: SoftPatch's constructor makes the projection's 128 their number."""
    starts = draw_starts(60, np.random.RandomState(0), SOFTPATCH_STARTS)
    assert len(starts) == 60
    picks = approximate_greedy_coreset(golden_points(), 6, starts=starts, weights=np.arange(60) != 10)
    assert picks.tolist() == [10, 33, 23, 31, 56, 17]


def test_rows_of_weight_0_come_last() -> None:
    points = clusters(50, 6, seed=5)
    keep = np.arange(50) % 5 > 0
    picks = approximate_greedy_coreset(points, 50, starts=np.array([0]), weights=keep.astype(np.float32))
    assert sorted(picks) == list(range(50))
    distinct = len(np.unique(points[keep], axis=0))
    assert keep[picks[1:distinct]].all()


@pytest.mark.parametrize(
    ("ratio", "n", "kept"),
    [(0.1, 30, 3), (0.1, 39, 3), (0.29, 100, 29), (0.57, 100, 57), (0.01, 1_000_000, 10_000), (0.1, 5, 1), (1, 7, 7)],
)
def test_coreset_size(ratio: float, n: int, kept: int) -> None:
    assert coreset_size(ratio, n) == kept


@given(st.integers(10, 10**9))
def test_coreset_size_of_a_tenth_is_that_of_the_authors(n: int) -> None:
    assert coreset_size(0.1, n) == int(n * 0.1) == n // 10


def test_random_projection_is_a_linear_layer_at_its_default() -> None:
    projection = random_projection(1024, 128, np.random.RandomState(0))
    assert projection is not None
    assert projection.shape == (1024, 128)
    assert projection.dtype == np.float32
    assert 0.999 / 32 < projection.max() <= 1 / 32
    assert -1 / 32 <= projection.min() < -0.999 / 32
    assert abs(projection.std() - 1 / 32 / 3**0.5) < 1e-4
    again = random_projection(1024, 128, np.random.RandomState(0))
    assert again is not None
    assert np.array_equal(projection, again)


def test_random_projection_between_equal_dimensions_is_left_out_and_draws_nothing() -> None:
    rng = np.random.RandomState(0)
    assert random_projection(128, 128, rng) is None
    assert draw_start(60, rng) == draw_start(60, np.random.RandomState(0))


def test_fewer_rows_than_starts_are_all_starts() -> None:
    assert sorted(draw_starts(4, np.random.RandomState(0))) == [0, 1, 2, 3]


GOOD = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (GOOD.astype(np.float64), "float64"),
        (GOOD[0], "float32 .2,."),
        (GOOD[:0], "non-empty"),
        (np.array([[1.0, np.nan]], np.float32), "NaN"),
        (np.array([[1.0], [-np.inf]], np.float32), "infinity"),
    ],
)
def test_bad_points_are_refused(points: Points, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        greedy_coreset(points, 1, start=0)
    with pytest.raises(ContractError, match=message):
        official_greedy_coreset(points, 1)
    with pytest.raises(ContractError, match=message):
        approximate_greedy_coreset(points, 1, starts=np.array([0]))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SpecError, match="1 to 4 rows, got 5"):
        greedy_coreset(GOOD, 5, start=0)
    with pytest.raises(SpecError, match="got 0"):
        greedy_coreset(GOOD, 0, start=0)
    with pytest.raises(SpecError, match="start from 0 to 3"):
        greedy_coreset(GOOD, 2, start=4)
    with pytest.raises(SpecError, match="start from 0 to 3"):
        greedy_coreset(GOOD, 2, start=-1)
    with pytest.raises(SpecError, match="starts as row indices"):
        approximate_greedy_coreset(GOOD, 2, starts=np.array([0.5]))
    with pytest.raises(SpecError, match="thread"):
        greedy_coreset(GOOD, 2, start=0, threads=0)
    with pytest.raises(ContractError, match="4 weights of 0 or 1"):
        approximate_greedy_coreset(GOOD, 2, starts=np.array([0]), weights=np.array([0, 1, 0.5, 1]))
    with pytest.raises(ContractError, match="4 weights of 0 or 1"):
        approximate_greedy_coreset(GOOD, 2, starts=np.array([0]), weights=np.ones(3))
    for ratio in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(SpecError, match="ratio"):
            coreset_size(ratio, 10)
    with pytest.raises(SpecError, match="rows"):
        coreset_size(0.1, 0)
    with pytest.raises(SpecError, match="dimensions"):
        random_projection(0, 128, np.random.RandomState(0))


def test_points_are_left_as_they_are() -> None:
    points = clusters(400, 10, seed=6)
    points.flags.writeable = False
    before = points.copy()
    greedy_coreset(points, 100, start=0)
    approximate_greedy_coreset(points, 100, starts=np.arange(3), weights=np.ones(400))
    assert np.array_equal(points, before)


def double(x: float) -> float:
    return x + x


def test_compiles_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    implementation = getattr(caching, "CacheImpl", None) or getattr(caching, "_CacheImpl")  # noqa: B009 (older numba)
    monkeypatch.setattr(implementation, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(double)
    assert compiled(double)(2.0) == 4.0
