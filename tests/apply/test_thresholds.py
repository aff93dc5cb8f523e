"""Thresholds: what the rules promise, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltbench.apply.thresholds import threshold_of
from ltbench.errors import SpecError
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.runs.models import SavedModel

MODEL = SavedModel(
    run="0" * 16,
    split="parts_full_heldout10",
    method=MethodInfo("mean_image", "Mean image"),
    protocol=PROTOCOLS["common"],
    provenance={},
    calibration={"bolt": [0.1, 0.2, 0.3], "nut": [float(score) for score in range(1, 17)]},
    tested={"bolt": {"good": [0.1, 0.5], "defective": [0.4, 0.9]}, "nut": {"good": [3.0], "defective": [2.0]}},
    limits={},
    folder=Path("model"),
)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 99))
def test_a_new_good_image_is_a_false_alarm_at_most_as_often_as_allowed(scores: list[int], percent: int) -> None:
    """Each of n + 1 exchangeable scores is the new one as often as any other: count over all orders."""
    alarms = total = 0
    for order in set(permutations(scores)):
        kept, new = order[:-1], order[-1]
        model = replace(MODEL, calibration={"bolt": [float(score) for score in kept]})
        try:
            threshold = threshold_of(model, f"false_alarms={percent}%")
        except SpecError:
            assert (len(kept) + 1) * percent < 100
            return
        alarms += threshold.decide(float(new)) == "defective"
        total += 1
    assert Fraction(alarms, total) <= Fraction(percent, 100)


def test_false_alarms_go_by_all_images_or_by_those_of_a_category() -> None:
    pooled = threshold_of(MODEL, "false_alarms=10%")  # floor(20 * 0.1) = 2: above the second largest of 19
    assert pooled.value == np.nextafter(15.0, np.inf)
    assert pooled.decide(15.0) == "good"
    assert pooled.decide(15.1) == "defective"
    assert "19 good images kept aside" in pooled.rule
    own = threshold_of(MODEL, "false_alarms=25%", "bolt")
    assert own.decide(0.3) == "good"
    assert own.decide(0.31) == "defective"
    assert "3 good images of bolt" in own.rule


def test_f1_is_declared_as_seen() -> None:
    own = threshold_of(MODEL, "f1_max", "bolt")
    assert own.value == 0.4
    assert own.decide(0.4) == "defective"
    assert "labels seen" in own.rule


def test_a_number_is_taken_as_it_is() -> None:
    assert threshold_of(MODEL, "0.25").value == 0.25


@pytest.mark.parametrize(
    ("rule", "category", "message"),
    [
        ("f1", None, "threshold rule"),
        ("nan", None, "threshold rule"),
        ("false_alarms=1", None, "threshold rule"),
        ("false_alarms=0%", None, "between 0 and 100"),
        ("false_alarms=100%", None, "between 0 and 100"),
        ("false_alarms=1%", None, "at least 99 images kept aside"),
        ("false_alarms=10%", "bolt", "Allow 25.0% or more"),
    ],
)
def test_what_is_refused(rule: str, category: str | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        threshold_of(MODEL, rule, category)


def test_without_images_kept_aside_the_remedy_is_told() -> None:
    with pytest.raises(SpecError, match="--calibrate 10%"):
        threshold_of(replace(MODEL, calibration={}), "false_alarms=10%")
    with pytest.raises(SpecError, match="good and defective test images"):
        threshold_of(replace(MODEL, tested={"bolt": {"good": [1.0], "defective": []}}), "f1_max")
