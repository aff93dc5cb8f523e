"""What is known of a method without importing it, where its source tells: for what only shows or tabulates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ltbench.contract.parameters import HyperParameter, defaults_added_later, hyper_parameters, resolve_among
from ltbench.contract.registry import (
    Preset,
    choose_among,
    method_class,
    method_info,
    presets,
    presets_beside,
    read_presets,
    source_of,
)
from ltbench.contract.source import written_parameters
from ltbench.method import MethodInfo


@dataclass(frozen=True, slots=True)
class Description:
    """A method in words.

    Args:
        info: what it declares.
        parameters: its hyper-parameters, in the order of its fields.
        presets: its presets by name.
    """

    info: MethodInfo
    parameters: tuple[HyperParameter, ...]
    presets: Mapping[str, Preset]

    def choose_preset(self, name: str | None, split: str) -> Preset:
        """Return a preset, as `ltbench.contract.registry.choose_preset`."""
        return choose_among(self.presets, self.info.name, name, split)

    def resolve(self, *settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return every hyper-parameter's value, as `ltbench.contract.parameters.resolve`."""
        return resolve_among(self.parameters, self.info.name, *settings)

    @property
    def added_later(self) -> dict[str, Any]:
        """The defaults of hyper-parameters that runs leave out of their identity at these."""
        return defaults_added_later(self.parameters)


def describe(name: str) -> Description:
    """Return what is known of a method; it is imported only where its source does not tell.

    Raises:
        UnknownNameError, LtbenchError, ContractError: as `method_class`.
        SpecError: its presets are not as they should be.
    """
    source = source_of(name)
    if source is not None and (parameters := written_parameters(source)) is not None:
        return Description(method_info(name), parameters, read_presets(presets_beside(source), parameters))
    method = method_class(name)
    return Description(method.info, hyper_parameters(method), presets(method))
