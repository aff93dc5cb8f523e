from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ltbench.errors import ContractError, DataError
from ltbench.metrics import (
    METRICS,
    CategoryMetrics,
    GroupMetrics,
    aggregate,
    ap,
    auroc,
    evaluate_category,
    f1_max,
    image_scores,
    metric_ids,
    metric_titles,
    pixel_metrics,
)
from ltbench.metrics.groups import NO_MAPS
from ltbench.protocols import PROTOCOLS

COMMON, RLR = PROTOCOLS["common"], PROTOCOLS["rlr"]
IMAGE_IDS = tuple(metric.id() for metric in METRICS if metric.level == "image")
PIXEL_IDS = tuple(metric.id() for metric in METRICS if metric.level == "pixel")
IDS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro_30")
Smooth = tuple[NDArray[np.float32], NDArray[np.bool_]]


@pytest.fixture
def scores() -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal(24).astype(np.float32)


@pytest.fixture
def labels(smooth: Smooth) -> NDArray[np.bool_]:
    return np.asarray(smooth[1].any(axis=(1, 2)))


def test_a_group_says_the_one_reason_of_its_categories() -> None:
    lacks = {"a": {"pixel_auroc": NO_MAPS}, "b": {"pixel_auroc": NO_MAPS}, "c": {"pixel_auroc": "no masks"}}
    found = aggregate({"a": {}, "b": {}, "c": {}}, lacks, ("a", "b"), ("c",))
    assert found.reasons["pixel_auroc"]["high"] == NO_MAPS
    assert found.reasons["pixel_auroc"]["low"] == "no masks"
    assert found.reasons["pixel_auroc"]["avg"] == "no category has it"


def test_without_maps_there_are_image_metrics_alone() -> None:
    labels = np.array([False, True])
    found = evaluate_category(np.array([0.1, 0.9], np.float32), labels, None, None, COMMON)
    assert found.values["image_auroc"] == 1
    assert {name for name, why in found.reasons.items() if why == NO_MAPS} == set(PIXEL_IDS)
    with pytest.raises(ContractError, match="Expected maps for the image scores of protocol rlr"):
        image_scores(np.zeros(2, np.float32), None, RLR)


def test_ids_and_values(smooth: Smooth, scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> None:
    maps, masks = smooth
    found = evaluate_category(scores, labels, maps, masks, COMMON)
    assert set(IDS) <= set(metric_ids())
    assert set(found.values) == set(metric_ids())
    assert found.reasons == {}
    expected = (auroc(scores, labels), ap(scores, labels), f1_max(scores, labels), *pixel_metrics(maps, masks))
    assert {name: found.values[name] for name in IDS} == dict(zip(IDS, expected, strict=True))
    assert all(type(value) is float for value in found.values.values())


def test_pixels_of_defective_images_alone(smooth: Smooth, scores: NDArray[np.float32]) -> None:
    """As MKD was published; which images are defective labels say, as a small defect may leave its mask no pixel."""
    maps, masks = smooth[0], smooth[1].copy()
    labels = np.arange(len(maps)) % 3 > 0
    masks[~labels] = masks[1] = False
    usual = evaluate_category(scores, labels, maps, masks, COMMON)
    found = evaluate_category(scores, labels, maps, masks, replace(COMMON, defective_pixels=True))
    expected = auroc(maps[labels].ravel(), masks[labels].ravel())
    assert found.values == usual.values | {"pixel_auroc_defective": expected}
    assert abs(expected - found.values["pixel_auroc"]) > 0.001
    assert "pixel_auroc_defective" in metric_titles()


def test_defective_images_without_a_normal_pixel(scores: NDArray[np.float32]) -> None:
    maps = np.random.default_rng(0).random((2, 4, 4), np.float32)
    masks, labels = np.zeros(maps.shape, np.bool_), np.array([False, True])
    masks[1] = True
    found = evaluate_category(scores[:2], labels, maps, masks, replace(COMMON, defective_pixels=True))
    assert found.reasons == {"pixel_auroc_defective": "no normal pixels"}
    assert "pixel_auroc" in found.values


def test_the_protocols_limit_and_connectivity(
    smooth: Smooth, scores: NDArray[np.float32], labels: NDArray[np.bool_]
) -> None:
    maps, masks = smooth
    strict = replace(COMMON, aupro_limit=0.05, aupro_connectivity=4)
    found = evaluate_category(scores, labels, maps, masks, strict)
    assert "pixel_aupro_30" not in found.values  # the id would claim another limit
    assert found.values["pixel_aupro_5"] == pixel_metrics(maps, masks, limit=0.05, connectivity=4).aupro


def test_smoothed_map_max_scores_images_and_leaves_pixels_raw(
    smooth: Smooth, scores: NDArray[np.float32], labels: NDArray[np.bool_]
) -> None:
    maps, masks = smooth
    smoothed = np.array([ndimage.gaussian_filter(one, sigma=4).max() for one in maps])
    np.testing.assert_array_equal(image_scores(scores, maps, RLR), smoothed)
    np.testing.assert_array_equal(image_scores(scores, maps, COMMON), scores)
    wide = image_scores(scores, maps, replace(RLR, image_score_sigma=9.0))
    assert (wide < smoothed).all()
    found, plain = (evaluate_category(scores, labels, maps, masks, p).values for p in (RLR, COMMON))
    assert found["image_auroc"] == auroc(smoothed, labels) != plain["image_auroc"]
    assert found["pixel_aupro_30"] == plain["pixel_aupro_30"]


def test_without_masks_there_are_image_metrics_only(
    smooth: Smooth, scores: NDArray[np.float32], labels: NDArray[np.bool_]
) -> None:
    found = evaluate_category(scores, labels, smooth[0], None, COMMON)
    assert tuple(found.values) == IMAGE_IDS
    assert found.reasons == dict.fromkeys(PIXEL_IDS, "no masks")


def test_a_defect_that_vanished_from_its_mask_keeps_its_label(
    smooth: Smooth, scores: NDArray[np.float32], labels: NDArray[np.bool_]
) -> None:
    maps, masks = smooth[0], smooth[1].copy()
    masks[0] = False
    found = evaluate_category(scores, labels, maps, masks, COMMON)
    assert labels[0]
    assert found.values["image_auroc"] == auroc(scores, labels)
    assert found.values["pixel_auroc"] == pixel_metrics(maps, masks).auroc


def test_what_is_undefined_has_a_reason(smooth: Smooth, scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> None:
    maps, masks = smooth
    only_bad = evaluate_category(scores[:16], labels[:16], maps[:16], masks[:16], COMMON)
    assert tuple(only_bad.values) == PIXEL_IDS
    assert only_bad.reasons == dict.fromkeys(IMAGE_IDS, "no normal images")
    vanished = evaluate_category(scores, labels, maps, np.zeros_like(masks), COMMON)
    assert tuple(vanished.values) == IMAGE_IDS
    assert vanished.reasons == dict.fromkeys(PIXEL_IDS, "no anomalous pixels")


def test_inputs_that_do_not_fit(smooth: Smooth, scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> None:
    maps, masks = smooth
    bad_maps = maps.copy()
    bad_maps[3, 4, 5] = np.nan
    calls: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
        (DataError, "as many labels as maps", (scores, labels[:-1], maps, masks, COMMON)),
        (DataError, "as many labels as scores", (scores[:-1], labels, maps, masks, COMMON)),
        (DataError, "labels of 0 and 1", (scores, labels * 2, maps, masks, COMMON)),
        (DataError, "bool masks", (scores, labels, maps, masks[:-1], COMMON)),
        (DataError, "empty mask for a good image", (scores, np.arange(24) > 0, maps, masks, COMMON)),
        (ContractError, "finite scores", (np.where(labels, np.nan, scores), labels, maps, masks, COMMON)),
        (ContractError, "finite", (scores, labels, bad_maps, masks, COMMON)),
        (ContractError, "float maps", (scores, labels, maps[0], masks, COMMON)),
    ]
    for error, message, arguments in calls:
        with pytest.raises(error, match=message):
            evaluate_category(*arguments)


def _aggregate(per_category: dict[str, CategoryMetrics], high: list[str], low: list[str]) -> GroupMetrics:
    values = {category: found.values for category, found in per_category.items()}
    return aggregate(values, {category: found.reasons for category, found in per_category.items()}, high, low)


def _category(value: float | None, pixel: float | None = 0.5) -> CategoryMetrics:
    values = {"image_auroc": value, "pixel_auroc": pixel}
    return CategoryMetrics(
        {metric: number for metric, number in values.items() if number is not None},
        {metric: "no masks" for metric, number in values.items() if number is None},
    )


def test_means_are_over_categories_and_unweighted() -> None:
    per_category = {"a": _category(0.9), "b": _category(0.6), "c": _category(0.3)}
    found = _aggregate(per_category, high=["a", "b"], low=["c"])
    assert found.reasons == {}
    assert found.values["image_auroc"] == pytest.approx(
        {"a": 0.9, "b": 0.6, "c": 0.3, "high": 0.75, "low": 0.3, "avg": 0.6}, abs=1e-15
    )


def test_a_group_without_the_metric_is_left_out_with_a_reason() -> None:
    per_category = {"a": _category(0.9, None), "b": _category(0.6, 0.8), "c": _category(0.3, None)}
    found = _aggregate(per_category, high=["a", "b"], low=["c"])
    assert found.values["pixel_auroc"] == {"b": 0.8, "high": 0.8, "avg": 0.8}
    assert found.reasons == {"pixel_auroc": {"a": "no masks", "c": "no masks", "low": "no masks"}}


def test_a_metric_that_no_category_has_is_left_out() -> None:
    found = _aggregate({"a": _category(0.9, None)}, high=["a"], low=[])
    assert list(found.values) == ["image_auroc"]
    assert found.values["image_auroc"] == {"a": 0.9, "high": 0.9, "avg": 0.9}
    assert found.reasons["image_auroc"] == {"low": "no categories"}
    assert found.reasons["pixel_auroc"]["avg"] == "no masks"
    assert json.loads(json.dumps(found)) == [found.values, found.reasons]


def test_the_order_of_the_categories_changes_no_digit() -> None:
    numbers = np.random.default_rng(0).random(15)
    per_category = {f"c{i}": _category(float(value)) for i, value in enumerate(numbers)}
    backwards = dict(reversed(per_category.items()))
    names = list(per_category)
    one = _aggregate(per_category, names[:7], names[7:])
    assert _aggregate(backwards, names[6::-1], names[:6:-1]) == one


@pytest.mark.parametrize(
    ("high", "low"), [(["a"], []), (["a", "b"], ["b"]), (["a"], ["b", "c"]), (["a", "a"], ["b"]), ([], [])]
)
def test_every_category_is_in_one_group(high: list[str], low: list[str]) -> None:
    with pytest.raises(DataError, match="in high or low once"):
        _aggregate({"a": _category(1.0), "b": _category(0.0)}, high, low)


def test_a_category_named_like_a_group() -> None:
    with pytest.raises(DataError, match="name none high, low, avg"):
        _aggregate({"avg": _category(1.0)}, ["avg"], [])
