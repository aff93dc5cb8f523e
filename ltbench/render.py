"""Tables as text: Markdown, LaTeX (booktabs) and CSV. No arithmetic takes place here."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Literal

from tabulate import tabulate

from ltbench.tables import GROUP_TITLES, METRIC_TITLES, Cell, Table

Format = Literal["markdown", "latex", "csv"]


def render(table: Table, form: Format) -> str:
    """Return the table as text in one of the formats."""
    renderers: dict[Format, Callable[[Table], str]] = {"markdown": _markdown, "latex": _latex, "csv": _csv}
    return renderers[form](table)


def escape_latex(text: str) -> str:
    """Return text with LaTeX's special characters made literal."""
    special = {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "|": r"\textbar{}"},
    }
    return "".join(special.get(character, character) for character in text)


def escape_markdown(text: str) -> str:
    """Return text that Markdown and HTML print as it is, inside a table cell."""
    escaped = re.sub(r"([\\`*{}\[\]|]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)  # a_b is literal without a backslash
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _number(cell: Cell) -> str:
    return f"{cell.mean:.2f}" + (f" ± {cell.std:.2f}" if cell.std is not None else "")


def _markdown(table: Table) -> str:
    def text(cell: Cell) -> str:
        if cell.mean is None:
            return "–"
        style = {1: "**{}**", 2: "<u>{}</u>"}.get(cell.rank, "{}")
        return style.format(_number(cell))

    headers = ["Method", *(escape_markdown(column.title(table)) for column in table.columns)]
    rows = [[escape_markdown(title), *map(text, cells)] for title, cells in table.rows]
    align = ["left", *["right"] * len(table.columns)]
    body = tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
    notes = [f"{escape_markdown(mark)} {escape_markdown(note)}" for mark, note in table.notes]
    return "\n\n".join([body, escape_markdown(table.caption), *notes, *_reasons(table, escape_markdown)]) + "\n"


def _latex(table: Table) -> str:
    def text(cell: Cell) -> str:
        if cell.mean is None:
            return "--"
        style = {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(cell.rank, "%s")
        return style % _number(cell).replace("±", r"$\pm$")

    levels = [[column.split for column in table.columns]]
    if len(table.metrics) > 1:
        levels.append([f"{column.split}\0{METRIC_TITLES[column.metric]}" for column in table.columns])
    if len(table.groups) > 1:
        levels.append([f"{column}\0{GROUP_TITLES[column.group]}" for column in table.columns])
    heads = [" & ".join(["", *_spans(level)]) + " \\\\" + _rules(level) for level in levels]
    heads[-1] = "Method" + heads[-1]
    lines = [" & ".join([escape_latex(title), *map(text, cells)]) for title, cells in table.rows]
    notes = [f"{escape_latex(mark)} {escape_latex(note)}." for mark, note in table.notes]
    notes += _reasons(table, escape_latex)
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{escape_latex(table.caption)}}}",
            f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            "\\toprule",
            *heads,
            "\\midrule",
            *(f"{line} \\\\" for line in lines),
            "\\bottomrule",
            "\\end{tabular}",
            *([f"\\par\\smallskip\\footnotesize {' '.join(notes)}"] if notes else []),
            "\\end{table}",
            "",
        ]
    )


def _spans(titles: Sequence[str]) -> list[str]:
    """Return LaTeX headings in which equal neighbours are joined; what stands before a NUL only tells them apart."""
    return [
        rf"\multicolumn{{{len(list(group))}}}{{c}}{{{escape_latex(title.split(chr(0))[-1])}}}"
        for title, group in groupby(titles)
    ]


def _rules(titles: Sequence[str]) -> str:
    """Return a rule below each heading that spans several columns; column 1 is the method's."""
    rules, first = "", 2
    for _, group in groupby(titles):
        width = len(list(group))
        rules += rf" \cmidrule(lr){{{first}-{first + width - 1}}}" if width > 1 else ""
        first += width
    return rules


def _reasons(table: Table, escape: Callable[[str], str]) -> list[str]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for title, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            if cell.mean is None:
                reasons[cell.reason].append(f"{title}, {column.title(table)}")
    return [escape(f"No value ({reason}): {'; '.join(places)}.") for reason, places in reasons.items()]


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "split", "metric", "group", "mean", "std", "seeds", "rank", "reason"])
    for title, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            mean = "" if cell.mean is None else f"{cell.mean:.4f}"
            std = "" if cell.std is None else f"{cell.std:.4f}"
            writer.writerow(
                [title, column.split, column.metric, column.group, mean, std, cell.count, cell.rank or "", cell.reason]
            )
    return out.getvalue()
