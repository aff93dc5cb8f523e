"""Focal and Dice loss on maps whose values are known."""

from __future__ import annotations

import pytest
import torch

from ltbench.blocks.training.losses import dice, focal


@pytest.mark.parametrize(("probability", "loss"), [(1.0, 0.0), (0.5, 0.17327), (0.0, 10.819)])
def test_focal_loss_of_constant_probabilities(probability: float, loss: float) -> None:
    mask = (torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    right = torch.stack([1 - mask, mask], dim=1)
    given = right * probability + (1 - right) * (1 - probability)
    assert focal(given, mask).item() == pytest.approx(loss, rel=1e-4, abs=1e-9)


def test_dice_loss() -> None:
    whole, half = torch.ones(1, 518, 518), torch.full((1, 518, 518), 0.5)
    assert dice(whole, whole).item() == pytest.approx(0, abs=1e-6)
    assert dice(half, torch.zeros(1, 518, 518)).item() == pytest.approx(0.9999926, abs=1e-6)
    assert dice(half, whole).item() == pytest.approx(0.3333325, abs=1e-6)
    assert dice(torch.zeros(2, 8, 8), torch.zeros(2, 8, 8)).item() == 0, "two empty ones agree"
