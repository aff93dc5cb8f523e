"""Executors by name; printed commands; Slurm's options, and its path through submitit without Slurm."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from ltbench.contract.registry import method_class
from ltbench.doctor import _executors
from ltbench.errors import LtbenchError, SpecError, UnknownNameError
from ltbench.executors import interface
from ltbench.executors.cells import Cell, Settings
from ltbench.executors.interface import Command, executor_clashes, executor_names, make_executor
from ltbench.executors.shell import Print
from ltbench.executors.slurm import Resources, Slurm, minutes
from ltbench.records.record import read_records
from tests.sweeps.conftest import Home


def test_the_suite_has_its_executors() -> None:
    assert executor_names() == ["local", "print", "slurm"]
    for name in executor_names():
        assert type(make_executor(name, {})).__doc__


def test_a_package_may_announce_an_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", "ltbench.executors.shell:Print", interface.GROUP)
    monkeypatch.setattr(interface, "entry_points", lambda group: [entry] if group == interface.GROUP else [])
    assert "mine" in executor_names()
    assert isinstance(make_executor("mine", {"command": "x"}), Print)


def test_executors_of_one_name_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite's own keeps its name; of two others none is taken, which is an error for whoever asks for it."""
    targets = {"local": ("x:Y",), "mine": ("a:B", "c:D"), "other": ("ltbench.executors.shell:Print",) * 2}
    entries = [EntryPoint(name, value, interface.GROUP) for name, values in targets.items() for value in values]
    monkeypatch.setattr(interface, "entry_points", lambda group: entries)
    assert executor_names() == ["local", "other", "print", "slurm"]
    assert type(make_executor("local", {})).__name__ == "Local"
    with pytest.raises(LtbenchError, match="Expected one executor named 'mine', got a:B and c:D"):
        make_executor("mine", {})
    assert list(executor_clashes()) == ["local", "mine"]
    assert [finding.text for finding in _executors()] == [
        "local of another package is left out",
        "mine of another package is left out",
    ]


def test_a_package_that_fails_to_import_is_an_error_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_executor.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("mine", "broken_executor:X", interface.GROUP)
    monkeypatch.setattr(interface, "entry_points", lambda group: [entry])
    with pytest.raises(LtbenchError, match="Expected executor 'mine' to import, got ZeroDivisionError"):
        make_executor("mine", {})


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("slrm", {}, UnknownNameError, "Did you mean 'slurm'"),
        ("slurm", {"partitoin": "x"}, UnknownNameError, "Did you mean 'partition'"),
        ("local", {"workers": 0}, SpecError, "workers"),
        ("slurm", {"time": "soon"}, SpecError, "90min"),
        ("slurm", {"memory": "much"}, SpecError, "memory"),
        ("slurm", {"methods": {"ltad": {"gpu": 1}}}, SpecError, r"methods\.ltad\.gpu"),
    ],
)
def test_wrong_names_and_options_are_told(
    name: str, options: dict[str, Any], error: type[LtbenchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_executor(name, options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        (90, 90),
        ("90min", 90),
        ("4h", 240),
        ("2d", 2880),
        ("12:00", 720),
        ("0:00:01", 1),
        ("1-02:30:00", 1590),
    ],
)
def test_times(text: str | int, expected: int) -> None:
    assert minutes(text) == expected


def test_a_method_may_ask_for_more() -> None:
    slurm = Slurm(partition="cpu", time="1h", methods={"ltad": Resources(time="2d", gpus=1)})
    assert slurm._resources("patchcore") == Resources(partition="cpu", time="1h")
    assert slurm._resources("ltad") == Resources(partition="cpu", time="2d", gpus=1)


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LtbenchError, match="login node"):
        list(Slurm().execute([Cell("0", "m", "parts_full")], Settings(tmp_path)))


def test_a_printed_command_is_quoted(tmp_path: Path) -> None:
    cell = Cell("0", "m", "/a b/s.json", "offline", {"layers": [2, 3], "text": "it's"}, "ltad", 3)
    (event,) = Print(command="srun ltbench").execute([cell], Settings(tmp_path / "r", tmp_path / "data", "cuda:1"))
    assert isinstance(event, Command)
    words = shlex.split(event.text)
    assert words[:3] == ["srun", "ltbench", "run"]
    assert {"/a b/s.json", "layers=[2, 3]", 'text="it\'s"', str(tmp_path / "data"), "cuda:1", "ltad"} <= set(words)


def _hashes(home: Home) -> set[str]:
    records, problems = read_records(home.results)
    assert problems == []
    return {record.spec.hash for record in records}


def _planned(home: Home, grid: Sequence[str]) -> set[str]:
    return {cell["run"] for cell in json.loads(home.run("plan", *grid, "--json")[1])["cells"]}


def test_printed_commands_run_the_planned_runs(home: Home) -> None:
    grid = ("-m", "counted", "-s", "parts_full", "-p", "smoothing_sigma=1,2.5", "--protocol", "ltad")
    code, out, err = home.run("sweep", *grid, "--executor", "print")
    assert code == 0
    assert "2 to run" in err
    lines = out.splitlines()
    assert len(lines) == 2
    assert home.executions == []
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "ltbench"
        at = words.index("--results")
        assert home.run(*words[1:at], *words[at + 2 :])[0] == 0
    assert _hashes(home) == _planned(home, grid)


def test_slurm_through_submitit_without_slurm(home: Home) -> None:
    grid = ("-m", "counted,fails", "-s", "parts_full,parts_step2", "--seeds", "0-1")
    (home.folder / "broken").touch()
    slurm = ("--executor", "slurm", "-x", "cluster=local", "-x", "cells_per_job=4")
    code, _, err = home.run("sweep", *grid, *slurm)
    assert code == 1
    assert err.count("the file is there") == 4
    assert len(_hashes(home)) == 4
    (home.folder / "broken").unlink()
    assert home.run("sweep", *grid, *slurm, "--retry-failed")[0] == 0
    assert _hashes(home) == _planned(home, grid)
    assert len(home.executions) == 12


def test_every_method_names_its_backbone_alike() -> None:
    """Sweeps know by these names which runs read the same features; see `FEATURES` in `ltbench.sweeps.plan`."""
    for name in ("patchcore", "softpatch", "padim", "tailedcore"):
        fields = method_class(name).__dataclass_fields__  # type: ignore[attr-defined]
        assert {"backbone", "weights", "layers"} <= set(fields)
