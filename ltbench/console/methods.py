"""Methods, their hyper-parameters and presets, and contract checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ltbench.console.output import escape, new_table, open_console, print_json, say, tell
from ltbench.contract.description import Description, describe
from ltbench.contract.parameters import plain
from ltbench.contract.registry import Preset, clashes, method_class, method_info, method_names, preset_names
from ltbench.errors import LtbenchError
from ltbench.method import MethodInfo
from ltbench.protocols import DEFAULT_PROTOCOL, protocol_named
from ltbench.tables.measurements import PRIVILEGES

if TYPE_CHECKING:
    from ltbench.contract.checks import CheckResult


def print_methods(as_json: bool) -> None:
    """Print every method with its privileges and presets; one that cannot be had is left out with a line."""
    infos, problems = [], [str(clash) for clash in clashes().values()]
    for name in method_names():
        try:
            infos.append((method_info(name), preset_names(name)))
        except LtbenchError as error:
            problems.append(str(error))
    for problem in problems:
        tell(f"left out: {problem}")
    if as_json:
        print_json({info.name: dataclasses.asdict(info) | {"presets": names} for info, names in infos})
        return
    table = new_table("name", "title", "paper", "privileges, at most", "scores", "presets")
    for info, names in infos:
        table.add_row(
            escape(info.name),
            escape(info.title),
            escape(info.paper or ""),
            ", ".join(_privileges(info)),
            "pixels, images" if info.has_maps else "images",
            escape(", ".join(names)),
        )
    open_console().print(table)


def print_method(name: str, preset: str | None, as_json: bool, *, count: bool = False) -> None:
    """Print one method: paper, privileges, hyper-parameters, presets.

    Args:
        name: registry name.
        preset: whose values are shown, or None for the defaults.
        as_json: as one object.
        count: count its trainable parameters too, which imports it and builds its network.
    """
    method = describe(name)
    chosen = method.choose_preset(preset, "")
    size = protocol_named(chosen.protocol or DEFAULT_PROTOCOL).size
    trainable = _trainable(method, chosen, size) if count else None
    values = plain(method.resolve(chosen.parameters))
    rows = [
        {
            "name": parameter.name,
            "type": parameter.type_name,
            "default": plain({"default": parameter.default})["default"],
            "value": values[parameter.name],
            "description": parameter.description,
        }
        for parameter in method.parameters
    ]
    if as_json:
        described = {found.name: dataclasses.asdict(found) for found in method.presets.values()}
        print_json(
            dataclasses.asdict(method.info)
            | {"preset": preset, "hyper_parameters": rows, "presets": described, "trainable_parameters": trainable}
            | {"image_size": list(size)}
        )
        return
    console = open_console()
    info = method.info
    console.print(f"[bold]{escape(info.title)}[/bold] ({escape(info.name)})  paper: {escape(info.paper or 'none')}")
    console.print(f"privileges, at most: {', '.join(_privileges(info)) or 'none'}")
    scored = "pixels (anomaly maps) and images" if info.has_maps else "images; it gives no maps"
    console.print(f"scores {scored}; needs at least {info.min_images} training images a category")
    if count:
        number = "it does not tell" if trainable is None else f"{trainable:,} for images of {size[0]}x{size[1]}"
        console.print(f"trainable parameters: {number}")
    table = new_table("hyper-parameter", "type", escape(preset or "default"), "meaning")
    for row in rows:
        table.add_row(*(escape(str(row[key])) for key in ("name", "type", "value", "description")))
    console.print(table)
    for found in method.presets.values():
        console.print(f"preset [bold]{escape(found.name)}[/bold]: {escape(_described(found))}")


def _described(preset: Preset) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in preset.parameters.items()) or "the defaults"
    scored = f", protocol {preset.protocol}" if preset.protocol else ""
    default = f"; taken for {', '.join(preset.splits)}" if preset.splits else ""
    return f"{preset.description} ({settings}{scored}{default})"


def _trainable(method: Description, chosen: Preset, size: tuple[int, int]) -> int | None:
    """Return how many parameters a method trains on images of a size, or None if it does not tell."""
    made = method_class(method.info.name)(**method.resolve(chosen.parameters))
    counted = getattr(made, "trainable_parameters", None)
    return None if counted is None else int(counted(size))


def print_checks(results: Iterable[CheckResult], as_json: bool) -> bool:
    """Print each check as it ends; return whether all passed."""
    done: list[CheckResult] = []
    for result in results:
        done.append(result)
        if not as_json:
            told = "ok    " if result.passed else "BROKEN"
            say(f"{told} {result.check.replace('_', ' ')}" + ("" if result.passed else f": {result.reason}"))
    if as_json:
        print_json({result.check: {"passed": result.passed, "reason": result.reason} for result in done})
    return all(result.passed for result in done)


def _privileges(info: MethodInfo) -> list[str]:
    """Return what the class declares; with some hyper-parameters a run asks for less (`run_info`)."""
    return [name for name in PRIVILEGES if getattr(info, name)]
