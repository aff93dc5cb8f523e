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
    """Return the names of all executors, sorted; those of `executor_clashes` that are not the suite's are left out."""
    return sorted(_targets())


def executor_clashes() -> dict[str, LtbenchError]:
    """Return the names that several packages give to their executors; the suite's own keep theirs."""
    return {
        name: LtbenchError(
            f"Expected one executor named {name!r}, got {' and '.join(targets)}. Rename one, or remove its package."
        )
        for name, targets in sorted(_offered().items())
        if len(targets) > 1
    }


def make_executor(name: str, options: Mapping[str, Any]) -> Executor:
    """Return an executor by name with its options.

    Raises:
        UnknownNameError: no executor, or no option, of that name.
        SpecError: an option of the wrong type or range.
        LtbenchError: several packages give the name, or its module cannot be imported.
    """
    targets = _targets()
    if name not in targets:
        raise executor_clashes().get(name) or UnknownNameError("executor", name, targets)
    module, _, attribute = targets[name].partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise LtbenchError(f"Expected executor {name!r} to import, got: {error}. Install what it needs.") from error
    except Exception as error:
        if name in BUILT_IN:
            raise
        raise LtbenchError(
            f"Expected executor {name!r} to import, got {type(error).__name__}: {error}. Mend or remove its package."
        ) from error
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
    """Return what can be made: the suite's own, and those of other packages whose names nobody else has."""
    return {name: targets[0] for name, targets in _offered().items() if len(targets) == 1} | BUILT_IN


def _offered() -> dict[str, list[str]]:
    """Return the classes that offer an executor of each name: one, unless names clash."""
    offered = {name: [target] for name, target in BUILT_IN.items()}
    for entry in entry_points(group=GROUP):
        targets = offered.setdefault(entry.name, [])
        if entry.value not in targets:  # a package may be found twice, installed and on the path
            targets.append(entry.value)
    return offered
