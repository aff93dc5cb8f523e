"""What commands print: results alone on standard output, and nothing that steers a terminal on either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltbench.console import output
from ltbench.runs.progress import ConsoleProgress
from tests.conftest import Run

STEERING = "a\x1b[31mb\u202ec\udcff"
TOLD = r"a\x1b[31mb\u202ec\udcff"


def test_what_others_print_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with output.keeping_stdout():
        print("from a method")
        output.print_json({"a": 1})
        output.say("a line")
        output.open_console().print("[bold]a table[/bold]")
    print("afterwards")
    out, err = capsys.readouterr()
    assert out == '{\n "a": 1\n}\na line\na table\nafterwards\n'
    assert err == "from a method\n"


def test_every_way_to_print_makes_text_visible(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(STEERING)
    output.tell(STEERING)
    output.open_console().print(output.escape(STEERING))
    table = output.new_table("name")
    table.add_row(STEERING)
    output.open_console().print(table)
    ConsoleProgress().say(STEERING)
    out, err = capsys.readouterr()
    assert out.count(TOLD) == 3 and err.count(TOLD) == 2
    assert "\x1b" not in out + err and "\u202e" not in out + err


def test_a_long_message_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.tell("x" * 10**6)
    assert len(capsys.readouterr().err) < 5000


def _ltbench(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ltbench.cli", *arguments]
    return subprocess.run(command, capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_any_name_is_told_on_any_terminal() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = _ltbench("runs", "show", "\udcff\u202eé", "--json", env=environment)
    assert done.returncode == 2
    assert rb"\udcff\u202e\xe9" in done.stderr and b"Traceback" not in done.stderr
    done = _ltbench("datasets", env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ltbench.cli", "datasets", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1 and b"No space left on device" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "-m", "mean_image", "-s", "parts_full", "--preset", ""],
        ["run", "-m", "mean_image", "-s", ""],
        ["runs", "--results", " "],
        ["runs", "show", ""],
        ["table", "--metric", ""],
        ["report", "--out", ""],
        ["make-splits", ""],
        ["plan", "--methods", "", "--splits", "mvtec_full"],
    ],
)
def test_an_empty_value_is_an_error(ltbench: Run, arguments: list[str]) -> None:
    code, out, err = ltbench(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("ltbench: Expected a value for ") and err.count("\n") == 1
    assert not list(Path().iterdir())


@pytest.mark.parametrize("arguments", [[STEERING], ["run", f"--{STEERING}"], ["run", "--seed", STEERING]])
def test_usage_errors_only_show(ltbench: Run, arguments: list[str]) -> None:
    code, _, err = ltbench(*arguments)
    assert code == 2
    assert "\x1b" not in err and "\u202e" not in err
