"""Pixels sorted by radix are NumPy's, whatever the values are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from numpy.typing import NDArray

from ltbench.errors import ContractError
from ltbench.metrics import UndefinedMetricError, pixel_metrics, ranking, region
from ltbench.metrics.radix import ascending

_maps = stn.arrays(np.float32, st.integers(0, 90), elements=st.floats(width=32, allow_nan=False) | st.integers(-2, 2))


def patterns(values: NDArray[np.float32]) -> list[int]:
    return values.view(np.uint32).tolist()  # type: ignore[no-any-return]


@settings(deadline=None)
@given(_maps, st.integers(1, 4), st.data())
def test_sorted_as_numpy_sorts(maps: NDArray[np.float32], threads: int, data: st.DataObject) -> None:
    masks = data.draw(stn.arrays(np.bool_, maps.shape))
    for wanted in (True, False):
        found = ascending(maps, masks, wanted=wanted, threads=threads)
        np.testing.assert_array_equal(found, np.sort(maps[masks == wanted]))
        assert sorted(patterns(found)) == sorted(patterns(maps[masks == wanted]))  # the zeros' signs, too


@pytest.mark.parametrize("scale", [1.0, 1e-42, 1e-6, 1e30])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_many_values_of_few_and_of_many_exponents(scale: float, offset: float) -> None:
    maps = (np.random.default_rng(0).standard_normal((3, 200, 200)) * scale + offset).astype(np.float32)
    masks = np.random.default_rng(1).random(maps.shape) < 0.1
    for threads in (1, 2, 3, 7):
        found = ascending(maps, masks, wanted=False, threads=threads)
        np.testing.assert_array_equal(found, np.sort(maps[~masks]))
    flipped = ascending(maps[:, ::-1], masks[:, ::-1], wanted=True)
    np.testing.assert_array_equal(flipped, np.sort(maps[masks]))


def test_the_negative_zero_comes_first() -> None:
    maps = np.array([0.0, -0.0, 1e-45, -1e-45, 0.0], np.float32)
    found = ascending(maps, np.zeros(5, np.bool_), wanted=False)
    assert patterns(found) == patterns(np.array([-1e-45, -0.0, 0.0, 0.0, 1e-45], np.float32))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which NumPy sorts slowly, for maps of any size."""
    monkeypatch.setattr(region, "numpy_is_slow", lambda: True)
    monkeypatch.setattr(region, "MANY", 0)


@pytest.mark.parametrize("decimals", [None, 1])
def test_the_metrics_are_the_same_to_the_last_digit(
    smooth: tuple[Any, Any], decimals: int | None, request: pytest.FixtureRequest
) -> None:
    maps = smooth[0] if decimals is None else smooth[0].round(decimals)
    maps = np.where(np.arange(len(maps))[:, None, None] == 1, -0.0, maps).astype(np.float32)
    expected = pixel_metrics(maps, smooth[1])
    request.getfixturevalue("slow")
    assert pixel_metrics(maps, smooth[1]) == expected


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("bad", [np.nan, -np.float32(np.nan), np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_what_is_not_finite_is_refused(bad: float, where: int) -> None:
    maps, masks = np.array([[[1, 2, 3]]], np.float32), np.array([[[0, 1, 0]]], np.bool_)
    maps[0, 0, where] = bad
    with pytest.raises(ContractError, match="finite"):
        pixel_metrics(maps, masks)
    with pytest.raises(UndefinedMetricError, match="no anomalous pixels"):
        pixel_metrics(np.ones_like(maps), np.zeros_like(masks))


def test_numpy_is_timed_once() -> None:
    ranking.numpy_is_slow.cache_clear()
    assert ranking.numpy_is_slow() is ranking.numpy_is_slow()
    assert ranking.numpy_is_slow.cache_info().misses == 1
