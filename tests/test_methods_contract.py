"""Every method of the suite keeps every part of the contract, in its preset for a CPU without a model hub."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import pytest

from ltbench.contract.checks import CHECKS, run_check
from ltbench.contract.registry import method_class, method_names, presets
from ltbench.contract.subject import Subject
from ltbench.method import EstimatesMemory

FOREIGN = {"anomalib": "anomalib"}
"""Method -> package that it stands on and that the tests' environment need not have."""


@cache
def _subject(name: str) -> Subject:
    method = method_class(name)
    return Subject(method, presets(method))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", method_names())
def test_contract(name: str, check: Callable[[Subject], None]) -> None:
    if name in FOREIGN and find_spec(FOREIGN[name]) is None:
        pytest.skip(f"needs {FOREIGN[name]}, in an environment of its own; tests/methods/{name} has a stand-in")
    assert run_check(check, _subject(name)).reason == ""


@pytest.mark.parametrize("name", method_names())
def test_every_method_says_what_memory_it_takes(name: str) -> None:
    """The contract leaves it to a method; the suite's own all keep to `--memory-limit`."""
    subject = _subject(name)
    assert isinstance(subject.method(**subject.parameters), EstimatesMemory)


def test_there_are_methods() -> None:
    assert method_names(), "an empty registry would pass every test above"


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_an_offline_preset(name: str) -> None:
    assert "offline" in presets(method_class(name))
