"""SoftPatch against an independent implementation, on real images."""

from __future__ import annotations

import pytest

from tests.methods.reference import Reference, assert_near, needs_shared

pytestmark = [pytest.mark.slow, needs_shared]


@pytest.mark.parametrize("kind", ["industrial7_k4_noisy10", "industrial8_k4_noisy10", "industrial7_k4_clean"])
def test_meets_the_reference(reference: Reference, kind: str) -> None:
    assert_near(reference.means("softpatch", kind), kind, "softpatch")
