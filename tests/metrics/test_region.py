from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from ltbench.errors import ContractError, DataError, SpecError
from ltbench.metrics import PixelMetrics, UndefinedMetricError, aupro, pixel_metrics, region
from ltbench.metrics.region import region_pixels

Maps = NDArray[Any]
Masks = NDArray[np.bool_]

_shape = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 6))
_case = _shape.flatmap(
    lambda shape: st.tuples(
        stn.arrays(np.float32, shape, elements=st.integers(-4, 4).map(float) | st.floats(-10, 10, width=32)),
        stn.arrays(np.bool_, shape).filter(lambda mask: mask.any() and not mask.all()),
    )
)
_limit = st.sampled_from([0.05, 0.3, 0.5, 1.0])


def _components(mask: Masks, connectivity: int) -> list[list[tuple[int, int]]]:
    """Find connected regions by flood fill."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    if connectivity == 4:
        steps = [(y, x) for y, x in steps if 0 in (y, x)]
    found = []
    while left:
        todo, component = [left.pop()], []
        while todo:
            y, x = todo.pop()
            component.append((y, x))
            near = {(y + dy, x + dx) for dy, dx in steps} & left
            left -= near
            todo += near
        found.append(component)
    return found


def _brute_force_aupro(maps: Maps, masks: Masks, limit: float, connectivity: int) -> float:
    """Draw the curve through every distinct threshold, cut it at the limit and add up the trapezoids."""
    regions = [
        np.array([one[pixel] for pixel in component])
        for one, mask in zip(maps, masks, strict=True)
        for component in _components(mask, connectivity)
    ]
    normal = maps[~masks]
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        overlap = sum(float((pixels >= threshold).mean()) for pixels in regions) / len(regions)
        curve.append((float((normal >= threshold).mean()), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x1 > limit:
            area += (limit - x0) * (y0 + y0 + (y1 - y0) * (limit - x0) / (x1 - x0)) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def _scikit_learn(maps: Maps, masks: Masks, limit: float = 0.3) -> PixelMetrics:
    """All four by scikit-learn: PRO is the ROC curve in which a defect pixel weighs 1 / area of its region."""
    scores, labels = maps.ravel(), masks.ravel()
    weights = np.ones(maps.shape)
    for one in region_pixels(masks):
        weights[one.image][masks[one.image]] = 1 / one.area[one.region]
    fpr, pro, _ = roc_curve(labels, scores, sample_weight=weights.ravel(), drop_intermediate=False)
    inside = fpr <= limit
    x, y = np.append(fpr[inside], limit), np.append(pro[inside], np.interp(limit, fpr, pro))
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return PixelMetrics(
        float(roc_auc_score(labels, scores)),
        float(average_precision_score(labels, scores)),
        float(f1.max()),
        float(np.trapezoid(y, x)) / limit,
    )


def _row(values: list[float], mask: list[int]) -> tuple[Maps, Masks]:
    return np.array([[values]], np.float32), np.array([[mask]], np.bool_)


def test_aupro_by_hand() -> None:
    # one region of two pixels (9 and 5), four normal pixels (8, 6, 4, 2): PRO is 1/2 until FPR 1/2, then 1
    maps, masks = _row([9, 5, 8, 6, 4, 2], [1, 1, 0, 0, 0, 0])
    assert aupro(maps, masks, limit=1.0) == pytest.approx(0.75, abs=1e-15)
    assert aupro(maps, masks, limit=0.5) == pytest.approx(0.5, abs=1e-15)
    assert aupro(maps, masks) == pytest.approx(0.5, abs=1e-15)


def test_each_region_counts_once_whatever_its_area() -> None:
    # the large region is found, the small one is not before every normal pixel is
    maps, masks = _row([9, 9, 9, 9, 5, 1], [1, 1, 1, 1, 0, 1])
    assert aupro(maps, masks) == 0.5


def test_a_tie_with_normal_pixels_is_a_straight_line_cut_at_the_limit() -> None:
    # the region ties with two of four normal pixels: PRO rises from 0 at FPR 0 to 1 at FPR 1/2
    maps, masks = _row([5, 5, 5, 1, 1], [1, 0, 0, 0, 0])
    assert aupro(maps, masks, limit=1.0) == pytest.approx(0.75, abs=1e-15)
    assert aupro(maps, masks, limit=0.5) == pytest.approx(0.5, abs=1e-15)
    assert aupro(maps, masks, limit=0.3) == pytest.approx(0.3, abs=1e-15)


def test_a_constant_map_is_the_diagonal() -> None:
    maps, masks = _row([5, 5, 5, 5], [1, 0, 0, 1])
    assert pixel_metrics(maps, masks) == pytest.approx((0.5, 0.5, 2 / 3, 0.15), abs=1e-15)


def test_corners_join_regions_under_8_but_not_under_4_neighbours() -> None:
    masks = np.array([[[1, 0], [0, 1]]], np.bool_)
    maps = np.array([[[9, 5], [5, 1]]], np.float32)
    assert [one.area.tolist() for one in region_pixels(masks, 8)] == [[2]]
    assert [one.area.tolist() for one in region_pixels(masks, 4)] == [[1, 1]]
    wide = np.array([[[9, 5, 0], [5, 1, 9]]], np.float32)
    three = np.array([[[1, 0, 0], [0, 1, 1]]], np.bool_)
    assert aupro(wide, three, connectivity=8) == pytest.approx(2 / 3, abs=1e-15)
    assert aupro(wide, three, connectivity=4) == pytest.approx((1 + 1 / 2) / 2, abs=1e-15)
    assert aupro(maps, masks, connectivity=8) == aupro(maps, masks, connectivity=4) == 0.5


def test_regions_of_two_images_never_join() -> None:
    masks = np.ones((3, 4, 4), np.bool_)
    masks[1] = False
    assert [(one.image, one.area.tolist()) for one in region_pixels(masks)] == [(0, [16]), (2, [16])]


@settings(deadline=None, max_examples=60)
@given(_case, _limit, st.sampled_from([4, 8]))
def test_aupro_equals_the_brute_force(case: tuple[Maps, Masks], limit: float, connectivity: int) -> None:
    maps, masks = case
    expected = _brute_force_aupro(maps, masks, limit, connectivity)
    assert aupro(maps, masks, limit, connectivity) == pytest.approx(expected, abs=1e-12)
    found = pixel_metrics(maps, masks, limit=limit, connectivity=connectivity)
    assert found.aupro == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(_case)
def test_equal_to_scikit_learn(case: tuple[Maps, Masks]) -> None:
    maps, masks = case
    assert pixel_metrics(maps, masks) == pytest.approx(_scikit_learn(maps, masks), abs=1e-12)


def test_equal_to_scikit_learn_on_smooth_maps(smooth: tuple[Maps, Masks]) -> None:
    maps, masks = smooth
    found = pixel_metrics(maps, masks)
    assert found == pytest.approx(_scikit_learn(maps, masks), abs=1e-12)
    assert 0.3 < found.aupro < 0.95  # neither side is trivial


@pytest.mark.parametrize("decimals", [0, 1])
def test_equal_to_scikit_learn_with_many_ties(smooth: tuple[Maps, Masks], decimals: int) -> None:
    maps, masks = smooth[0].round(decimals), smooth[1]
    assert pixel_metrics(maps, masks) == pytest.approx(_scikit_learn(maps, masks), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(_case, st.integers(1, 4))
def test_groups_of_images_do_not_show(case: tuple[Maps, Masks], chunk: int) -> None:
    maps, masks = case
    whole = aupro(maps, masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(region, "CHUNK", chunk)
        assert aupro(maps, masks) == whole


@settings(deadline=None, max_examples=60)
@given(_case, _limit)
def test_in_the_unit_interval_and_unchanged_by_an_increasing_map(case: tuple[Maps, Masks], limit: float) -> None:
    maps, masks = case
    found = pixel_metrics(maps, masks, limit=limit)
    assert all(0 <= value <= 1 for value in found)
    # ranks are an increasing map that no rounding can merge; their squares stretch the upper end
    ranks = np.unique(maps, return_inverse=True)[1].reshape(maps.shape)
    assert pixel_metrics(np.square(ranks).astype(np.float32) - 7, masks, limit=limit) == found


@settings(deadline=None, max_examples=60)
@given(_case)
def test_a_perfect_map_is_one_exactly(case: tuple[Maps, Masks]) -> None:
    maps, masks = case
    perfect = (maps + 100 * masks).astype(np.float32)
    assert pixel_metrics(perfect, masks) == (1.0, 1.0, 1.0, 1.0)
    worst = pixel_metrics(-perfect, masks)
    assert (worst.auroc, worst.aupro) == (0.0, 0.0)


def test_the_order_of_the_images_changes_no_digit(smooth: tuple[Maps, Masks]) -> None:
    maps, masks = smooth
    order = np.random.default_rng(0).permutation(len(maps))
    assert pixel_metrics(maps[order], masks[order]) == pixel_metrics(maps, masks)


def test_a_stretched_pixel_does_not_move_the_exact_value(smooth: tuple[Maps, Masks]) -> None:
    maps, masks = smooth[0].copy(), smooth[1]
    top = np.unravel_index(np.argmax(maps), maps.shape)
    before = pixel_metrics(maps, masks)
    maps[top] *= 10
    assert pixel_metrics(maps, masks) == before


def test_other_layouts_and_float64(smooth: tuple[Maps, Masks]) -> None:
    maps, masks = smooth
    expected = pixel_metrics(maps, masks)
    assert pixel_metrics(maps.astype(np.float64), masks) == expected
    assert pixel_metrics(np.asfortranarray(maps), np.asfortranarray(masks)) == expected
    flipped = pixel_metrics(maps[:, ::-1, ::-1], masks[:, ::-1, ::-1])
    assert flipped == pytest.approx(expected, abs=1e-14)


def test_float64_is_not_rounded_to_float32() -> None:
    maps = np.array([[[1.0 + 1e-12, 1.0]]])
    assert aupro(maps, np.array([[[True, False]]])) == 1.0


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_peak_memory_is_below_twice_the_maps(share: float) -> None:
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((115, 256, 256), np.float32)
    masks = np.zeros(maps.shape, np.bool_)
    masks[:, : round(256 * share)] = True
    tracemalloc.start()
    try:
        pixel_metrics(maps, masks)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * maps.nbytes  # beside the maps and the masks


@pytest.mark.parametrize("function", [aupro, pixel_metrics])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_a_value_that_is_not_finite(function: Any, bad: float, where: int) -> None:
    maps, masks = _row([1, 2, 3], [0, 1, 0])
    maps[0, 0, where] = bad
    with pytest.raises(ContractError, match="finite"):
        function(maps, masks)


@pytest.mark.parametrize("function", [aupro, pixel_metrics])
def test_degenerate_inputs(function: Any) -> None:
    maps, masks = _row([1, 2, 3], [0, 1, 0])
    with pytest.raises(UndefinedMetricError, match="no anomalous pixels"):
        function(maps, np.zeros_like(masks))
    with pytest.raises(UndefinedMetricError, match="no normal pixels"):
        function(maps, np.ones_like(masks))
    with pytest.raises(UndefinedMetricError):
        function(maps[:0], masks[:0])
    with pytest.raises(ContractError, match="float maps"):
        function(maps[0], masks[0])
    with pytest.raises(ContractError, match="float maps"):
        function(maps.astype(int), masks)
    with pytest.raises(DataError, match="bool masks"):
        function(maps, masks.astype(np.uint8))
    with pytest.raises(DataError, match="bool masks"):
        function(maps, masks[..., :2])


@pytest.mark.parametrize("options", [{"limit": 0.0}, {"limit": 1.5}, {"limit": np.nan}, {"connectivity": 6}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    maps, masks = _row([1, 2, 3], [0, 1, 0])
    for function in (aupro, pixel_metrics):
        with pytest.raises(SpecError, match="Expected"):
            function(maps, masks, **options)
