"""Plans, sweeps on their way, and where they stand."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ltbench.console.output import escape, new_table, open_console, print_json, say
from ltbench.executors.cells import Cell
from ltbench.executors.interface import Command, Ended, Event, Said, Started
from ltbench.runs.progress import Position
from ltbench.sweeps.plan import STATES, PlannedCell, SweepPlan
from ltbench.sweeps.status import CellStatus, Status

REFRESH_SECONDS = 2.0
SHOWN = 20
"""Cells that a table of running or failed ones shows at most."""


def print_plan(plan: SweepPlan, workers: int, as_json: bool) -> None:
    """Print what a sweep consists of, as one JSON object with every cell if `as_json`.

    Args:
        plan: the plan.
        workers: how many cells will run at a time.
        as_json: print JSON.
    """
    if not as_json:
        _print_plan(open_console(), plan, workers, plan.to_run())
        return
    to_run = plan.to_run()
    known = [cell.seconds for cell in to_run if cell.seconds is not None]
    cells = [{**asdict(each.cell), "state": each.state, "reason": each.reason} for each in plan.cells]
    counts = {state: len(plan.of(state)) for state in STATES}
    seconds = sum(known) / workers if known else None
    estimate = {"to_run": len(to_run), "seconds": seconds, "unknown": len(to_run) - len(known)}
    told = {"counts": counts, "estimate": estimate, "problems": list(plan.problems), "cells": cells}
    print_json({**told, "remarks": list(plan.remarks)})


def _print_plan(console: Console, plan: SweepPlan, workers: int, to_run: Sequence[Cell]) -> None:
    """Print the states by method and settings, the reasons, and the expected time."""
    console.print(_plan_table(plan.cells))
    _print_reasons(console, plan.cells)
    for remark in plan.remarks:
        console.print(escape(remark), highlight=False)
    known = [cell.seconds for cell in to_run if cell.seconds is not None]
    text = f"{len(to_run)} to run"
    if known:
        text += f": about {duration(sum(known) / workers)}" + (f" with {workers} at a time" if workers > 1 else "")
    if len(known) < len(to_run):
        text += f"; no finished run tells the time of {len(to_run) - len(known)}"
    console.print(text, highlight=False)


def _plan_table(cells: Sequence[PlannedCell]) -> RenderableType:
    rows: dict[tuple[str, str], Counter[str]] = {}
    for planned in cells:
        cell = planned.cell
        settings = [cell.preset or "", *(f"{name}={value}" for name, value in cell.parameters.items())]
        key = (cell.method, ", ".join(filter(None, [*settings, cell.protocol or ""])))
        rows.setdefault(key, Counter())[planned.state] += 1
    shown = [state for state in STATES if any(count[state] for count in rows.values())]
    table = new_table("method", "settings", *shown)
    for (method, text), count in rows.items():
        table.add_row(escape(method), escape(text), *(str(count[state]) if count[state] else "" for state in shown))
    return table


def _print_reasons(console: Console, cells: Sequence[PlannedCell]) -> None:
    reasons: dict[tuple[str, str], list[Cell]] = {}
    for planned in cells:
        if planned.reason and planned.state != "running":
            reasons.setdefault((planned.state, planned.reason), []).append(planned.cell)
    for (state, reason), found in reasons.items():
        which = found[0].title + (f" and {len(found) - 1} more" if len(found) > 1 else "")
        label = "to be repeated" if state == "waiting" else state
        console.print(f"[bold]{label}[/bold]: {escape(which)}: {escape(reason)}", highlight=False)


class SweepView:
    """Shows the events of a sweep: a bar on a terminal, a line for each cell elsewhere; commands on standard output.

    Args:
        total: how many cells are to be run.
        quiet: show nothing but commands.
    """

    def __init__(self, total: int, *, quiet: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[dict[str, Any]] = []
        self.commands: list[str] = []
        self._total, self._quiet = total, quiet
        self._console = open_console(stderr=True, quiet=quiet)
        self._start = time.monotonic()
        self._running: dict[str, str] = {}

    def print_plan(self, plan: SweepPlan, workers: int, to_run: Sequence[Cell]) -> None:
        """Print what is going to be run."""
        _print_plan(self._console, plan, workers, to_run)

    def show(self, events: Iterable[Event]) -> None:
        """Follow a sweep to its end."""
        if self._quiet or not self._console.is_terminal:
            for event in events:
                self._take(event)
            return
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=self._total)
            for event in events:
                self._take(event)
                text = f"{self._left()}  {'; '.join(sorted(self._running.values()))}"
                bar.update(task, completed=self.counts.total(), description=escape(text))

    def _take(self, event: Event) -> None:
        if isinstance(event, Started):
            self._running[event.cell.run] = f"{event.cell.title} in {event.place}"
        elif isinstance(event, Said):
            self._say(event.text)
        elif isinstance(event, Command):
            self.commands.append(event.text)
            if not self._quiet:
                say(event.text)
        elif isinstance(event, Ended):
            self._end(event)

    def _end(self, event: Ended) -> None:
        report = event.report
        self._running.pop(event.cell.run, None)
        self.counts[report.state] += 1
        if report.state == "failed":
            self.failed.append({"run": report.run, "title": event.cell.title, "reason": report.reason})
        text = {"done": f"done in {duration(report.seconds)}", "found": "found done"}.get(report.state, report.state)
        reason = f": {report.reason}" if report.reason else ""
        left = self._left()
        self._say(f"{self.counts.total()}/{self._total} {event.cell.title}: {text}{reason}{left and f', {left}'}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _left(self) -> str:
        done = self.counts.total()
        if not done or done == self._total:
            return ""
        return f"{duration((time.monotonic() - self._start) / done * (self._total - done))} left"


def print_end(plan: SweepPlan, view: SweepView, as_json: bool, *, retried: bool, repeated: bool) -> bool:
    """Print what came of a sweep; return whether nothing failed or could not be run.

    Args:
        plan: the plan that was run.
        view: what was seen of it.
        as_json: print one JSON object.
        retried: cells that had failed before were run again.
        repeated: cells that were stale were run again.
    """
    before = [] if retried else plan.of("failed")
    failed = [
        *view.failed,
        *({"run": each.cell.run, "title": each.cell.title, "reason": each.reason} for each in before),
    ]
    counts = {
        "done": view.counts["done"],
        "found": len(plan.of("done")) + view.counts["found"],
        "stale": 0 if repeated else len(plan.of("stale")),
        "failed": len(failed),
        "not applicable": len(plan.of("not applicable")),
        "blocked": len(plan.of("blocked")),
    }
    if as_json:
        print_json({"counts": counts, "failed": failed, "commands": view.commands})
    elif not view.commands:
        console = open_console(stderr=True)
        console.print(", ".join(f"{count} {state}" for state, count in counts.items() if count), highlight=False)
        if failed:
            console.print("`ltbench status` gives the reasons, `ltbench sweep ... --retry-failed` tries them again")
        if counts["stale"]:
            console.print("`ltbench sweep ... --retry-stale` repeats runs whose images, weights or code have changed")
    return not failed and not counts["blocked"] and not counts["stale"]


def print_status(status: Status, as_json: bool, *, watch: bool) -> bool:
    """Print where the sweeps stand, once or until nothing is left to wait for; return whether nothing failed."""
    cells = status.cells()
    if as_json:
        counts = Counter(cell.state for cell in cells)
        listed = [asdict(cell) for cell in cells]
        print_json({"counts": {state: counts[state] for state in STATES if counts[state]}, "cells": listed})
    elif not watch:
        open_console().print(_status_view(cells))
    else:
        with Live(_status_view(cells), console=open_console(), auto_refresh=False) as live:
            while any(cell.state in ("running", "waiting") for cell in cells):
                time.sleep(REFRESH_SECONDS)
                cells = status.cells()
                live.update(_status_view(cells), refresh=True)
    return not any(cell.state == "failed" for cell in cells)


def _status_view(cells: Sequence[CellStatus]) -> RenderableType:
    by_state: Mapping[str, list[CellStatus]] = {
        state: [cell for cell in cells if cell.state == state] for state in STATES
    }
    shown: list[RenderableType] = []
    if running := by_state["running"]:
        table = new_table("running", "where", "phase", "so far", "left")
        for cell in running[:SHOWN]:
            left = "" if cell.left is None else duration(cell.left)
            table.add_row(
                escape(cell.title), escape(cell.reason), escape(_phase(cell.position)), duration(cell.elapsed), left
            )
        shown.append(table)
    if failed := by_state["failed"]:
        table = new_table("failed", "reason")
        for cell in failed[:SHOWN]:
            table.add_row(escape(cell.title), escape(cell.reason))
        shown.append(table)
    if stale := by_state["stale"]:
        table = new_table("stale", "what has changed since")
        for cell in stale[:SHOWN]:
            table.add_row(escape(cell.title), escape(cell.reason))
        shown.append(table)
    shown += [f"damaged, to be repeated: {escape(cell.title)}" for cell in by_state["waiting"] if cell.reason]
    counts = [f"{len(by_state[state])} {state}" for state in STATES if by_state[state]]
    known = [cell.left for cell in cells if cell.left is not None]
    work = f"; about {duration(sum(known))} of work left" if known else ""
    shown.append(f"{', '.join(counts)}{work}" if counts else "no sweep, and nothing runs or failed here")
    return Group(*shown)


def _phase(position: Position | None) -> str:
    if position is None or not position.title:
        return "starting"
    if not position.total:
        return position.title
    rate = (time.time() - position.since) / position.done if position.done else None
    left = f", {duration(rate * (position.total - position.done))} left" if rate is not None else ""
    return f"{position.title} {position.done}/{position.total}{left}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: "0.4 s", "42 s", "12 min", "3 h 20 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
