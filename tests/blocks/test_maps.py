"""Anomaly maps against torch and scipy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ltbench.blocks import maps as module
from ltbench.blocks.maps import at_size, smooth, upsample, upsample_and_smooth
from ltbench.errors import ContractError
from tests.blocks.test_threads import blas_counts

side = st.integers(1, 40)


def random_maps(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@given(grid=st.tuples(side, side), size=st.tuples(side, side), align_corners=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_upsample_is_torchs_bilinear(
    grid: tuple[int, int], size: tuple[int, int], align_corners: bool, seed: int
) -> None:
    maps = random_maps(2, *grid, seed=seed)
    expected = F.interpolate(torch.tensor(maps)[:, None], size, mode="bilinear", align_corners=align_corners)
    result = upsample(maps, size, align_corners=align_corners)
    np.testing.assert_allclose(result, expected[:, 0].numpy(), atol=2e-5)  # torch has positions in float32
    assert result.dtype == np.float32


@given(size=st.tuples(side, side), sigma=st.floats(0.3, 6), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_smooth_is_scipys_gaussian(size: tuple[int, int], sigma: float, seed: int) -> None:
    maps = random_maps(3, *size, seed=seed)
    expected = np.stack([gaussian_filter(each, sigma) for each in maps])
    np.testing.assert_allclose(smooth(maps, sigma), expected, atol=1e-6)


@pytest.mark.parametrize("grid", [(14, 14), (28, 28), (7, 9)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_both_at_once_equal_one_after_the_other(grid: tuple[int, int], align_corners: bool) -> None:
    maps = random_maps(3, *grid)
    resized = F.interpolate(torch.tensor(maps)[:, None], (224, 256), mode="bilinear", align_corners=align_corners)
    expected = np.stack([gaussian_filter(each, 4.0) for each in resized[:, 0].numpy()])
    result = upsample_and_smooth(maps, (224, 256), 4.0, align_corners=align_corners)
    np.testing.assert_allclose(result, expected, atol=5e-6)  # torch has positions in float32
    np.testing.assert_allclose(result, smooth(upsample(maps, (224, 256), align_corners=align_corners), 4.0), atol=1e-6)


def test_a_spike_as_in_patchcores_released_code() -> None:
    """Golden values: one patch of 28x28 at 1, resized to 224 and smoothed with sigma 4."""
    grid = np.zeros((28, 28), dtype=np.float32)
    grid[10, 20] = 1
    result = upsample_and_smooth(grid, (224, 224), 4.0)
    assert result.shape == (224, 224)
    assert result.max() == pytest.approx(0.367219, abs=1e-6)
    assert result[83, 163] == pytest.approx(result.max(), abs=1e-7)
    assert result[84, 164] == pytest.approx(result.max(), abs=1e-7)
    assert result.sum(dtype=np.float64) == pytest.approx(64.0, abs=1e-4)


RESIZES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "upsample": lambda grids: upsample(grids, (224, 224)),
    "smooth": lambda grids: smooth(grids, 2.0),
    "both": lambda grids: upsample_and_smooth(grids, (224, 224), 4.0),
}


@pytest.mark.parametrize("name", RESIZES)
def test_a_map_does_not_depend_on_its_batch(name: str) -> None:
    maps, resize = random_maps(5, 14, 14), RESIZES[name]
    np.testing.assert_array_equal(resize(maps), np.stack([resize(each) for each in maps]))
    assert len(resize(maps[:0])) == 0


def test_a_constant_stays_constant_and_zero_sigma_changes_nothing() -> None:
    np.testing.assert_allclose(upsample_and_smooth(np.full((5, 7), 3.0), (50, 40), 4.0), 3.0, rtol=1e-6)
    maps = random_maps(2, 9, 9)
    np.testing.assert_array_equal(smooth(maps, 0.0), maps)
    np.testing.assert_array_equal(upsample_and_smooth(maps, (20, 20), 0.0), upsample(maps, (20, 20)))


def test_a_map_of_the_size_is_left_as_it_is() -> None:
    one = np.random.default_rng(0).random((6, 8), dtype=np.float32)
    assert at_size(one, (6, 8)) is one
    np.testing.assert_array_equal(at_size(one, (8, 6)), upsample(one, (8, 6)))


def test_what_is_no_map() -> None:
    with pytest.raises(ContractError, match="maps"):
        upsample(random_maps(2, 3, 4, 5), (8, 8))


class Watched(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):
    """A matrix that notes on how many threads of BLAS it is multiplied."""

    counts: list[int] = []

    def __matmul__(self, other: object) -> NDArray[np.float64]:  # type: ignore[override]
        self.counts += blas_counts()
        return np.matmul(np.asarray(self), other)  # type: ignore[call-overload,no-any-return]


def test_products_take_one_thread_and_give_what_several_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second thread of OpenBLAS waits busily for 70 ms after each: `findings/openblas_waits_busily.sh`."""
    grids = random_maps(2, 28, 28)
    with threadpool_limits(2, user_api="blas"):
        usual = upsample_and_smooth(grids, (256, 320), 4.0)
        plain = module._smoothing
        monkeypatch.setattr(module, "_smoothing", lambda *given: plain(*given).view(Watched))
        assert (upsample_and_smooth(grids, (256, 320), 4.0) == usual).all()
    assert Watched.counts and set(Watched.counts) == {1}
    rows, columns = (plain(side, 28, 4.0, False) for side in (256, 320))
    several = np.stack([rows @ grid.astype(np.float64) @ columns.T for grid in grids]).astype(np.float32)
    assert (several == usual).all()
