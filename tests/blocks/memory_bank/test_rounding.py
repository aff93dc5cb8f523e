"""Rows rounded to int8: what is lost is bounded, and products are off by no more than they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltbench.blocks.memory_bank import rounding
from ltbench.blocks.memory_bank.measuring import gamma
from ltbench.blocks.memory_bank.rounding import (
    Rounded,
    multiplied,
    multiplies_bytes,
    multiplies_exactly,
    rounded,
    underflow,
)
from tests.blocks.memory_bank.bytes_products import exact_bytes as exact_bytes


def exact(of: Rounded) -> NDArray[np.float64]:
    """Return what rounded rows stand for."""
    return of.values.astype(np.float64) * of.scales[:, None].astype(np.float64)


@pytest.mark.usefixtures("exact_bytes")
@given(
    columns=st.sampled_from([8, 31, 64, 300]),
    scale=st.sampled_from([0, 1e-42, 1e-33, 1e-20, 1, 1e10, 1e17]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_losses_squares_and_products(columns: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (scale * rng.standard_normal((20, columns)) ** 3).astype(np.float32)
    queries = (rng.standard_normal((7, columns)) * rng.choice([1, scale])).astype(np.float32)
    one, other = rounded(rows), rounded(queries)
    assert np.abs(one.values).max() <= 127
    assert (np.linalg.norm(exact(one) - rows, axis=1) <= one.losses).all()
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert (one.losses <= lengths * (1 if scale < 1e-30 else 0.1) * (1 + 1e-5)).all()
    np.testing.assert_allclose(one.squares, (exact(one) ** 2).sum(axis=1), rtol=1e-12)
    norms = one.squares.astype(np.float32)
    found = multiplied(other, one.values, one.scales, norms)
    products = 2 * exact(other) @ exact(one).T
    room = gamma(5) * (one.squares + 2 * np.sqrt(other.squares)[:, None] * np.sqrt(one.squares)) + underflow(columns)
    assert (np.abs(found - (one.squares - products)) <= room).all()


def test_a_machine_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = multiplies_exactly.__wrapped__
    assert not tried(2**16 + 1)
    assert not tried(1)

    def saturating(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one.float() @ other.float()).clamp(-32768, 32767).int()

    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not tried(64)

    def refusing(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        raise RuntimeError

    monkeypatch.setattr(torch, "_int_mm", refusing)
    assert not tried(64)
    monkeypatch.delattr(torch, "_int_mm")
    assert not tried(64)


@pytest.mark.usefixtures("exact_bytes")
def test_a_machine_that_is_exact_is_asked_whether_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0] * 5 + [2.0] * 5 + [2.0] * 5 + [1.0] * 5)
    monkeypatch.setattr(rounding, "_seconds", lambda *_: next(seconds))
    assert multiplies_bytes.__wrapped__(64)
    assert not multiplies_bytes.__wrapped__(64)
