"""The registry finds methods without importing them, and says what is wrong with one."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ltbench.console.methods import print_methods
from ltbench.contract import registry
from ltbench.contract.registry import choose_preset, method_class, method_info, method_names, preset_names, presets
from ltbench.doctor import _plug_ins
from ltbench.errors import ContractError, LtbenchError, SpecError, UnknownNameError

METHOD_SOURCE = """
from dataclasses import dataclass
from typing import ClassVar
from ltbench.method import MethodInfo

@dataclass
class Mine:
    '''Mine.'''
    info: ClassVar[MethodInfo] = MethodInfo("{name}", "Mine")
    ratio: float = 0.1

METHOD = Mine
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a user's own, announced as the entry point `mine`."""
    folder = tmp_path / "my_plugin"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "method.py").write_text(METHOD_SOURCE.format(name="mine"))
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("mine", "my_plugin.method", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == registry.GROUP else [])
    yield folder
    for name in [name for name in sys.modules if name.startswith("my_plugin")]:
        del sys.modules[name]


def test_the_suite_has_its_methods() -> None:
    assert {"mean_image", "patchcore"} <= set(method_names())


def test_every_folder_has_the_same_name_as_its_method() -> None:
    for name in method_names():
        assert method_class(name).info.name == name


def test_an_unknown_method_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'patchcore'"):
        method_class("patchcor")


def test_an_entry_point_is_a_method(plugin: Path) -> None:
    assert "mine" in method_names()
    assert "my_plugin" not in sys.modules, "listing names must not import"
    assert method_class("mine").info.title == "Mine"


def test_a_plugin_that_cannot_be_imported_is_an_error(plugin: Path) -> None:
    (plugin / "method.py").write_text("import a_package_that_does_not_exist")
    with pytest.raises(LtbenchError, match="a_package_that_does_not_exist"):
        method_class("mine")


def test_a_plugin_without_method_is_an_error(plugin: Path) -> None:
    (plugin / "method.py").write_text("")
    with pytest.raises(ContractError, match="METHOD"):
        method_class("mine")


def test_a_plugin_of_another_name_is_an_error(plugin: Path) -> None:
    (plugin / "method.py").write_text(METHOD_SOURCE.format(name="yours"))
    with pytest.raises(ContractError, match="'yours'"):
        method_class("mine")


def test_a_name_taken_twice_is_left_out_until_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = EntryPoint("patchcore", "elsewhere.method", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert "patchcore" not in method_names() and "softpatch" in method_names()
    with pytest.raises(LtbenchError, match=r"'patchcore', got .*patchcore\.method and elsewhere\.method\. Rename one"):
        method_class("patchcore")
    print_methods(as_json=True)
    out, err = capsys.readouterr()
    assert "softpatch" in json.loads(out) and "left out: Expected one method named 'patchcore'" in err
    assert any("patchcore is left out" in finding.text and not finding.is_problem for finding in _plug_ins())


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (METHOD_SOURCE.format(name="yours"), "'yours'"),
        ("1 / 0", "ZeroDivisionError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def", "SyntaxError"),
    ],
)
def test_a_broken_plugin_breaks_no_list(
    plugin: Path, source: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugin / "method.py").write_text(source)
    print_methods(as_json=True)
    out, err = capsys.readouterr()
    assert "patchcore" in json.loads(out) and "mine" not in json.loads(out)
    assert "left out" in err and told in err and err.count("\n") == 1
    with pytest.raises(LtbenchError, match=told):
        method_class("mine")
    assert [finding.text for finding in _plug_ins()] == ["mine cannot be used"]


def test_doctor_names_a_sound_plugin(plugin: Path) -> None:
    assert [finding.text for finding in _plug_ins()] == ["mine, of another package"]


def test_presets_of_a_plugin(plugin: Path) -> None:
    assert presets(method_class("mine")) == {}
    text = """
        paper: {parameters: {ratio: 0.5}, splits: ["mvtec_*"], protocol: ltad}
        offline: {description: Small.}
    """
    (plugin / "presets.yaml").write_text(textwrap.dedent(text))
    method = method_class("mine")
    assert choose_preset(method, None, "mvtec_full").name == "paper"
    assert choose_preset(method, None, "visa_full").name == "defaults"
    assert choose_preset(method, "offline", "mvtec_full").description == "Small."
    with pytest.raises(UnknownNameError, match="Did you mean 'paper'"):
        choose_preset(method, "papr", "mvtec_full")


@pytest.mark.parametrize("text", ["[1]", "paper: 3", "paper: {parametres: {}}", "paper: {parameters: {rato: 1}}"])
def test_a_preset_file_that_makes_no_sense_is_an_error(plugin: Path, text: str) -> None:
    (plugin / "presets.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"presets\.yaml"):
        presets(method_class("mine"))


def test_what_a_method_says_of_itself_is_read_without_importing_it() -> None:
    """In a process of its own: torch takes seconds to import."""
    code = (
        "import sys; from ltbench.contract.registry import method_info, method_names, preset_names;"
        "[(method_info(name), preset_names(name)) for name in method_names()];"
        "assert not {'torch', 'timm'} & set(sys.modules), 'a method was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", method_names())
def test_what_is_read_is_what_the_class_says(name: str) -> None:
    assert method_info(name) == method_class(name).info
    assert preset_names(name) == list(presets(method_class(name)))
