"""The reference lists, whose runs and features all tests of a session share."""

from __future__ import annotations

import os

import pytest

from tests.methods.reference import Reference
from tests.shared import SHARED


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    base = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each of its processes a folder of its own below that of the session.
    session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return Reference(session / "reference")
