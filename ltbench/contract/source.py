"""What a method's source says of it, read without running it."""

from __future__ import annotations

import ast
from contextlib import suppress
from pathlib import Path

from ltbench.method import MethodInfo


def written_info(source: Path) -> MethodInfo | None:
    """Return the `info` of the class that `METHOD` names, or None if it is not written there in constants."""
    classes: dict[str, MethodInfo] = {}
    named = ""
    for node in ast.parse(source.read_bytes()).body:
        if isinstance(node, ast.ClassDef):
            found = [value for line in node.body if (value := _assigned(line, "info")) is not None]
            with suppress(ValueError, TypeError):  # values that are no constants, arguments that do not fit
                for value in found:
                    if (info := _constant_info(value)) is not None:
                        classes[node.name] = info
        elif isinstance(value := _assigned(node, "METHOD"), ast.Name):
            named = value.id
    return classes.get(named)


def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    """Return what a statement assigns to a name, or None."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    is_it = any(isinstance(target, ast.Name) and target.id == name for target in targets)
    return node.value if is_it and isinstance(node, ast.Assign | ast.AnnAssign) else None


def _constant_info(value: ast.expr) -> MethodInfo | None:
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "MethodInfo"):
        return None
    keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in value.keywords if keyword.arg}
    return MethodInfo(*map(ast.literal_eval, value.args), **keywords)
