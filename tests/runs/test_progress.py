"""Progress passes items through, counts seconds, and says how long is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ltbench.method import NoProgress
from ltbench.runs import progress
from ltbench.runs.progress import ConsoleProgress


def test_items_pass_through_everywhere() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    for shown in (NoProgress(), ConsoleProgress(quiet=True), ConsoleProgress(terminal)):
        assert list(shown.track(iter("abc"), "x", 3)) == ["a", "b", "c"]


def test_plain_lines_say_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0)
    out = io.StringIO()
    shown = ConsoleProgress(Console(file=out, width=200))
    with shown.stage("predict bolt 1/2"):
        assert list(shown.track([1, 2, 3], "features")) == [1, 2, 3]
    lines = out.getvalue().splitlines()
    assert lines[-1].startswith("predict bolt 1/2: features: 2/3, ")
    assert lines[-1].endswith(" s left")


def test_only_the_outer_loop_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0)
    out = io.StringIO()
    shown = ConsoleProgress(Console(file=out, width=200))
    for _ in shown.track([1, 2], "outer"):
        assert list(shown.track([1, 2], "inner")) == [1, 2]
    assert "inner" not in out.getvalue()


def test_seconds_add_up() -> None:
    shown = ConsoleProgress(quiet=True)
    for _ in range(2):
        with shown.timed("features"):
            pass
    assert list(shown.seconds) == ["features"]
    assert 0 <= shown.seconds["features"] < 1
