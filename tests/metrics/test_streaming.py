from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from numpy.typing import NDArray

from ltbench.errors import ContractError, DataError, SpecError
from ltbench.metrics import PixelHistogram, UndefinedMetricError, pixel_metrics
from ltbench.metrics.streaming import PixelBrackets, bin_keys

Maps = NDArray[Any]
Masks = NDArray[np.bool_]
ROUNDING = 1e-12

_finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
_shape = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 6))
_case = _shape.flatmap(
    lambda shape: st.tuples(
        # near values share bins of 10 bits, so that the order inside a bin matters
        stn.arrays(np.float32, shape, elements=st.floats(1, 2, width=32) | st.floats(-3, 3, width=32) | _finite),
        stn.arrays(np.bool_, shape).filter(lambda mask: mask.any() and not mask.all()),
    )
)


def _brackets(maps: Maps, masks: Masks, bits: int = 20, batch: int = 2) -> PixelBrackets:
    histogram = PixelHistogram(bits=bits)
    for start in range(0, len(maps), batch):
        histogram.update(maps[start : start + batch], masks[start : start + batch])
    return histogram.metrics()


@given(st.lists(_finite, min_size=2, max_size=30), st.integers(10, 32))
def test_keys_grow_with_the_float(values: list[float], bits: int) -> None:
    ordered = np.sort(np.array(values, np.float32))
    assert (np.diff(bin_keys(ordered, bits)) >= 0).all()
    distinct = np.unique(ordered)
    assert len(np.unique(bin_keys(distinct, 32))) == len(distinct)


def test_both_zeros_have_one_key() -> None:
    assert len(set(bin_keys(np.array([0.0, -0.0], np.float32), 32).tolist())) == 1


@settings(deadline=None, max_examples=60)
@given(_case, st.sampled_from([10, 12, 20]))
def test_the_bracket_holds_the_exact_value(case: tuple[Maps, Masks], bits: int) -> None:
    maps, masks = case
    for bracket, exact in zip(_brackets(maps, masks, bits), pixel_metrics(maps, masks), strict=True):
        assert bracket.low - ROUNDING <= exact <= bracket.high + ROUNDING
        assert 0 <= bracket.low <= bracket.high + ROUNDING
        assert bracket.high <= 1


def test_the_auroc_error_is_half_the_share_of_pairs_in_one_bin() -> None:
    # 10 bits part 1 to 1.5 from 1.5 to 2: of the 3 x 4 pairs, 1 x 1 and 1 x 2 are in one bin and 7 are won for certain
    maps = np.array([[[1.1, 1.9, 40.0, 1.2, 1.5, 1.6, -2.0]]], np.float32)
    masks = np.array([[[1, 1, 1, 0, 0, 0, 0]]], np.bool_)
    bracket = _brackets(maps, masks, bits=10).auroc
    assert bracket.error == pytest.approx(0.5 * (1 * 1 + 1 * 2) / (3 * 4), abs=1e-15)
    assert bracket.estimate == pytest.approx((7 + 3 / 2) / 12, abs=1e-15)


def test_20_bits_are_enough_on_smooth_maps(smooth: tuple[Maps, Masks]) -> None:
    exact = pixel_metrics(*smooth)
    for bracket, value in zip(_brackets(*smooth), exact, strict=True):
        assert bracket.error < 1e-3
        assert abs(bracket.estimate - value) <= bracket.error + ROUNDING


def test_more_bits_never_widen_the_bracket(smooth: tuple[Maps, Masks]) -> None:
    errors = np.array([[bracket.error for bracket in _brackets(*smooth, bits=bits)] for bits in (10, 14, 18, 22)])
    assert (np.diff(errors, axis=0) <= ROUNDING).all()
    assert (errors[0] > 10 * errors[2]).all()


def test_batches_do_not_show(smooth: tuple[Maps, Masks]) -> None:
    one, all_at_once = _brackets(*smooth, batch=1), _brackets(*smooth, batch=24)
    np.testing.assert_allclose(np.array(one), np.array(all_at_once), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**30])
def test_stretched_scores_move_nothing(smooth: tuple[Maps, Masks], scale: float) -> None:
    maps, masks = smooth
    assert _brackets(maps * np.float32(scale), masks) == _brackets(maps, masks)


def test_limit_and_connectivity_are_those_of_the_exact_metric(smooth: tuple[Maps, Masks]) -> None:
    histogram = PixelHistogram(bits=22, limit=0.05, connectivity=4)
    histogram.update(*smooth)
    exact = pixel_metrics(*smooth, limit=0.05, connectivity=4).aupro
    assert histogram.metrics().aupro.estimate == pytest.approx(exact, abs=1e-4)
    assert abs(exact - pixel_metrics(*smooth).aupro) > 1e-2


def test_bad_input() -> None:
    maps, masks = np.ones((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.bool_)
    histogram = PixelHistogram()
    with pytest.raises(UndefinedMetricError, match="no anomalous pixels"):
        histogram.metrics()
    with pytest.raises(ContractError, match="float32"):
        histogram.update(maps.astype(np.float64), masks)
    with pytest.raises(ContractError, match="finite"):
        histogram.update(maps * np.float32(np.nan), masks)
    with pytest.raises(DataError, match="bool masks"):
        histogram.update(maps, masks.astype(int))
    histogram.update(maps, ~masks)
    with pytest.raises(UndefinedMetricError, match="no normal pixels"):
        histogram.metrics()
    for options in ({"bits": 9}, {"bits": 25}, {"limit": 0.0}, {"limit": 2.0}, {"connectivity": 5}):
        with pytest.raises(SpecError, match="Expected"):
            PixelHistogram(**options)
