"""Outcomes of runs and their diagnostics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ltbench.console.output import escape, new_table, open_console, percent, print_json, say
from ltbench.records.record import RunRecord
from ltbench.runs.runner import Outcome


def print_outcome(outcome: Outcome, as_json: bool) -> None:
    """Print a run's metrics by category and group."""
    record = outcome.record
    if as_json:
        print_json(
            {
                "run": str(outcome.folder),
                "reused": outcome.reused,
                "metrics": record.metrics,
                "missing": record.missing,
                "seconds": record.seconds,
                "learning_curve": record.notes.get("learning_curve", []),
            }
        )
        return
    console = open_console()
    print_metrics(record, console)
    _print_where(outcome, console)


def print_metrics(record: RunRecord, console: Console) -> None:
    """Print metrics by category and group in percent, and why some have no value."""
    metrics = list(record.metrics)
    table = new_table("", *(escape(metric.replace("_", " ")) for metric in metrics))
    groups = [*sorted(record.counts), "high", "low", "avg"]
    for group in groups:
        if group == "high":
            table.add_section()
        values = [record.metrics[metric].get(group) for metric in metrics]
        table.add_row(escape(group), *("–" if value is None else f"{100 * value:.2f}" for value in values))
    spec = record.spec
    console.print(
        escape(f"{record.method.title} on {spec.split}, protocol {spec.protocol.name}, percent"), highlight=False
    )
    console.print(table)
    for reason in sorted({reason for own in record.missing.values() for reason in own.values()}):
        places = sorted(place for metric in record.missing for place in _places(record, metric, reason, groups))
        console.print(f"no value ({escape(reason)}): {escape(', '.join(places))}", highlight=False)
    if points := record.notes.get("learning_curve"):
        curve = new_table("after epoch", *(escape(metric.replace("_", " ")) for metric in metrics))
        for point in points:
            averages = (point["metrics"].get(metric, {}).get("avg") for metric in metrics)
            curve.add_row(str(point["epoch"]), *("–" if value is None else f"{100 * value:.2f}" for value in averages))
        console.print("learning curve, Avg (the last epoch is what counts)")
        console.print(curve)


def _places(record: RunRecord, metric: str, reason: str, groups: Sequence[str]) -> list[str]:
    """Return where a metric is missing for a reason: its name alone if everywhere, else with each group."""
    lacking = [group for group, own in record.missing[metric].items() if own == reason]
    return [metric] if set(lacking) >= set(groups) else [f"{metric} {group}" for group in lacking]


def _print_where(outcome: Outcome, console: Console) -> None:
    seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in outcome.record.seconds.items())
    memory = max(outcome.record.peak_memory_mib.values(), default=0.0)
    state = "found, not repeated (--force repeats it)" if outcome.reused else f"{seconds}; peak memory {memory:.0f} MiB"
    console.print(state, highlight=False)
    say(outcome.folder)


def print_diagnostics(diagnostics: dict[str, Any], as_json: bool) -> None:
    """Print how right a method was about its training images."""
    if as_json:
        print_json(diagnostics)
        return
    console = open_console()
    if "tails" in diagnostics:
        tails = diagnostics["tails"]
        rates = ", ".join(f"{name} {percent(tails[name])}" for name in ("recall", "precision"))
        console.print(f"tail images: {tails['true']}, predicted {tails['predicted']}: {rates}", highlight=False)
        table = new_table("category", "true size", "predicted: median", "minimum", "maximum")
        for category, size in diagnostics["sizes"].items():
            columns = ("true", "predicted_median", "predicted_min", "predicted_max")
            table.add_row(escape(category), *(f"{size[column]:g}" for column in columns))
        console.print(table)
    if "supports" in diagnostics:
        table = new_table("category", "support", "is")
        for category, images in diagnostics["supports"].items():
            for image in images:
                table.add_row(*(escape(text) for text in (category, image["path"], image["role"])))
        console.print(table)
    for name, memory in diagnostics.get("memories", {}).items():
        table = new_table(f"{name} memory", "images", "patches kept", "share", "an image")
        for role, kept in memory.items():
            each = "–" if kept["patches_per_image"] is None else f"{kept['patches_per_image']:.1f}"
            table.add_row(role, str(kept["images"]), str(kept["patches"]), percent(kept["share"]), each)
        console.print(table)
