"""RLR beside the authors' modules on real images; its features are tested with UniAD's."""

from __future__ import annotations

import pytest

from tests.methods.reference import BALANCED, ONE_LIST, Reference, assert_near, needs_shared

pytestmark = [pytest.mark.slow, needs_shared]


@pytest.mark.parametrize("name", sorted(ONE_LIST))
def test_scores(reference: Reference, name: str) -> None:
    found = reference.scores("rlr", name)
    assert_near(found, name, "rlr", all=2.5 if name == BALANCED else 2.0)
