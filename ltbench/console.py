"""What commands print: rich tables for people, one JSON object for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ltbench.checks import CheckResult
from ltbench.core import Split
from ltbench.datasets.index import DatasetSource
from ltbench.datasets.verify import Verification
from ltbench.doctor import Finding
from ltbench.method import MethodInfo
from ltbench.parameters import hyper_parameters, plain, resolve
from ltbench.registry import choose_preset, method_class, method_names, presets
from ltbench.runner import Outcome
from ltbench.splits.noise import shortfalls

WIDTH = 120
"""Columns of a table where the width of the terminal is unknown."""


def print_json(value: object) -> None:
    """Print one JSON object."""
    print(json.dumps(value, indent=1, allow_nan=False))


def print_datasets(sources: Iterable[DatasetSource], as_json: bool) -> None:
    """Print what is known of each dataset."""
    if as_json:
        names = ("name", "title", "licence", "citation", "homepage", "layout")
        print_json({source.name: {name: getattr(source, name) for name in names} for source in sources})
        return
    console = _console()
    for source in sources:
        table = Table.grid(padding=(0, 2))
        for label, text in (
            ("licence", source.licence),
            ("cite", source.citation),
            ("from", source.homepage),
            ("layout", source.layout),
        ):
            table.add_row(f"  {label}", escape(text))
        console.print(f"[bold]{escape(source.name)}[/bold]  {escape(source.title)}")
        console.print(table)
    console.print("\nAny other folder in MVTec layout is a dataset too: pass its parent as --data-root.")


def print_verification(name: str, root: Path, verification: Verification, as_json: bool) -> None:
    """Print the files that are missing, extra or unreadable."""
    kinds = ("missing", "extra", "unreadable", "miscounted")
    files = {kind: list(getattr(verification, kind)) for kind in kinds}
    if as_json:
        print_json({"dataset": name, "root": str(root), "ok": verification.ok, **files})
        return
    for kind in kinds:
        for file in files[kind]:
            print(f"{kind}: {file}")
    counts = ", ".join(f"{len(files[kind])} {kind}" for kind in kinds if files[kind])
    print(f"{name} in {root}: {'complete' if verification.ok else counts}")


def print_split(path: Path, split: Split) -> None:
    """Print where a split was written and what it holds."""
    counts = split.counts.values()
    normal, contaminant = (sum(count[role] for count in counts) for role in ("normal", "contaminant"))
    text = f"{path}: {normal} normal, {contaminant} contaminants; {len(split.high)} high, {len(split.low)} low"
    print("; ".join([text, *shortfalls(split)]))


def print_differences(differences: Sequence[str]) -> bool:
    """Print in what split files differ from their recipes; return whether in nothing."""
    for difference in differences:
        print(difference)
    if not differences:
        print("every file is what its recipe gives")
    return not differences


def print_methods(as_json: bool) -> None:
    """Print every method with its privileges and presets."""
    infos = [(method_class(name).info, list(presets(method_class(name)))) for name in method_names()]
    if as_json:
        print_json({info.name: dataclasses.asdict(info) | {"presets": names} for info, names in infos})
        return
    table = _table("name", "title", "paper", "privileges", "presets")
    for info, names in infos:
        table.add_row(info.name, info.title, info.paper or "", ", ".join(_privileges(info)), ", ".join(names))
    _console().print(table)


def print_method(name: str, preset: str | None, as_json: bool) -> None:
    """Print one method: paper, privileges, hyper-parameters, presets, number of trainable parameters."""
    method = method_class(name)
    values = plain(resolve(method, choose_preset(method, preset, "").parameters))
    known = presets(method)
    rows = [
        {
            "name": parameter.name,
            "type": parameter.type_name,
            "default": plain({"default": parameter.default})["default"],
            "value": values[parameter.name],
            "description": parameter.description,
        }
        for parameter in hyper_parameters(method)
    ]
    trainable = getattr(method(**resolve(method, values)), "trainable_parameters", 0)
    if as_json:
        described = {found.name: dataclasses.asdict(found) for found in known.values()}
        print_json(
            dataclasses.asdict(method.info)
            | {"preset": preset, "hyper_parameters": rows, "presets": described, "trainable_parameters": trainable}
        )
        return
    console = _console()
    info = method.info
    console.print(f"[bold]{escape(info.title)}[/bold] ({info.name})  paper: {info.paper or 'none'}")
    console.print(f"privileges: {', '.join(_privileges(info)) or 'none'}; trainable parameters: {trainable:,}")
    table = _table("hyper-parameter", "type", preset or "default", "meaning")
    for row in rows:
        table.add_row(*(escape(str(row[key])) for key in ("name", "type", "value", "description")))
    console.print(table)
    for found in known.values():
        settings = ", ".join(f"{key}={value}" for key, value in found.parameters.items()) or "the defaults"
        protocol = f", protocol {found.protocol}" if found.protocol else ""
        default = f"; taken for {', '.join(found.splits)}" if found.splits else ""
        text = f"{found.description} ({settings}{protocol}{default})"
        console.print(f"preset [bold]{escape(found.name)}[/bold]: {escape(text)}")


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
            }
        )
        return
    metrics = list(record.metrics)
    table = _table("", *(metric.replace("_", " ") for metric in metrics))
    groups = [*sorted(record.counts), "high", "low", "avg"]
    for group in groups:
        if group == "high":
            table.add_section()
        values = [record.metrics[metric].get(group) for metric in metrics]
        table.add_row(escape(group), *("–" if value is None else f"{100 * value:.2f}" for value in values))
    console = _console()
    console.print(f"{record.method.title} on {record.spec.split}, protocol {record.spec.protocol.name}, percent")
    console.print(table)
    reasons = {
        reason: sorted(
            f"{metric} {group}"
            for metric in record.missing
            for group, r in record.missing[metric].items()
            if r == reason
        )
        for reason in sorted({reason for groups in record.missing.values() for reason in groups.values()})
    }
    for reason, places in reasons.items():
        console.print(f"no value ({escape(reason)}): {escape(', '.join(places))}", highlight=False)
    _print_where(outcome, console)


def _print_where(outcome: Outcome, console: Console) -> None:
    seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in outcome.record.seconds.items())
    memory = max(outcome.record.peak_memory_mib.values(), default=0.0)
    state = "found, not repeated (--force repeats it)" if outcome.reused else f"{seconds}; peak memory {memory:.0f} MiB"
    console.print(state, highlight=False)
    console.print(str(outcome.folder), highlight=False, markup=False, soft_wrap=True)


def print_diagnostics(diagnostics: dict[str, Any], as_json: bool) -> None:
    """Print how right a method was about its training images."""
    if as_json:
        print_json(diagnostics)
        return
    console = _console()
    if "tails" in diagnostics:
        tails = diagnostics["tails"]
        rates = ", ".join(f"{name} {_percent(tails[name])}" for name in ("recall", "precision"))
        console.print(f"tail images: {tails['true']}, predicted {tails['predicted']}: {rates}", highlight=False)
        table = _table("category", "true size", "predicted: median", "minimum", "maximum")
        for category, size in diagnostics["sizes"].items():
            columns = ("true", "predicted_median", "predicted_min", "predicted_max")
            table.add_row(escape(category), *(f"{size[column]:g}" for column in columns))
        console.print(table)
    for name, memory in diagnostics.get("memories", {}).items():
        table = _table(f"{name} memory", "images", "patches kept", "share", "an image")
        for role, kept in memory.items():
            each = "–" if kept["patches_per_image"] is None else f"{kept['patches_per_image']:.1f}"
            table.add_row(role, str(kept["images"]), str(kept["patches"]), _percent(kept["share"]), each)
        console.print(table)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def print_checks(results: Iterable[CheckResult], as_json: bool) -> bool:
    """Print each check as it ends; return whether all passed."""
    done: list[CheckResult] = []
    for result in results:
        done.append(result)
        if not as_json:
            print(f"{'ok    ' if result.passed else 'BROKEN'} {result.check.replace('_', ' ')}", end="")
            print("" if result.passed else f": {result.reason}", flush=True)
    if as_json:
        print_json({result.check: {"passed": result.passed, "reason": result.reason} for result in done})
    return all(result.passed for result in done)


def print_findings(findings: Iterable[Finding], as_json: bool) -> bool:
    """Print what the doctor found; return whether nothing is a problem."""
    found: Sequence[Finding] = list(findings)
    if as_json:
        print_json(
            {"healthy": not any(f.is_problem for f in found), "findings": [dataclasses.asdict(f) for f in found]}
        )
    else:
        table = _table("", "topic", "found", "what to do")
        for finding in found:
            mark = "[red]problem[/red]" if finding.is_problem else ("[yellow]note[/yellow]" if finding.remedy else "ok")
            table.add_row(mark, finding.topic, escape(finding.text), escape(finding.remedy))
        _console().print(table)
    return not any(finding.is_problem for finding in found)


def _privileges(info: MethodInfo) -> list[str]:
    return [name for name in ("uses_categories", "is_transductive") if getattr(info, name)]


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=max(WIDTH, console.width), soft_wrap=False)


def _table(*headings: str, **options: Any) -> Table:
    table = Table(box=None, pad_edge=False, **options)
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    return table
