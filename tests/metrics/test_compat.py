from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ltbench.errors import ContractError, UnknownNameError
from ltbench.metrics import compat, evaluate_category
from ltbench.metrics.compat import VARIANTS, evaluate_as
from ltbench.metrics.region import region_pixels
from ltbench.protocols import PROTOCOLS

Smooth = tuple[NDArray[np.float32], NDArray[np.bool_]]
AUPRO = "pixel_aupro_30"


def _evaluate(variant: str, maps: NDArray[Any], masks: NDArray[np.bool_]) -> dict[str, float]:
    return evaluate_as(variant, maps.max(axis=(1, 2)), masks.any(axis=(1, 2)), maps, masks).values


def test_mvtec_is_the_default(smooth: Smooth) -> None:
    maps, masks = smooth
    scores, labels = maps.max(axis=(1, 2)), masks.any(axis=(1, 2))
    found = evaluate_as("mvtec", scores, labels, maps, masks)
    ours = evaluate_category(scores, labels, maps, masks, PROTOCOLS["common"])
    assert found.values == {name: ours.values[name] for name in found.values}
    assert len(found.values) == 7
    assert found.reasons == ours.reasons == {}


def test_sklearn_agrees_with_the_default_and_has_no_aupro(smooth: Smooth) -> None:
    exact = _evaluate("mvtec", *smooth)
    found = evaluate_as("sklearn", smooth[0].max(axis=(1, 2)), smooth[1].any(axis=(1, 2)), *smooth)
    assert found.reasons == {AUPRO: "scikit-learn has no AUPRO"}
    assert found.values == pytest.approx({k: v for k, v in exact.items() if k != AUPRO}, abs=1e-12)


def test_every_variant_is_near_the_exact_value_on_smooth_maps(smooth: Smooth) -> None:
    exact = _evaluate("mvtec", *smooth)
    for variant in VARIANTS:
        for metric, value in _evaluate(variant, *smooth).items():
            assert value == pytest.approx(exact[metric], abs=0.05), (variant, metric)
    assert _evaluate("ader", *smooth)[AUPRO] != exact[AUPRO]
    assert _evaluate("dinomaly", *smooth)[AUPRO] != exact[AUPRO]


def test_linear_bins_move_with_one_outlier_and_the_definition_does_not(smooth: Smooth) -> None:
    maps, masks = (smooth[0] + 0.3 * smooth[1]).astype(np.float32), smooth[1]
    before = {variant: _evaluate(variant, maps, masks) for variant in VARIANTS}
    normal = np.flatnonzero(~masks.ravel())
    maps.ravel()[normal[np.argmax(maps.ravel()[normal])]] = 10 * maps.max()
    after = {variant: _evaluate(variant, maps, masks) for variant in VARIANTS}
    assert before["mvtec"][AUPRO] > 0.85
    assert after["mvtec"][AUPRO] == pytest.approx(before["mvtec"][AUPRO], abs=1e-4)
    assert after["ader"][AUPRO] < before["ader"][AUPRO] - 0.03
    assert after["ader"]["pixel_f1_max"] < before["ader"]["pixel_f1_max"] - 0.03


def test_ader_against_a_loop_over_its_thresholds(smooth: Smooth) -> None:
    maps, masks = smooth
    low, high = maps.min(), maps.max()
    points = []
    for edge in np.linspace(0, 1, 51, dtype=np.float32)[::-1] * (high - low) + low:
        found = maps >= edge
        true, false = (found & masks).sum(), (found & ~masks).sum()
        overlap = np.mean(
            [found[i][masks[i]][r == k].mean() for i, r, a in region_pixels(masks) for k in range(len(a))]
        )
        points.append((false / (~masks).sum(), true / masks.sum(), true / (true + false), overlap))
    fpr, recall, precision, pro = np.array(points).T
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(zip(fpr, pro, strict=True)):
        cut = min(x1, 0.3)
        if cut > x0:
            area += (cut - x0) * (y0 + y0 + (y1 - y0) * (cut - x0) / (x1 - x0)) / 2
    assert compat.ader_aupro(maps, masks) == pytest.approx(area / 0.3, abs=1e-6)
    f1 = 0.0
    for threshold in np.arange(21) * 0.05:
        found = (maps - low) / (high - low) > threshold
        f1 = max(f1, 2 * (found & masks).sum() / (found.sum() + masks.sum()))
    expected = (np.trapezoid(recall, fpr), np.trapezoid(precision, recall), f1)
    assert compat.ader_ranking(maps, masks) == pytest.approx(expected, abs=1e-7)


def test_dinomaly_against_a_loop_over_its_thresholds(smooth: Smooth) -> None:
    maps, masks = smooth
    points = []
    for threshold in np.arange(maps.min(), maps.max(), (maps.max() - maps.min()) / 200):
        found = maps > threshold
        overlap = np.mean(
            [found[i][masks[i]][r == k].mean() for i, r, a in region_pixels(masks) for k in range(len(a))]
        )
        points.append(((found & ~masks).sum() / (~masks).sum(), overlap))
    fpr, pro = np.array([point for point in points if point[0] < 0.3])[::-1].T
    assert compat.dinomaly_aupro(maps, masks) == pytest.approx(np.trapezoid(pro, fpr / fpr.max()), abs=1e-12)


def test_dinomaly_divides_by_the_rate_it_reached() -> None:
    # PRO is 1/2 up to a rate of 1/11 and 1 beyond. The 200 thresholds reach 1/11 and next 1: the part beyond is lost
    maps = np.array([[[10, 4, 5] + [0] * 10]], np.float32)
    masks = np.array([[[1, 1] + [0] * 11]], np.bool_)
    assert compat.dinomaly_aupro(maps, masks) == pytest.approx(0.5, abs=1e-15)
    assert _evaluate("mvtec", maps, masks)[AUPRO] == pytest.approx((0.5 / 11 + 0.3 - 1 / 11) / 0.3, abs=1e-15)


def test_where_the_variants_are_undefined() -> None:
    constant = np.zeros((2, 2, 2), np.float32)
    masks = np.zeros(constant.shape, np.bool_)
    masks[0, 0, 0] = True
    for variant in ("ader", "dinomaly"):
        found = evaluate_as(variant, [1, 0], [1, 0], constant, masks)
        assert found.reasons[AUPRO] == "every pixel has the same value"
    plateau = constant + np.array([[[1, 1], [1, 0]]], np.float32)
    reasons = {v: evaluate_as(v, [1, 0], [1, 0], plateau, masks).reasons for v in ("ader", "dinomaly")}
    assert "more than 30%" in reasons["ader"][AUPRO]
    assert "false-positive rate" in reasons["dinomaly"][AUPRO]
    for variant in VARIANTS:
        empty = evaluate_as(variant, [1, 0], [1, 0], plateau, np.zeros_like(masks))
        assert empty.reasons["pixel_auroc"] == "no anomalous pixels"
        assert set(empty.values) == {"image_auroc", "image_ap", "image_f1_max"}


def test_bad_input(smooth: Smooth) -> None:
    maps, masks = smooth
    with pytest.raises(UnknownNameError, match="dinomaly"):
        evaluate_as("dinomally", [0, 1], [0, 1], maps, masks)
    for variant in VARIANTS:
        with pytest.raises(ContractError, match="finite"):
            evaluate_as(variant, np.arange(24), masks.any(axis=(1, 2)), maps * np.float32(np.nan), masks)
