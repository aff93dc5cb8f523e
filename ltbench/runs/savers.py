"""Settings with which a method takes less memory, and the words for what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ltbench.method import EstimatesMemory


def savers(method: EstimatesMemory) -> tuple[Mapping[str, Any], ...]:
    """Return the `memory_savers` of a method that would change it."""
    found: tuple[Mapping[str, Any], ...] = getattr(type(method), "memory_savers", ())
    return tuple(setting for setting in found if any(getattr(method, name) != value for name, value in setting.items()))


def changed(method: Any, setting: Mapping[str, Any]) -> EstimatesMemory:
    """Return a method with other hyper-parameters."""
    found: EstimatesMemory = replace(method, **setting)
    return found


def as_options(setting: Mapping[str, Any]) -> str:
    """Return hyper-parameters as the command line takes them."""
    return " ".join(f"-p {name}={value}" for name, value in setting.items())


def largest(phases: Mapping[str, int]) -> str:
    """Return the phase that takes most."""
    return max(phases, key=lambda phase: phases[phase])


def gib(size: int) -> str:
    """Return a size for people."""
    return f"{size / 2**30:.1f} GiB"
