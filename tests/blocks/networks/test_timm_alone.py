"""timm comes without torch's compiler, and what wants the compiler later gets it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ltbench.blocks.networks import timm_alone

ROOT = Path(timm_alone.__file__).parents[3]

ALONE = """
import sys
import torch
disable = torch.compiler.disable
from ltbench.blocks.networks.timm_alone import timm
assert "torch._dynamo" not in sys.modules, "timm brought the compiler"
assert torch.compiler.disable is disable

from torchvision.ops import roi_align
boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
assert roi_align(torch.ones(1, 1, 8, 8), boxes, output_size=2).tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]
module = sys.modules["torchvision.ops.roi_align"]
assert module.is_compile_supported("cpu") is True
import torch._dynamo.utils
assert module.is_compile_supported("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item() == 2
"""


def test_timm_comes_without_the_compiler_which_serves_whoever_calls_it() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stand_in_makes_way_for_the_module_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asked_later.py").write_text("def function(x):\n    return 2 * x\n\nother = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    later = timm_alone._Later("asked_later", "function")
    monkeypatch.setitem(sys.modules, "asked_later", later)

    from asked_later import function  # type: ignore[import-not-found]

    assert not hasattr(later, "__file__"), "as `inspect` asks every module"
    assert sys.modules["asked_later"] is later
    from asked_later import other

    found: ModuleType = sys.modules["asked_later"]
    assert other == 5 and found is not later and found.__file__ == str(tmp_path / "asked_later.py")
    assert function(4) == 8


def test_a_decorator_works_when_its_function_is_called() -> None:
    decorated: list[tuple[object, ...]] = []

    def disable(function: object, recursive: bool = True, *, reason: str = "") -> object:
        decorated.append((function, recursive, reason))
        return function

    later = timm_alone._disabled_later(disable)

    @later
    def one(x: int) -> int:
        """Add."""
        return x + 1

    @later(recursive=False, reason="slow")  # type: ignore[untyped-decorator]
    def two(x: int) -> int:
        return x + 2

    assert decorated == [] and one.__doc__ == "Add." and one.__name__ == "one"
    assert (one(1), one(2), two(1)) == (2, 3, 3)
    assert [entry[1:] for entry in decorated] == [(True, ""), (False, "slow")], "once a function"


def test_with_the_compiler_there_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ModuleType("torch._dynamo.utils")
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", there)
    disable = torch.compiler.disable
    with timm_alone._without_compiler():
        assert sys.modules["torch._dynamo.utils"] is there and torch.compiler.disable is disable


def test_everything_imports_timm_through_it() -> None:
    """anomalib imports torchvision and timm itself, before its method can."""
    plain = []
    for file in [*ROOT.glob("ltbench/**/*.py"), *ROOT.glob("methods/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.partition(".")[0] in ("timm", "torchvision") for name in names):
                plain.append(file.relative_to(ROOT).as_posix())
    assert set(plain) == {
        "ltbench/blocks/networks/timm_alone.py",
        "methods/anomalib/engine.py",
        "methods/anomalib/models.py",
    }
