"""Exact products of int8 for tests of rounded rows, on machines without them as well: there the search does without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ltbench.blocks.memory_bank.rounding import multiplies_bytes, multiplies_exactly


@pytest.fixture(scope="module")
def exact_bytes() -> Iterator[None]:
    """Let torch multiply int8 exactly, where this machine's instructions add pairs of products in 16 bits."""
    if multiplies_exactly(64):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "_int_mm", lambda one, other: (one.double() @ other.double()).int())
        multiplies_exactly.cache_clear()
        yield
    multiplies_exactly.cache_clear()
    multiplies_bytes.cache_clear()
