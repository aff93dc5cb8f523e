"""Methods, their hyper-parameters and presets, and contract checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from ltbench.console.output import escape, new_table, open_console, print_json, say, tell
from ltbench.contract.checks import CheckResult
from ltbench.contract.parameters import hyper_parameters, plain, resolve
from ltbench.contract.registry import (
    choose_preset,
    clashes,
    method_class,
    method_info,
    method_names,
    preset_names,
    presets,
)
from ltbench.errors import LtbenchError
from ltbench.method import MethodInfo
from ltbench.protocols import DEFAULT_PROTOCOL, protocol_named


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
    table = new_table("name", "title", "paper", "privileges", "scores", "presets")
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


def print_method(name: str, preset: str | None, as_json: bool) -> None:
    """Print one method: paper, privileges, hyper-parameters, presets, trainable parameters if it counts them."""
    method = method_class(name)
    chosen = choose_preset(method, preset, "")
    values = plain(resolve(method, chosen.parameters))
    known = presets(method)
    rows = [
        {
            "name": parameter.name,
            "type": parameter.type_name,
            "default": plain({"default": parameter.default})["default"],
            "value": values[parameter.name],
            "description": parameter.description,
        }
        for parameter in hyper_parameters(method)
    ]
    protocol = protocol_named(chosen.protocol or DEFAULT_PROTOCOL)
    count = getattr(method(**resolve(method, values)), "trainable_parameters", None)
    trainable = None if count is None else count(protocol.size)
    if as_json:
        described = {found.name: dataclasses.asdict(found) for found in known.values()}
        print_json(
            dataclasses.asdict(method.info)
            | {"preset": preset, "hyper_parameters": rows, "presets": described, "trainable_parameters": trainable}
            | {"image_size": list(protocol.size)}
        )
        return
    console = open_console()
    info = method.info
    console.print(f"[bold]{escape(info.title)}[/bold] ({escape(info.name)})  paper: {escape(info.paper or 'none')}")
    console.print(f"privileges: {', '.join(_privileges(info)) or 'none'}")
    scored = "pixels (anomaly maps) and images" if info.has_maps else "images; it gives no maps"
    console.print(f"scores {scored}; needs at least {info.min_images} training images a category")
    if trainable is not None:
        height, width = protocol.size
        console.print(f"trainable parameters: {trainable:,} for images of {height}x{width}")
    table = new_table("hyper-parameter", "type", escape(preset or "default"), "meaning")
    for row in rows:
        table.add_row(*(escape(str(row[key])) for key in ("name", "type", "value", "description")))
    console.print(table)
    for found in known.values():
        settings = ", ".join(f"{key}={value}" for key, value in found.parameters.items()) or "the defaults"
        scored = f", protocol {found.protocol}" if found.protocol else ""
        default = f"; taken for {', '.join(found.splits)}" if found.splits else ""
        text = f"{found.description} ({settings}{scored}{default})"
        console.print(f"preset [bold]{escape(found.name)}[/bold]: {escape(text)}")


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
    declared = ("uses_categories", "uses_training_categories", "is_transductive", "uses_annotated_data")
    return [name for name in declared if getattr(info, name)]
