"""Finished runs: lists, one in full, and two side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from ltbench.console.output import escape, new_table, open_console, print_json, say, tell
from ltbench.console.runs import print_metrics
from ltbench.metrics.intervals import REPLICATES
from ltbench.records.exports import Difference
from ltbench.records.record import RunRecord

if TYPE_CHECKING:
    from ltbench.runs.exchange import Exchanged
    from ltbench.runs.intervals import Estimate
    from ltbench.runs.verification import RunVerification

Intervals: TypeAlias = "Mapping[str, Mapping[str, Estimate]]"
"""Metric -> category or group -> a value with its intervals."""

LISTED = "image_auroc"
"""The metric that a list of runs shows."""


def print_problems(problems: Iterable[str]) -> None:
    """Print on standard error which records were left out."""
    for problem in problems:
        tell(f"left out: {problem}")


def print_runs(records: Iterable[RunRecord], as_json: bool) -> None:
    """Print a line a run."""
    rows = [_row(record) for record in records]
    if as_json:
        print_json({"runs": rows})
        return
    if not rows:
        say("no finished runs here")
        return
    table = new_table("run", "method", "preset", "split", "seed", "protocol", "image AUROC", "created")
    for row in rows:
        value = "–" if row["value"] is None else f"{100 * row['value']:.2f}"
        shown = (row["run"], row["method"], row["preset"], row["split"], str(row["seed"]), row["protocol"], value)
        table.add_row(*map(escape, shown), escape(row["created"].replace("T", " ").partition("+")[0]))
    open_console().print(table)


def _row(record: RunRecord) -> dict[str, Any]:
    spec = record.spec
    return {
        "run": spec.hash,
        "method": spec.method,
        "preset": record.preset,
        "split": spec.split,
        "seed": spec.seed,
        "protocol": spec.protocol.name,
        "value": record.metrics.get(LISTED, {}).get("avg"),
        "created": record.created,
    }


def print_run(record: RunRecord, as_json: bool, intervals: Intervals | None = None) -> None:
    """Print all of a run but its scores by image, and the intervals of its metrics if they are given."""
    values = record.to_json()
    values.pop("scores")
    if intervals is not None:
        values["intervals"] = {
            metric: {group: asdict(own) for group, own in groups.items()} for metric, groups in intervals.items()
        }
    if as_json:
        print_json(values)
        return
    console = open_console()
    spec = record.spec
    console.print(
        f"[bold]{escape(record.method.title)}[/bold] on {escape(spec.split)}, seed {spec.seed}, run {spec.hash}"
    )
    table = new_table("", "")
    rows = {
        "preset": record.preset,
        "protocol": spec.protocol.name,
        **{f"-p {name}": value for name, value in spec.parameters.items()},
        "seconds": ", ".join(f"{phase} {value:g}" for phase, value in record.seconds.items()),
        "peak memory, MiB": ", ".join(f"{phase} {value:.0f}" for phase, value in record.peak_memory_mib.items()),
        "created": record.created,
        "made of": _made_of(record),
        **{name: value for name, value in record.environment.items() if value is not None},
    }
    for name, value in rows.items():
        table.add_row(escape(str(name)), escape(str(value)))
    console.print(table)
    print_metrics(record, console)
    if intervals is not None:
        _print_intervals(record, intervals)


def _print_intervals(record: RunRecord, intervals: Intervals) -> None:
    """Print 95 % intervals by category and group in percent."""
    columns = [(metric, how) for metric in intervals for how in ("bootstrap", "delong")[: 1 + (metric == LISTED)]]
    titles = {"bootstrap": "", "delong": ", DeLong"}
    table = new_table("95 %", *(f"{metric.replace('_', ' ')}{titles[how]}" for metric, how in columns))
    for group in [*sorted(record.counts), "high", "low", "avg"]:
        if group == "high":
            table.add_section()
        ends = [getattr(intervals[metric].get(group), how, None) for metric, how in columns]
        told = ("–" if own is None else f"{100 * own.low:.2f}–{100 * own.high:.2f}" for own in ends)
        table.add_row(escape(group), *told)
    console = open_console()
    console.print(table)
    console.print(
        f"Percentiles of {REPLICATES} draws of the test images with replacement, good and anomalous ones apart, and "
        "each category of a mean by itself. The training is as it is: of other lists and seeds `ltbench table` tells. "
        "There are intervals of images, not of pixels, which a record does not keep.",
        highlight=False,
    )


def _made_of(record: RunRecord) -> str:
    """Return what a record says of its images, weights and code."""
    own = record.provenance
    if own is None:
        return "not recorded"
    weights = "".join(f", {name} {text[-64:][:12]}" for name, text in own["weights"].items())
    code = f"{own['package']} {own['version']}, code {own['source'][:12]}"
    return f"{own['files']} images and masks {own['images'][:12]}{weights}, {code}"


def print_differences(before: RunRecord, after: RunRecord, differences: Sequence[Difference], as_json: bool) -> None:
    """Print in what two runs differ."""
    if as_json:
        print_json({"differences": [asdict(difference) for difference in differences]})
        return
    if not differences:
        say("the runs are equal")
        return
    table = new_table("", before.spec.hash, after.spec.hash, "difference")
    for found in differences:
        both = isinstance(found.before, float) and isinstance(found.after, float)
        change = f"{100 * (found.after - found.before):+.2f}" if both and found.name.startswith("metrics.") else ""
        table.add_row(escape(found.name), *(escape(_text(value)) for value in (found.before, found.after)), change)
    open_console().print(table)


def print_verifications(found: Sequence[RunVerification], as_json: bool) -> None:
    """Print a line a run, what differs in it and what was not checked, and how many differ."""
    if as_json:
        print_json({"ok": all(one.ok for one in found), "runs": [asdict(one) | {"ok": one.ok} for one in found]})
        return
    for one in found:
        told = "; ".join(one.faults) or (f"ok: {', '.join(one.checked)}" if one.checked else "nothing to check")
        left = f"; not checked: {', '.join(one.unchecked)}" if one.unchecked else ""
        say(f"{one.run}  {'DIFFERS: ' if one.faults else ''}{told}{left}")
    say(f"{len(found)} verified, {sum(not one.ok for one in found)} with differences")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def print_exchanged(found: Exchanged, as_json: bool) -> None:
    """Print which runs were added, known already, or left alone since they are here with other numbers."""
    if as_json:
        print_json(asdict(found))
        return
    of = f", measured by {found.origin.by} ({found.origin.created})" if found.origin else ""
    say(f"{len(found.added)} runs added, {len(found.known)} known already{of}")
    for run in found.conflicts:
        say(f"left alone: run {run} is here with other numbers; `ltbench runs diff` compares two results")
