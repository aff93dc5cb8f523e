"""Whether a run is a preset as it stands, or which hyper-parameters it sets beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from ltbench.contract.description import describe
from ltbench.contract.parameters import plain
from ltbench.contract.registry import Preset
from ltbench.errors import LtbenchError

_BARE = Preset("defaults", "")


def overrides(method: str, preset: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the hyper-parameters of a run that are not its preset's, or None where method or preset are not known.

    Args:
        method: registry name.
        preset: the preset that the record names; "defaults" for none.
        parameters: those of the run; what it leaves out at its default (`AddedLater`) counts as its default.
    """
    known = _values(method, preset)
    if known is None:
        return None
    return {
        name: value for name, value in whole(method, parameters).items() if name not in known or known[name] != value
    }


def whole(method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's hyper-parameters with those that it leaves out at their defaults (`AddedLater`), if known."""
    return _left_out(method) | dict(parameters)


def assigned(values: Mapping[str, Any]) -> list[str]:
    """Return hyper-parameters as `-p` takes them, `name=value`, by name."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return [f"{name}={text}" for name, text in sorted(texts.items())]


@cache
def _left_out(method: str) -> dict[str, Any]:
    try:
        return plain(describe(method).added_later)
    except LtbenchError:  # a record of a method that is not installed
        return {}


@cache
def _values(method: str, preset: str) -> dict[str, Any] | None:
    try:
        described = describe(method)
        chosen = described.presets.get(preset, _BARE if preset == _BARE.name else None)
        return None if chosen is None else plain(described.resolve(chosen.parameters))
    except LtbenchError:  # a record of a method that is not installed, or of a preset that is gone
        return None
