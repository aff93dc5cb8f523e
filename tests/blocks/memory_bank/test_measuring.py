"""Measured distances beside NumPy's, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltbench.blocks.memory_bank.measuring import earlier_copies, gamma, squared_length, summands


@given(st.integers(1, 3000), st.sampled_from([1e-24, 1.0, 1e15]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_sum_of_squares_is_numpys(columns: int, scale: float, seed: int) -> None:
    rows = (np.random.default_rng(seed).standard_normal((3, 2, columns)) * scale).astype(np.float32)
    found = [squared_length(row, summands(columns), np.empty_like(row)) for row in rows.reshape(-1, columns)]
    np.testing.assert_array_equal(found, (rows**2).sum(axis=2).ravel())


@pytest.mark.parametrize("columns", [1, 7, 8, 128, 129, 136, 1024, 8192, 10007, 40000])
def test_at_the_lengths_where_numpy_goes_another_way(columns: int) -> None:
    row = np.random.default_rng(0).standard_normal(columns).astype(np.float32)
    assert squared_length(row, summands(columns), np.empty_like(row)) == (row**2).sum()


def test_gamma_bounds_products_of_roundings() -> None:
    unit = 2.0**-24
    for count in (1, 10, 1000, 100_000):
        assert (1 + unit) ** count - 1 <= gamma(count)
        assert (1 - unit) ** -count - 1 <= gamma(count)


def test_earlier_copies_are_counted() -> None:
    rows = np.array([[1, 2], [3, 4], [1, 2], [0, 5], [1, 2], [3, 4]], np.float32)
    keys = (rows**2).sum(axis=1)  # 5, 25, 5, 25, 5, 25: two kinds of rows of one key
    found = earlier_copies(rows, keys, keys.argsort(kind="stable"))
    np.testing.assert_array_equal(found[[0, 1, 2, 3, 4]], [0, 0, 1, 0, 2])
    assert found[5] in (0, 1)  # [0, 5] may hide it
