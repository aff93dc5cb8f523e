"""What `ltbench plan` and `ltbench sweep` are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ltbench.contract.parameters import parse_assignments
from ltbench.errors import SpecError
from ltbench.executors.interface import Executor, make_executor
from ltbench.runs.environment import parse_size
from ltbench.sweeps.changes import changed
from ltbench.sweeps.grid import Grid, Request, parse_values, read_grid, requests, validate_grid


@dataclass(frozen=True)
class SweepRequest:
    """The options of the command line; text as it was typed.

    Args:
        methods: names or patterns, separated by commas.
        splits: names, patterns or files.
        seeds: "0-4".
        presets: names.
        parameters: `key=v1,v2`.
        protocol: name or None.
        config: a YAML file or the name of a grid that ships; methods, splits and seeds then replace its own, or
            are added to them after a `+`.
    """

    methods: str = ""
    splits: str = ""
    seeds: str = ""
    presets: str = ""
    parameters: tuple[str, ...] = ()
    protocol: str | None = None
    config: str | None = None

    @cached_property
    def grid(self) -> Grid:
        """The grid, from the file or from the options.

        Raises:
            LtbenchError: see `read_grid` and `validate_grid`.
        """
        if self.config is not None:
            if self.presets or self.parameters or self.protocol:
                raise SpecError(
                    "Expected presets, hyper-parameters and protocol in the file, got options beside --config. "
                    "Write them into a file of your own."
                )
            return read_grid(self.config)
        options: dict[str, Any] = {"methods": self.methods, "splits": self.splits, "presets": self.presets}
        options |= {"parameters": parse_values(self.parameters), "protocol": self.protocol}
        options |= {"seeds": self.seeds} if self.seeds else {}
        return validate_grid(options, "the options")

    def requests(self) -> list[Request]:
        """Return the combinations that are asked for, each once.

        Raises:
            LtbenchError: names that are unknown, or nothing to run.
        """
        if self.config is None:
            return requests(self.grid)
        return changed(self.grid, self.methods, self.splits, self.seeds)

    def executor(self, name: str | None, workers: int | None, options: Iterable[str]) -> Executor:
        """Return the executor: the options of the command line override those of the file.

        Args:
            name: its name, or None for the file's.
            workers: how many runs at a time, or None for its default.
            options: `key=value`; a dotted key reaches into a mapping (`methods.ltad.time=48h`).

        Raises:
            LtbenchError: an unknown executor or option.
        """
        chosen = name or self.grid.executor
        values = dict(self.grid.options) if chosen == self.grid.executor else {}
        values |= {"workers": workers} if workers is not None else {}
        for key, value in parse_assignments(options, "-x", "memory=4GB").items():
            values = _set(values, key.split("."), value)
        return make_executor(chosen, values)


def share_of(memory_limit: str | None, at_once: int) -> str | None:
    """Return what each of several processes may take of a memory limit.

    Raises:
        SpecError: the limit is no size.
    """
    limit = parse_size(memory_limit, "--memory-limit") if memory_limit else 0
    return str(limit // at_once) if limit else None


def _set(values: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return values with the one at a path replaced."""
    if len(path) == 1:
        return {**values, path[0]: value}
    inner = values.get(path[0])
    return {**values, path[0]: _set(inner if isinstance(inner, Mapping) else {}, path[1:], value)}
