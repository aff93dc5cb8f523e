"""What the doctor found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from ltbench.console.output import escape, new_table, open_console, print_json
from ltbench.doctor import Finding


def print_findings(findings: Iterable[Finding], as_json: bool) -> bool:
    """Print what the doctor found; return whether nothing is a problem."""
    found: Sequence[Finding] = list(findings)
    if as_json:
        print_json(
            {"healthy": not any(f.is_problem for f in found), "findings": [dataclasses.asdict(f) for f in found]}
        )
    else:
        table = new_table("", "topic", "found", "what to do")
        for finding in found:
            mark = "[red]problem[/red]" if finding.is_problem else ("[yellow]note[/yellow]" if finding.remedy else "ok")
            table.add_row(mark, finding.topic, escape(finding.text), escape(finding.remedy))
        open_console().print(table)
    return not any(finding.is_problem for finding in found)
