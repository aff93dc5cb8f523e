"""What a method's source says of it, read without importing it: a method's module imports PyTorch and more.

A method's `info`, and the annotations and defaults of its hyper-parameters, are expressions. They are evaluated where
the names in them come from modules that are light, or from others of the suite, whose source is read likewise; anything
else is left to who imports the module.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import importlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import ltbench
from ltbench.contract.parameters import HyperParameter
from ltbench.method import MethodInfo

LIGHT = ("typing", "collections.abc", "dataclasses", "pydantic", "ltbench.method", "ltbench.core", "ltbench.errors")
"""Modules that are imported for a name."""

_SUITE = Path(ltbench.__file__).parent


class UnreadableError(Exception):
    """What an expression needs beyond constants, light modules and the suite's sources."""


def written_info(source: Path) -> MethodInfo | None:
    """Return the `info` of the class that `METHOD` names, or None if its source does not tell."""
    with suppress(UnreadableError):
        module, class_ = _method_of(source)
        for line in class_.body:
            if (value := _assigned(line, "info")) is not None:
                info = module.value(value)
                return info if isinstance(info, MethodInfo) else None
    return None


def written_parameters(source: Path) -> tuple[HyperParameter, ...] | None:
    """Return the hyper-parameters of the class that `METHOD` names, or None if its source does not tell.

    They are those of `ltbench.contract.parameters.hyper_parameters` of the class.
    """
    with suppress(UnreadableError):
        return tuple(_fields(*_method_of(source)).values())
    return None


class _Module(dict[str, Any]):
    """The names at the top of a module, evaluated when they are looked up; `eval` takes it for its local names."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.classes: dict[str, ast.ClassDef] = {}
        self._values: dict[str, ast.expr] = {}
        self._imports: dict[str, tuple[str, str, int]] = {}
        for node in ast.parse(file.read_bytes()).body:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self._imports[alias.asname or alias.name] = (node.module or "", alias.name, node.level)
            elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    self._assign(target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._values[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its in zip(target.elts, value.elts, strict=False):
                self._assign(one, its)

    def value(self, expression: ast.expr) -> Any:
        """Return the value of an expression of this module."""
        try:
            return eval(compile(ast.Expression(expression), str(self.file), "eval"), {}, self)
        except UnreadableError:
            raise
        except Exception as error:  # whatever it does beside naming constants and types
            raise UnreadableError(str(error)) from error

    def class_named(self, expression: ast.expr | None) -> tuple[_Module, ast.ClassDef]:
        """Return the class of a name, which this module defines or imports, and the module that defines it."""
        name = expression.id if isinstance(expression, ast.Name) else ""
        if name in self.classes:
            return self, self.classes[name]
        if name not in self._imports:
            raise UnreadableError(name)
        module, original = self._source_of(name)
        return module.class_named(ast.Name(original))

    def is_abc(self, expression: ast.expr) -> bool:
        """Return whether a base class is the standard library's `ABC`, which has no fields."""
        return isinstance(expression, ast.Name) and self._imports.get(expression.id) == ("abc", "ABC", 0)

    @property
    def method(self) -> ast.expr | None:
        """What `METHOD` is assigned."""
        return self._values.get("METHOD")

    def __missing__(self, name: str) -> Any:
        if name in self._values:
            self[name] = self.value(self._values[name])
        elif name in self._imports:
            module, original, level = self._imports[name]
            if not level and module in LIGHT:
                self[name] = getattr(importlib.import_module(module), original)
            else:
                source, original = self._source_of(name)
                self[name] = source[original]
        elif hasattr(builtins, name):
            self[name] = getattr(builtins, name)
        else:
            raise UnreadableError(name)
        return self[name]

    def _source_of(self, name: str) -> tuple[_Module, str]:
        """Return the module of the suite that a name is imported from, and its name there."""
        module, original, level = self._imports[name]
        parts = module.split(".") if module else []
        if level:
            folder = self.file.parents[level - 1]
        elif parts[0] == "ltbench":
            folder, parts = _SUITE, parts[1:]
        else:
            raise UnreadableError(module)
        file = folder.joinpath(*parts).with_suffix(".py")
        file = file if file.is_file() else folder.joinpath(*parts, "__init__.py")
        if not file.is_file():
            raise UnreadableError(module)
        return _module(file, file.stat().st_mtime_ns), original


@cache
def _module(file: Path, modified: int) -> _Module:
    return _Module(file)


def _method_of(source: Path) -> tuple[_Module, ast.ClassDef]:
    module = _module(source, source.stat().st_mtime_ns)
    return module.class_named(module.method)


def _fields(module: _Module, class_: ast.ClassDef) -> dict[str, HyperParameter]:
    """Return the dataclass fields of a class that its constructor takes, those of its bases first."""
    found: dict[str, HyperParameter] = {}
    for base in class_.bases:
        if not module.is_abc(base):
            found |= _fields(*module.class_named(base))
    for line in class_.body:
        if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
            continue
        if ast.unparse(line.annotation).startswith("ClassVar") or _is_learnt(line.value):
            continue
        name, default = line.target.id, module.value(line.value) if line.value else dataclasses.MISSING
        if isinstance(default, dataclasses.Field):
            default = default.default if default.default_factory is dataclasses.MISSING else default.default_factory()
        if default is dataclasses.MISSING:
            raise UnreadableError(name)
        found[name] = HyperParameter(name, module.value(line.annotation), default)
    return found


def _is_learnt(value: ast.expr | None) -> bool:
    """Return whether a field's value is `field(init=False, ...)`."""
    return isinstance(value, ast.Call) and any(
        keyword.arg == "init" and isinstance(keyword.value, ast.Constant) and not keyword.value.value
        for keyword in value.keywords
    )


def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    """Return what a statement assigns to a name, or None."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    is_it = any(isinstance(target, ast.Name) and target.id == name for target in targets)
    return node.value if is_it and isinstance(node, ast.Assign | ast.AnnAssign) else None
