"""A grid: methods x splits x presets x hyper-parameters x seeds, from the command line, a YAML file, or by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ltbench.contract.parameters import parse_assignments
from ltbench.contract.registry import method_names, preset_names
from ltbench.errors import DataError, SpecError, UnknownNameError, cut
from ltbench.plain_yaml import parse_yaml
from ltbench.splits.files import committed_names
from ltbench.sweeps.patterns import expand, is_pattern
from ltbench.sweeps.seeds import LARGEST_SWEEP, parse_seeds
from ltbench.system import content_of

SHIPPED = files("ltbench.sweeps") / "grids"
"""The folder of the grids that ship, as YAML files."""


def _listed(value: object) -> object:
    """Return names as a list, written as one or as text with commas."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value


Names = Annotated[list[str], BeforeValidator(_listed)]
Seeds = Annotated[list[int], BeforeValidator(parse_seeds)]


class Part(BaseModel):
    """The product of its lists."""

    model_config = ConfigDict(extra="forbid")

    methods: Names = Field([], description="method names or patterns")
    splits: Names = Field([], description="split names, patterns or files")
    seeds: Seeds = Field([0], description="0-4 or a list")
    presets: Names = Field([], description="preset names or patterns; without, the one that goes with method and split")
    parameters: dict[str, Any] = Field({}, description="hyper-parameter: value, or a list of values to try")
    protocol: str | None = Field(None, description="protocol name; without, the preset's")


class Grid(Part):
    """A part whose keys are the defaults of further parts, with how to run it."""

    description: str = Field("", description="one line")
    parts: list[Part] = Field([], description="products of their own")
    executor: str = Field("local", description="local, slurm, print or another's name")
    options: dict[str, Any] = Field({}, description="the executor's options")


@dataclass(frozen=True)
class Request:
    """One combination of a grid, as names."""

    method: str
    split: str
    preset: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    protocol: str | None = None
    seed: int = 0


def grid_names() -> list[str]:
    """Return the names of the grids that ship, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in SHIPPED.iterdir() if entry.name.endswith(".yaml"))


def read_grid(name_or_path: str) -> Grid:
    """Return a grid that ships, by name, or one in a YAML file.

    Raises:
        UnknownNameError: no grid of that name, or an unknown key in the file.
        DataError: the file cannot be read.
        SpecError: it is no YAML, or a value has the wrong type.
    """
    is_path = name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path
    if not is_path and name_or_path not in grid_names():
        raise UnknownNameError("grid (or YAML file)", name_or_path, grid_names())
    try:
        shipped = SHIPPED / f"{name_or_path}.yaml"
        text = content_of(Path(name_or_path)).decode("utf-8") if is_path else shipped.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Expected a grid in {name_or_path}, got: {error}. Mend the path.") from error
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise SpecError(f"Expected YAML in {name_or_path}, got: {' '.join(str(error).split())}. Mend it.") from None
    if not isinstance(content, dict):
        raise SpecError(f"Expected keys and values in {name_or_path}, got {type(content).__name__}. Write methods: ...")
    return validate_grid(content, name_or_path)


def validate_grid(content: Mapping[str, Any], source: str) -> Grid:
    """Return a grid from plain values.

    Raises:
        UnknownNameError: an unknown key; the nearest is offered.
        SpecError: a value of the wrong type.
    """
    parts = content.get("parts") or []
    _refuse_unknown(content, Grid, source)
    for part in parts if isinstance(parts, list) else []:
        _refuse_unknown(part if isinstance(part, Mapping) else {}, Part, source)
    try:
        return Grid.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise SpecError(
            f"Expected a valid {where} in {source}, got {cut(repr(first['input']))}: {why}. Mend it."
        ) from None


def _refuse_unknown(content: Mapping[str, Any], model: type[BaseModel], source: str) -> None:
    unknown = sorted(str(key) for key in set(content) - set(model.model_fields))
    if unknown:
        raise UnknownNameError(f"key in {source}", unknown[0], model.model_fields)


def parse_values(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Return `["coreset_ratio=0.1,0.01", "layers=[2,3],[3]"]` as hyper-parameter -> values to try.

    Raises:
        SpecError: no `=`, a value that is no YAML, or a name twice.
    """
    found: dict[str, list[Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if name.strip() in found:
            raise SpecError(
                f"Expected {name.strip()} once, got it twice. Write the values to try side by side: "
                f"-p {name.strip()}=VALUE,VALUE."
            )
        pieces = _split_outside_brackets(text) if equals else [text]
        found[name.strip()] = [
            value for piece in pieces for value in parse_assignments([f"{name}{equals}{piece}"]).values()
        ]
    return found


def _split_outside_brackets(text: str) -> list[str]:
    """Return the pieces of a text between its commas, but for those inside brackets or quotes."""
    pieces, depth, quote = [""], 0, ""
    for mark in text:
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "'\"":
            quote = mark
        elif mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if mark == "," and not depth and not quote:
            pieces.append("")
        else:
            pieces[-1] += mark
    return pieces


def requests(grid: Grid) -> list[Request]:
    """Return the combinations of a grid, each once, in its order.

    Raises:
        SpecError: a part without methods or splits, or more combinations than a sweep may have.
        UnknownNameError: a pattern that no method or split has.
    """
    found: dict[str, Request] = {}
    count = 0
    for part in _parts(grid):
        if not part.methods or not part.splits:
            lacking = "splits" if part.methods else "methods"
            raise SpecError(f"Expected methods and splits, got no {lacking}. Give --{lacking}, or --config GRID.")
        product = _Product.of(part)
        count += product.count
        if count > LARGEST_SWEEP:
            raise SpecError(
                f"Expected a sweep of at most {LARGEST_SWEEP:,} runs, got {count:,}, the last {product}. Mend the "
                "seeds or lists of values, or make several sweeps of it."
            )
        for request in product:
            found.setdefault(repr(request), request)
    return list(found.values())


def _parts(grid: Grid) -> Iterator[Part]:
    names = Part.model_fields
    own = {name: getattr(grid, name) for name in names if name in grid.model_fields_set}
    if not grid.parts:
        yield Part.model_construct(**{name: getattr(grid, name) for name in names})
    for part in grid.parts:
        given = {name: getattr(part, name) for name in part.model_fields_set}
        merged = own | given | {"parameters": own.get("parameters", {}) | given.get("parameters", {})}
        yield Part.model_construct(**({name: getattr(part, name) for name in names} | merged))


@dataclass(frozen=True)
class _Product:
    """The combinations of a part, which can be counted before any is made."""

    part: Part
    splits: list[str]
    settings: list[tuple[str, str | None]]
    lists: list[list[Any]]

    @classmethod
    def of(cls, part: Part) -> _Product:
        """Return the product of a part, its patterns replaced by the names that they match."""
        methods = expand(part.methods, method_names(), "method")
        settings = [(method, preset) for method in methods for preset in _presets(part.presets, method)]
        lists = [value if isinstance(value, list) else [value] for value in part.parameters.values()]
        return cls(part, expand(part.splits, committed_names(), "split"), settings, lists)

    @property
    def count(self) -> int:
        """How many there are."""
        return math.prod(map(len, self.lists), start=len(self.splits) * len(self.settings) * len(self.part.seeds))

    def __str__(self) -> str:
        lists = "".join(
            f" x {len(own)} values of {name}" for name, own in zip(self.part.parameters, self.lists, strict=True)
        )
        sides = f"{len(self.settings)} methods and presets x {len(self.splits)} splits x {len(self.part.seeds)} seeds"
        return f"{self.count:,} ({sides}{lists})"

    def __iter__(self) -> Iterator[Request]:
        for split, (method, preset) in itertools.product(self.splits, self.settings):
            for values in itertools.product(*self.lists):
                parameters = dict(zip(self.part.parameters, values, strict=True))
                for seed in self.part.seeds:
                    yield Request(method, split, preset, parameters, self.part.protocol, seed)


def _presets(names: Sequence[str], method: str) -> list[str | None]:
    if not any(is_pattern(name) for name in names):
        return [*names] or [None]
    return [*expand(names, preset_names(method), f"preset of {method}")]
