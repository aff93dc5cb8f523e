"""What is read of a method's source is what its class has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ltbench.contract.description import describe
from ltbench.contract.parameters import hyper_parameters
from ltbench.contract.registry import method_class, method_names, presets, source_of
from ltbench.contract.source import written_info, written_parameters

HEAVY = ("torch", "timm", "faiss", "sklearn", "numba", "transformers", "pandas", "torchvision", "matplotlib")


@pytest.mark.parametrize("name", method_names())
def test_every_method_of_the_suite_is_read_as_it_is(name: str) -> None:
    source = source_of(name)
    assert source is not None
    written = written_parameters(source)
    assert written is not None, "else `ltbench methods show` imports PyTorch"
    assert repr(written) == repr(hyper_parameters(method_class(name))), "repr: pydantic's fields have no equality"
    assert written_info(source) == method_class(name).info
    assert describe(name).presets == presets(method_class(name))


@pytest.mark.parametrize(
    "command", ["methods", "methods show {name}", "table --paper tailedcore-1", "make-splits mvtec_exp100", "datasets"]
)
def test_what_only_shows_imports_nothing_heavy(command: str, tmp_path: Path) -> None:
    names = method_names() if "{name}" in command else [""]
    code = (
        "import sys\n"
        "from ltbench.cli import main\n"
        f"for arguments in {[command.format(name=name).split() for name in names]}:\n"
        "    sys.argv = ['ltbench', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit as stop: assert not stop.code, stop.code\n"
        f"heavy = {set(HEAVY)} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


BODY = """
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal
from pydantic import Field
from ltbench.method import MethodInfo

SIDES = (3, 5)
Kind = Literal["a", "b"]

@dataclass
class Base:
    first: Annotated[int, Field(ge=1, description="one")] = 1
    second: float = 2.0

@dataclass
class Mine(Base):
    info: ClassVar[MethodInfo] = MethodInfo("mine", "Mi" + "ne")
    kind: Annotated[Kind, Field(description=f"{SIDES[0]} or {SIDES[1]}")] = "a"
    sides: tuple[int, ...] = field(default_factory=lambda: (1, 2))
    second: float = 3.0
    state_: Whatever = field(init=False, repr=False)
"""


def test_bases_aliases_and_constants_are_followed(tmp_path: Path) -> None:
    (source := tmp_path / "method.py").write_text(f"{BODY}\nMETHOD = Mine\n")
    written = written_parameters(source)
    assert written is not None
    told = [(parameter.name, parameter.type_name, parameter.default) for parameter in written]
    assert told == [
        ("first", "int", 1), ("second", "float", 3.0), ("kind", "'a' | 'b'", "a"), ("sides", "tuple[int, ...]", (1, 2)),
    ]  # fmt: skip
    assert written[2].description == "3 or 5"
    info = written_info(source)
    assert info is not None
    assert info.title == "Mine"


@pytest.mark.parametrize(
    "line",
    [
        "    other: int = os.cpu_count()",
        "    other: np.ndarray = 1",
        "    other: int",
        "    other: int = [SIDES[0] for _ in (1,)][0]",
        "    other: int = 1 // 0",
    ],
)
def test_what_needs_more_is_left_to_the_class(tmp_path: Path, line: str) -> None:
    source = tmp_path / "method.py"
    source.write_text(f"import os\nimport numpy as np\n{BODY}{line}\n\nMETHOD = Mine\n")
    assert written_parameters(source) is None
    source.write_text(f"{BODY}\nMETHOD: type = make()\n")
    assert written_parameters(source) is None
    assert written_info(source) is None
