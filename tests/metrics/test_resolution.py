"""Pixels compared at another resolution than the image's, beside torch's own resizing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from ltbench.metrics.groups import evaluate_category
from ltbench.metrics.resolution import at_side
from ltbench.protocols import PROTOCOLS


@pytest.mark.parametrize(("side", "was"), [(256, (392, 392)), (7, (10, 13)), (20, (8, 9))])
def test_as_torch_resizes(side: int, was: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((2, *was), dtype=np.float32), rng.random((2, *was)) > 0.7
    found, flags = at_side(maps, masks, side)
    assert found.dtype == np.float32
    wanted = F.interpolate(torch.tensor(maps)[None], (side, side), mode="bilinear", align_corners=False)[0]
    assert np.abs(found - wanted.numpy()).max() < 1e-5
    nearest = F.interpolate(torch.tensor(masks, dtype=torch.float32)[None], (side, side))[0]
    assert flags is not None
    assert np.array_equal(flags, nearest.numpy() > 0)


def test_without_a_side_nothing_changes() -> None:
    maps, masks = np.zeros((1, 3, 3), np.float32), np.zeros((1, 3, 3), np.bool_)
    assert at_side(maps, masks, None) == (maps, masks)


def test_a_protocol_compares_pixels_at_its_side() -> None:
    """What is told at 8 x 8 pixels is what the resized maps and masks tell."""
    rng = np.random.default_rng(1)
    maps, masks = rng.random((4, 12, 12), dtype=np.float32), rng.random((4, 12, 12)) > 0.8
    masks[:2] = False
    labels, scores = np.array([False, False, True, True]), maps.max(axis=(1, 2))
    plain = PROTOCOLS["common"]
    found = evaluate_category(scores, labels, maps, masks, replace(plain, pixel_side=8)).values
    small, flags = at_side(maps, masks, 8)
    assert found == evaluate_category(scores, labels, small, flags, plain).values
    assert found["pixel_auroc"] != evaluate_category(scores, labels, maps, masks, plain).values["pixel_auroc"]


def test_dinomalys_protocol() -> None:
    protocol = PROTOCOLS["dinomaly"]
    assert (protocol.size, protocol.pixel_side) == ((392, 392), 256)
    assert protocol.payload()["pixel_side"] == 256
    assert all("pixel_side" not in other.payload() for other in PROTOCOLS.values() if other is not protocol)
