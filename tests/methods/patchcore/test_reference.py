"""PatchCore beside an independent implementation on real images; slow, since every image is looked at."""

from __future__ import annotations

import pytest

from tests.methods.reference import EXPECTED, Reference, assert_near, needs_shared

pytestmark = [pytest.mark.slow, needs_shared]


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_means_over_the_lists(reference: Reference, kind: str) -> None:
    assert_near(reference.means("patchcore", kind), kind, "patchcore")
