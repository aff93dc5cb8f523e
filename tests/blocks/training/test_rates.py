"""The courses of learning rates, number by number."""

from __future__ import annotations

import math

import pytest

from ltbench.blocks.training.learner import Schedule
from ltbench.blocks.training.rates import Cosine, Shares, WarmupDecay


def test_a_warm_cosine_starts_at_nothing_and_ends_at_its_share() -> None:
    """As Dinomaly's code has it; the values are those of its scheduler."""
    schedule = Schedule(0, 16, steps=10_000, rate=Cosine(warmup=100, final=0.1))
    rates = [2e-3 * schedule.lr_factor(step, 3629) for step in (0, 1, 50, 99, 100, 101, 5000, 9999)]
    wanted = [0, 2e-3 / 99, 0.1 / 99, 2e-3, 2e-3, 0.001999999954685012, 0.001114279367451327, 0.00020000004531498767]
    assert rates == pytest.approx(wanted, rel=1e-12)
    assert Cosine(warmup=1).factor(0, 1, 2) == 0


def test_shares_of_a_training_are_rounded_to_whole_epochs_or_steps() -> None:
    """DRAEM's drops after 80 and 90 %: of 7 epochs these are 5.6 and 6.3, so epochs 6 and 6."""
    rate = Shares((0.8, 0.9), 0.2)
    assert [1e-4 * rate.factor(3 * epoch, 3, 30) for epoch in (7, 8, 9)] == pytest.approx([1e-4, 2e-5, 4e-6])
    assert [rate.factor(3 * epoch + 2, 3, 21) for epoch in (5, 6)] == pytest.approx([1, 0.04])
    steps = Shares((0.8, 0.9), 0.2, whole_epochs=False)
    assert [steps.factor(step, 3, 16) for step in (12, 13, 14, 15)] == pytest.approx([1, 0.2, 0.04, 0.04])


def test_a_warm_up_begins_with_the_second_update() -> None:
    """Numbers of deepspeed 0.9.2's WarmupDecayLR with 10 of 100 steps of warm-up, in the order of the updates."""
    rate = WarmupDecay(0.1)
    found = [rate.factor(step, 1, 100) for step in (0, 1, 2, 3, 10, 11, 12, 56, 99)]
    log = [math.log(2) / math.log(10), math.log(3) / math.log(10)]
    assert found == pytest.approx([1, 0, *log, 1, 1, 89 / 90, 0.5, 2 / 90])
    linear = WarmupDecay(0.1, "linear")
    assert [linear.factor(step, 1, 100) for step in (0, 1, 2, 10, 11)] == pytest.approx([1, 0, 0.1, 0.9, 1])
    assert [WarmupDecay(0.1).factor(step, 1, 3) for step in range(3)] == pytest.approx([1, 0, 1])
