"""Tables as LaTeX for `booktabs`, ready to be pasted into a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ltbench.render.latex_text import escape_latex
from ltbench.render.text import number, published, reasons
from ltbench.tables.cells import Cell, Grid, Row, Table, spans

WIDE = 8
"""Columns above which a table is scaled to the width of the text."""


def latex(table: Table) -> str:
    """Return a table as a LaTeX float: headings joined over their columns, published values in grey."""
    grid = Grid.of(table)
    levels = grid.levels()
    heads = [" & ".join(["", *_headings(level)]) + " \\\\" + _rules(level) for level in levels]
    heads[-1] = escape_latex(grid.corner) + heads[-1]
    lines = [line for row in grid.lines for line in _lines(row, table)]
    notes = [f"{_raised(mark)} {escape_latex(note)}." for mark, note in table.notes]
    notes += [escape_latex(sentence) for sentence in reasons(table)]
    tabular = [
        f"\\begin{{tabular}}{{l{'r' * len(grid.heads)}}}",
        "\\toprule",
        *heads,
        "\\midrule",
        *lines,
        "\\bottomrule",
        "\\end{tabular}",
    ]
    if len(grid.heads) > WIDE:
        tabular = ["\\resizebox{\\textwidth}{!}{%", *tabular, "}"]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx,xcolor}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_caption(table.caption)}}}",
            f"\\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', table.name)}}}",
            *tabular,
            *([f"\\par\\smallskip\\parbox{{\\textwidth}}{{\\footnotesize {' '.join(notes)}}}"] if notes else []),
            "\\end{table}",
            "",
        ]
    )


def _caption(text: str) -> str:
    """Return a caption, in which C_t and C_h are subscripts."""
    return re.sub(r"C\\_([a-z])\b", r"$C_\1$", escape_latex(text))


def _headings(level: Sequence[tuple[str, ...]]) -> list[str]:
    return [rf"\multicolumn{{{width}}}{{c}}{{{_caption(text)}}}" for text, width in spans(level)]


def _rules(level: Sequence[tuple[str, ...]]) -> str:
    """Return a rule below each heading that spans several columns; column 1 is the row's title."""
    rules, first = "", 2
    for _, width in spans(level):
        rules += rf" \cmidrule(lr){{{first}-{first + width - 1}}}" if width > 1 else ""
        first += width
    return rules


def _lines(row: Row, table: Table) -> list[str]:
    title, cells = row
    grey = [_grey(cell) if table.placement != "off" else "" for cell in cells]
    if table.placement == "below" and any(grey):
        lines = [[escape_latex(title), *map(_measured, cells)], ["\\addlinespace[-2pt]", *grey]]
    else:
        texts = [" ".join(filter(None, [_measured(cell), own])) for cell, own in zip(cells, grey, strict=True)]
        lines = [[escape_latex(title), *texts]]
    return [" & ".join(line) + " \\\\" for line in lines]


def _measured(cell: Cell) -> str:
    style = {1: r"\textbf{%s}", 2: r"\underline{%s}"}.get(cell.rank, "%s")
    text = number(cell)
    return style % escape_latex(text) + _raised(cell.mark)


def _grey(cell: Cell) -> str:
    text = published(cell, _raised, escape_latex)
    return rf"\textcolor{{gray}}{{{text}}}" if text else ""


def _raised(mark: str) -> str:
    return rf"\textsuperscript{{{escape_latex(mark)}}}" if mark else ""
