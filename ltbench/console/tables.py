"""What `ltbench compare` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ltbench.atomic import write_output
from ltbench.console.output import escape, new_table, open_console, print_json, say, write
from ltbench.errors import SpecError
from ltbench.render import Format, check_options, format_of, render
from ltbench.render.terminal import styled_lines
from ltbench.render.text import signed
from ltbench.tables.agreement import Agreement
from ltbench.tables.arrangement import Per
from ltbench.tables.cells import Table
from ltbench.tables.claims import Verdict

_COLOURS = {"agrees": "green", "differs": "red", "doubtful": "yellow"}


def chosen_format(form: Format | None, out: Path | None, per: Per | None, width: float | None) -> Format:
    """Return the format to print in: the one asked for, else what the file's name or standard output says.

    Raises:
        SpecError: the file's name says no format, or the format would pass over an option.
    """
    found = format_of(form, out, open_console().file.isatty())
    check_options(found, per, width)
    return found


def print_table(
    table: Table, form: Format, *, per: Per | None = None, width: float | None = None, out: Path | None = None
) -> None:
    """Print a table, or write it to a file and print its path.

    Args:
        table: the table.
        form: the format.
        per: whether each metric or split has a table of its own.
        width: columns of text, points of a LaTeX document's text.
        out: the file.

    Raises:
        DataError: the file cannot be written.
    """
    if out is not None:
        write_output(out, render(table, form, per=per, width=width).encode("utf-8"))
        say(out)
    elif form == "text":
        console = open_console()
        for line in styled_lines(table, per, console.width if width is None else int(width)):
            console.print(line, soft_wrap=True, highlight=False)
    else:
        write(render(table, form, per=per, width=width))


def print_agreements(found: Sequence[Agreement], tolerance: float, as_json: bool) -> None:
    """Print measured against published numbers, the largest differences first.

    Raises:
        SpecError: nothing that was measured is published.
    """
    if not found:
        raise SpecError(
            "Expected runs in the setting of a published table, got none. "
            "Make one, for example with `ltbench run -m patchcore -s mvtec_k4_noisy10_seed1 --preset tailedcore`."
        )
    ordered = sorted(found, key=lambda agreement: -abs(agreement.difference))
    if as_json:
        rows = [dataclasses.asdict(agreement) | {"difference": agreement.difference} for agreement in ordered]
        print_json({"tolerance": tolerance, "numbers": rows})
        return
    table = new_table(
        "table", "method", "split", "metric", "group", "measured", "over", "published", "difference", "", "note"
    )
    for row in ordered:
        colour = _COLOURS[row.status]
        table.add_row(
            row.layout, escape(row.method), escape(row.split), row.metric, row.group, f"{row.measured:.2f}",
            row.over, f"{row.published:.2f}", signed(row.difference), f"[{colour}]{row.status}[/{colour}]",
            escape(row.note),
        )  # fmt: skip
    console = open_console()
    console.print(table)
    counts = {status: sum(row.status == status for row in found) for status in _COLOURS}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    console.print(f"{len(found)} numbers are both measured and published: {told} (tolerance {tolerance:g} points).")


def print_verdicts(found: Sequence[Verdict], tolerance: float, as_json: bool) -> None:
    """Print what papers say of their tables, what their printed numbers give, and what runs give.

    Raises:
        SpecError: none of the tables has a claim.
    """
    if not found:
        raise SpecError("Expected a table of which its paper claims something, got none. Call it without a table.")
    words = {True: "holds", False: "does not hold", None: "not measured"}
    if as_json:
        rows = [dataclasses.asdict(verdict) | {"holds": verdict.holds(tolerance)} for verdict in found]
        print_json({"tolerance": tolerance, "claims": rows})
        return
    table = new_table("table", "claim", "stated", "by its table", "measured", "columns", "", "note")
    for verdict in found:
        claim = verdict.claim
        table.add_row(
            claim.layout, escape(claim.text), _number(claim.stated), _number(claim.recomputed),
            _number(verdict.measured), f"{verdict.columns} of {verdict.total}", words[verdict.holds(tolerance)],
            escape(" ".join(filter(None, (claim.flag, claim.note)))),
        )  # fmt: skip
    open_console().print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
