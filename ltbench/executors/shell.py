"""One shell command a run, for any scheduler."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field

from ltbench.executors.cells import Cell, Settings
from ltbench.executors.interface import Command, Event, Options


class Print(Options):
    """Print one shell command a run and run none."""

    command: Annotated[str, Field(description="how ltbench is called, in shell syntax")] = "ltbench"

    def at_once(self, device: str) -> int:
        """Return 1: a command has a machine for itself."""
        return 1

    def execute(self, cells: Sequence[Cell], settings: Settings) -> Iterator[Event]:
        """Yield the command of each cell."""
        yield from (Command(cell, f"{self.command} {shlex.join(arguments(cell, settings))}") for cell in cells)


def arguments(cell: Cell, settings: Settings) -> list[str]:
    """Return the arguments with which `ltbench` runs a cell; paths are absolute."""
    found = ["run", "--method", cell.method, "--split", cell.split, "--seed", str(cell.seed)]
    found += ["--preset", cell.preset] if cell.preset else []
    for name, value in cell.parameters.items():
        found += ["-p", f"{name}={json.dumps(value)}"]
    found += ["--protocol", cell.protocol] if cell.protocol else []
    found += ["--data-root", str(settings.data_root.resolve())] if settings.data_root else []
    found += ["--results", str(settings.results.resolve()), "--cache-size", settings.cache_size]
    found += ["--device", settings.device] if settings.device != "auto" else []
    found += ["--memory-limit", settings.memory_limit] if settings.memory_limit else []
    found += ["--save-maps"] if settings.save_maps else []
    return found
