"""The device that these tests are about; LTBENCH_TEST_CUDA=cpu rehearses them on a CPU that takes batches."""

from __future__ import annotations

import os

import pytest
import torch

from ltbench.blocks import device as blocks


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return "cuda", or "cpu" where it stands in; skip where there is neither."""
    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("LTBENCH_TEST_CUDA") == "cpu":
        monkeypatch.setattr(blocks, "BATCHED", ("cpu",))
        return "cpu"
    pytest.skip("needs a CUDA device")
