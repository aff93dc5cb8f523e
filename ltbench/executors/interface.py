"""What an executor is, what it tells while it works, and which ones there are.

An executor is a pydantic model whose fields are its options, with one method. The suite has three; a package of your
own announces another as an entry point of the group `ltbench.executors` (`name = package.module:Class`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from ltbench.errors import LtbenchError, SpecError, UnknownNameError
from ltbench.executors.cells import Cell, Report, Settings

GROUP = "ltbench.executors"

BUILT_IN = {
    "local": "ltbench.executors.local:Local",
    "slurm": "ltbench.executors.slurm:Slurm",
    "print": "ltbench.executors.shell:Print",
}


@dataclass(frozen=True)
class Started:
    """A cell was begun, or handed over, at a place ("worker 1", "job 17_3")."""

    cell: Cell
    place: str


@dataclass(frozen=True)
class Ended:
    """A cell is over."""

    cell: Cell
    report: Report


@dataclass(frozen=True)
class Said:
    """Something that the user should read."""

    text: str


@dataclass(frozen=True)
class Command:
    """A shell command that runs a cell; it is for standard output."""

    cell: Cell
    text: str


Event = Started | Ended | Said | Command


class Executor(Protocol):
    """Gets cells run; its options are its fields."""

    def at_once(self, device: str) -> int:
        """Return how many cells share this machine, its memory too, on a device such as "auto"."""
        ...

    def execute(self, cells: Sequence[Cell], settings: Settings) -> Iterator[Event]:
        """Run the cells and yield what happens; closing the iterator stops what runs in this process's care."""
        ...


class Options(BaseModel):
    """A pydantic model that refuses unknown options and cannot be changed: what the executors of the suite are."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def executor_names() -> list[str]:
    """Return the names of all executors, sorted."""
    return sorted(_targets())


def make_executor(name: str, options: Mapping[str, Any]) -> Executor:
    """Return an executor by name with its options.

    Raises:
        UnknownNameError: no executor, or no option, of that name.
        SpecError: an option of the wrong type or range.
        LtbenchError: its module cannot be imported.
    """
    targets = _targets()
    if name not in targets:
        raise UnknownNameError("executor", name, targets)
    module, _, attribute = targets[name].partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise LtbenchError(f"Expected executor {name!r} to import, got: {error}. Install what it needs.") from error
    unknown = set(options) - set(cls.model_fields)
    if unknown:
        raise UnknownNameError(f"option of executor {name}", min(unknown), cls.model_fields)
    try:
        executor: Executor = cls(**options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpecError(
            f"Expected a valid option {where} of executor {name}, got {first['input']!r}: {first['msg']}. Mend it."
        ) from None
    return executor


def _targets() -> dict[str, str]:
    announced = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    both = sorted(set(announced) & set(BUILT_IN))
    if both:
        raise LtbenchError(f"Expected one executor named {both[0]!r}, got two. Rename yours.")
    return BUILT_IN | announced
