"""Every method computes in full float32, whatever the program has chosen for its own products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.methods.small import NAMES, predicted, subject_of


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mean_image"])
def test_a_method_takes_no_notice_of_half_precision(name: str) -> None:
    """On a CPU the choice takes other products where there is AVX-512, and bfloat16 where there is AMX."""
    subject = subject_of(name)
    expected = predicted(subject, "cpu")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = predicted(subject, "cpu")
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.maps, expected.maps)
