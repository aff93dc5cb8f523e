"""The methods and processes of the sweeps' tests."""

from tests.sweeps.conftest import home

__all__ = ["home"]
