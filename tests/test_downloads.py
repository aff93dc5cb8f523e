"""What a download shows on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ltbench.console.downloads import DownloadMeter


def test_lines_say_how_much_is_done_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with DownloadMeter(console=Console(file=stream)) as meter:
        meter.start("a.zip", 10_000_000, 110_000_000)
        for _ in range(25):
            clock[0] += 1
            meter.advance(2_000_000)
    assert stream.getvalue().splitlines() == [
        "a.zip: 30/110 MB, 2.0 MB/s, 40 s left",
        "a.zip: 50/110 MB, 2.0 MB/s, 30 s left",
    ]


def test_a_size_that_no_server_told_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with DownloadMeter(console=Console(file=stream)) as meter:
        meter.start("a.zip", 0, None)
        clock[0] = 10.0
        meter.advance(3_000_000)
    assert stream.getvalue() == "a.zip: 3 MB, 10 s\n"


def test_a_title_is_neither_markup_nor_steers_the_terminal() -> None:
    stream = io.StringIO()
    with DownloadMeter(console=Console(file=stream, force_terminal=True, width=100)) as meter:
        meter.start("x[/b]:smile:\u202e.tar.xz", 0, 10)
        meter.advance(10)
    assert r"x[/b]:smile:\u202e.tar.xz" in stream.getvalue()


def test_a_terminal_has_a_bar_and_a_quiet_meter_nothing() -> None:
    for quiet in (False, True):
        stream = io.StringIO()
        with DownloadMeter(console=Console(file=stream, force_terminal=True, width=100), quiet=quiet) as meter:
            meter.start("a.zip", 0, 10)
            meter.advance(10)
            meter.say("going on")
        assert ("a.zip" in stream.getvalue()) is not quiet
        assert ("going on" in stream.getvalue()) is not quiet
