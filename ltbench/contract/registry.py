"""The methods by name, found without importing them.

A folder of `methods` is a family. Each of its modules called `method.py` or `method_<variant>.py` defines one `METHOD`,
of the name `<family>` or `<family>_<variant>`, with presets in `presets.yaml` or `presets_<variant>.yaml` beside it.
Other packages announce theirs as entry points of the group `ltbench.methods` (`name = package.module` or
`name = package.module:METHOD`).
"""

from __future__ import annotations

import fnmatch
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import yaml

from ltbench.contract.parameters import HyperParameter, hyper_parameters
from ltbench.contract.source import written_info
from ltbench.errors import ContractError, LtbenchError, SpecError, UnknownNameError
from ltbench.importing import import_large
from ltbench.method import Method, MethodInfo
from ltbench.places import METHODS
from ltbench.plain_yaml import parse_yaml

GROUP = "ltbench.methods"

_METHOD = "method"


@dataclass(frozen=True, slots=True)
class Preset:
    """Named settings of a method, as its `presets.yaml` has them.

    Args:
        name: "paper", "offline", ...
        description: one line for `ltbench methods show`.
        parameters: hyper-parameter -> value; the others keep their defaults.
        protocol: the protocol that goes with it, or None for the suite's default.
        splits: patterns of the split names that take this preset when none is named ("mvtec_k*").
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    protocol: str | None = None
    splits: tuple[str, ...] = ()


def method_names() -> list[str]:
    """Return the names of all methods, sorted; nothing is imported. Those of `clashes` are left out."""
    return sorted(_targets())


def clashes() -> dict[str, LtbenchError]:
    """Return the names that two packages, or a package and the suite, give to different methods; none is taken."""
    offered = _offered()
    return {
        name: LtbenchError(
            f"Expected one method named {name!r}, got {' and '.join(targets)}. Rename one, or remove its package."
        )
        for name, targets in sorted(offered.items())
        if len(targets) > 1
    }


def plug_ins() -> list[str]:
    """Return the names of the methods that other packages announce, without those of `clashes`."""
    return sorted({entry.name for entry in _announced(entry_points)} - set(clashes()))


def method_class(name: str) -> type[Method]:
    """Import a method and return its class.

    Raises:
        UnknownNameError: no method of that name.
        LtbenchError: several methods have it, or its module cannot be imported.
        ContractError: its module defines no `METHOD`, or one of another name.
    """
    if name in (clashing := clashes()):
        raise clashing[name]
    targets = _targets()
    if name not in targets:
        raise UnknownNameError("method", name, targets)
    module_name, _, attribute = targets[name].partition(":")
    try:
        module = import_large(module_name)
    except ImportError as error:
        raise LtbenchError(
            f"Expected method {name!r} to import, got {type(error).__name__}: {error}. "
            f"Install what {module_name} needs."
        ) from error
    except LtbenchError:
        raise
    except Exception as error:
        if name not in plug_ins():
            raise
        raise LtbenchError(
            f"Expected method {name!r} to import, got {type(error).__name__}: {error}. Mend or remove its package."
        ) from error
    method: type[Method] | None = getattr(module, attribute or "METHOD", None)
    if method is None:
        raise ContractError(f"Expected METHOD in {module_name}, got none. End the module with METHOD = YourClass.")
    if method.info.name != name:
        raise ContractError(f"Expected info.name {name!r} in {module_name}, got {method.info.name!r}. Make them equal.")
    return method


def method_info(name: str) -> MethodInfo:
    """Return what a method says of itself, read from its source, or from its class where the source does not tell.

    It does where the class that `METHOD` names has an `info` of constants, `MethodInfo("uniad", "UniAD", ...)`.

    Raises:
        UnknownNameError, LtbenchError, ContractError: as `method_class`.
    """
    source = source_of(name)
    info = None if source is None else written_info(source)
    return method_class(name).info if info is None or info.name != name else info


def preset_names(name: str) -> list[str]:
    """Return the names of a method's presets, in their order; its module is not imported where its file is known."""
    source = source_of(name)
    if source is None:
        return list(presets(method_class(name)))
    path = presets_beside(source)
    content = _parsed(path, path.stat().st_mtime_ns) if path.is_file() else {}
    return list(map(str, content)) if isinstance(content, dict) else list(presets(method_class(name)))


def presets(method: type[Method]) -> dict[str, Preset]:
    """Return the presets of a method by name, from `presets_file`.

    Raises:
        SpecError: the file is not a mapping of presets as `Preset` describes them, or sets an unknown hyper-parameter.
    """
    path = presets_file(method)
    return {} if path is None else read_presets(path, hyper_parameters(method))


def read_presets(path: Path, parameters: Iterable[HyperParameter]) -> dict[str, Preset]:
    """Return the presets in a file by name; none where there is no file.

    Raises:
        SpecError: as `presets`.
    """
    if not path.is_file():
        return {}
    content = _parsed(path, path.stat().st_mtime_ns) or {}
    if not isinstance(content, dict):
        raise SpecError(f"Expected a mapping of presets in {path}, got {type(content).__name__}. Write name: settings.")
    known = {parameter.name for parameter in parameters}
    return {name: _preset(path, known, str(name), settings) for name, settings in content.items()}


def presets_file(method: type[Method]) -> Path | None:
    """Return where the presets of a method are: `presets_x.yaml` beside `method_x.py`, `presets.yaml` beside others."""
    module_file = sys.modules[method.__module__].__file__
    return None if module_file is None else presets_beside(Path(module_file))


def presets_beside(module: Path) -> Path:
    """Return where the presets of the method in a module are."""
    variant = module.stem.removeprefix(_METHOD) if module.stem.startswith(f"{_METHOD}_") else ""
    return module.with_name(f"presets{variant}.yaml")


def choose_preset(method: type[Method], name: str | None, split: str) -> Preset:
    """Return the named preset, else the first whose `splits` patterns match the split, else the bare defaults.

    Raises:
        UnknownNameError: no preset of that name.
    """
    return choose_among(presets(method), method.info.name, name, split)


def choose_among(known: Mapping[str, Preset], method: str, name: str | None, split: str) -> Preset:
    """Return what `choose_preset` does, for the presets of a method of that name."""
    if name is not None:
        if name not in known:
            raise UnknownNameError(f"preset of {method}", name, known)
        return known[name]
    for preset in known.values():
        if any(fnmatch.fnmatchcase(split, pattern) for pattern in preset.splits):
            return preset
    return Preset("defaults", "The defaults of the hyper-parameters.")


@cache
def _announced(find: Callable[..., Iterable[EntryPoint]]) -> tuple[EntryPoint, ...]:
    """Return the entry points of the group; finding them reads the metadata of every installed package, so once."""
    return tuple(find(group=GROUP))


@cache
def _parsed(path: Path, modified: int) -> Any:
    """Return the content of a YAML file as it was when last modified."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"Expected YAML in {path}, got: {' '.join(str(error).split())}. Mend it.") from None


def source_of(name: str) -> Path | None:
    """Return the source of one of the suite's own methods, or None for others."""
    module, _, attribute = _targets().get(name, "").partition(":")
    family, _, stem = module.removeprefix(f"{_package()}.").partition(".")
    file = METHODS / family / f"{stem}.py"
    return file if module.startswith(f"{_package()}.") and not attribute and file.is_file() else None


def _targets() -> dict[str, str]:
    return {name: targets[0] for name, targets in _offered().items() if len(targets) == 1}


def _offered() -> dict[str, list[str]]:
    """Return the modules that offer a method of each name: one, unless names clash."""
    package = _package()
    offered = {
        family.name + module.name.removeprefix(_METHOD): [f"{package}.{family.name}.{module.name}"]
        for family in pkgutil.iter_modules([str(METHODS)])
        if family.ispkg
        for module in pkgutil.iter_modules([str(METHODS / family.name)])
        if module.name == _METHOD or module.name.startswith(f"{_METHOD}_")
    }
    for entry in _announced(entry_points):
        targets = offered.setdefault(entry.name, [])
        if entry.value not in targets:  # a package may be found twice, installed and on the path
            targets.append(entry.value)
    return offered


@cache
def _package() -> str:
    """Return the name under which the suite's own methods are imported: `methods`, where that is the clone's folder."""
    found = importlib.util.find_spec("methods")
    places = list(found.submodule_search_locations or ()) if found else []
    return "methods" if any(Path(place).resolve() == METHODS for place in places) else "ltbench.shipped.methods"


def _preset(path: Path, known: Collection[str], name: str, settings: Any) -> Preset:
    entries = {"description", "parameters", "protocol", "splits"}
    if not isinstance(settings, dict) or not set(settings) <= entries:
        got = sorted(set(settings) - entries) if isinstance(settings, dict) else settings
        raise SpecError(f"Expected {sorted(entries)} in preset {name!r} of {path}, got {got}. Mend the file.")
    parameters = settings.get("parameters") or {}
    unknown = set(parameters) - set(known)
    if unknown:
        raise SpecError(
            f"Expected hyper-parameters in preset {name!r} of {path}, got {sorted(unknown)}. Mend the file."
        )
    return Preset(
        name,
        settings.get("description", ""),
        parameters,
        settings.get("protocol"),
        tuple(settings.get("splits") or ()),
    )
