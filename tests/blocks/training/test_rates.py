"""The courses of learning rates, number by number."""

from __future__ import annotations

import pytest

from ltbench.blocks.training.learner import Schedule
from ltbench.blocks.training.rates import Cosine, Shares


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
