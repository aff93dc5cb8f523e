"""What the documents promise is so."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ltbench.cli.app import app
from ltbench.contract import registry
from ltbench.contract.checks import CHECKS, run_check
from ltbench.contract.registry import method_class, method_names
from ltbench.contract.subject import Subject
from ltbench.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parent.parent


def test_the_example_method_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "methods" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "example_mean_colour.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_targets", lambda: {"mean_colour": "example_mean_colour"})
    subject = Subject(registry.method_class("mean_colour"))
    assert [result for check in CHECKS if not (result := run_check(check, subject)).passed] == []


def test_the_example_has_25_lines() -> None:
    text = (ROOT / "methods" / "README.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"@dataclass\n(class MeanColour:.*?)\nMETHOD", text, re.DOTALL)
    assert len([line for line in body.splitlines() if line.strip()]) <= 25


def test_sections_of_ltad_are_sections_that_it_has() -> None:
    """The paper's section 4 has no numbered parts."""
    cited = {
        (file.name, section)
        for folder in ("ltbench", "methods", "docs")
        for file in (ROOT / folder).rglob("*.*")
        if file.suffix in (".py", ".md", ".yaml")
        for section in re.findall(r"LTAD[^.\n]*, section (4\.\d)", file.read_text(encoding="utf-8"))
    }
    assert cited == set()


@pytest.mark.parametrize("name", method_names())
def test_the_readme_of_a_family_tells_of_each_method(name: str) -> None:
    family = Path(inspect.getfile(method_class(name))).parent
    text = (family / "README.md").read_text(encoding="utf-8")
    assert family.name == name or f"`{name}`" in text


DOCUMENTS = [
    "README.md",
    "methods/README.md",
    "CONTRIBUTING.md",
    *(f"docs/{file.name}" for file in ROOT.glob("docs/*.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    commands = {
        str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback
    }
    commands |= {str(group.name) for group in app.registered_groups}
    named = set(re.findall(r"^    ltbench ([a-z-]+)", text, re.MULTILINE))
    assert named <= commands


def test_options_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    groups = {str(group.name) for group in app.registered_groups}
    for line in re.findall(r"^    ltbench ([a-z-]+ .*)$", text, re.MULTILINE):
        command = line.split()[: 2 if line.split()[0] in groups else 1]
        done = subprocess.run(
            [sys.executable, "-m", "ltbench.cli", *command, "--help"], capture_output=True, text=True, check=True
        )
        for option in re.findall(r"--[a-z-]+", line):
            assert option in done.stdout, f"{option} of `ltbench {' '.join(command)}`"


def test_the_layers_in_the_documents_are_those_enforced() -> None:
    config = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    enforced = re.search(r"layers =\n((?:    .+\n)+)", config)
    assert enforced
    assert enforced[1] in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_every_protocol_is_told_of(name: str) -> None:
    assert name in (ROOT / "ltbench" / "cli" / "options.py").read_text(encoding="utf-8")
