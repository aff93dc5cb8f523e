"""Tables as LaTeX for `booktabs`, ready to be pasted into a paper."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import Literal

from ltbench.render.fitting import Measured, Ruler, broken, fitting, measured
from ltbench.render.latex_text import escape_latex
from ltbench.render.letters import text_width
from ltbench.render.text import number, published, reasons
from ltbench.tables.arrangement import Per, numbered
from ltbench.tables.cells import Cell, Grid, Placement, Row, Table, spans

PAGE = 345.0
"""Width of the text of LaTeX's `article` at 10 points."""
SMALLEST = 0.7
"""Of the document's type size: what tables are scaled to at least; wider ones are broken into several."""
COLUMN_SEPARATION = 4.0
"""Points on either side of a column."""


def latex(table: Table, per: Per | None = None, width: float = PAGE) -> str:
    """Return a table as LaTeX floats: headings joined over their columns, published values in grey.

    What is wider than the text is scaled, but not below `SMALLEST`: a table that were smaller is broken into several.

    Args:
        table: the table.
        per: whether each metric or split has a float of its own.
        width: of the document's text in points, where its type has 10.
    """
    ruler = Ruler(text_width, partial(_cell_width, table.placement), 2 * COLUMN_SEPARATION, width / SMALLEST)
    return "\n".join(_float(part, ruler, width) for part in numbered(fitting(table, per, ruler)))


def _cell_width(placement: Placement, cell: Cell) -> float:
    own = text_width(number(cell), is_bold=cell.rank == 1) + text_width(cell.mark)
    printed = text_width(published(cell, str, str)) if placement != "off" else 0.0
    return max(own, printed) if placement == "below" else own + (text_width(" ") + printed) * (printed > 0)


def _float(table: Table, ruler: Ruler, width: float) -> str:
    grid = Grid.of(table)
    levels, sizes = grid.levels(), measured(grid, ruler)
    heads = [" & ".join(["", *_headings(level, sizes)]) + " \\\\" + _rules(level) for level in levels]
    heads[-1] = escape_latex(grid.corner) + heads[-1]
    lines = [line for row in grid.lines for line in _lines(row, table, sizes.title)]
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
    if sizes.total > width:
        scale = max(SMALLEST, math.floor(100 * width / sizes.total) / 100)
        tabular = [f"\\scalebox{{{scale:.2f}}}{{%", *tabular, "}"]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx,xcolor}",
            "\\begin{table}",
            f"\\centering\\setlength{{\\tabcolsep}}{{{COLUMN_SEPARATION:g}pt}}",
            f"\\setlength{{\\belowcaptionskip}}{{4pt}}\\caption{{{_caption(table.caption)}}}",
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


def _headings(level: Sequence[tuple[str, ...]], sizes: Measured) -> list[str]:
    headings, first = [], 0
    for text, count in spans(level):
        headings.append(rf"\multicolumn{{{count}}}{{c}}{{{_stacked(text, sizes.span(first, count), 'b', 'c')}}}")
        first += count
    return headings


def _stacked(text: str, width: float, aligned: Literal["b", "t"], column: Literal["c", "l"]) -> str:
    """Return a text in as many lines as it needs to be no wider than said; it stands on its last or first line."""
    lines = broken(text, width, text_width)
    if len(lines) == 1:
        return _caption(text)
    stack = r" \\ ".join(map(_caption, lines))
    return rf"\begin{{tabular}}[{aligned}]{{@{{}}{column}@{{}}}}{stack}\end{{tabular}}"


def _rules(level: Sequence[tuple[str, ...]]) -> str:
    """Return a rule below each heading that spans several columns; column 1 is the row's title."""
    rules, first = "", 2
    for _, width in spans(level):
        rules += rf" \cmidrule(lr){{{first}-{first + width - 1}}}" if width > 1 else ""
        first += width
    return rules


def _lines(row: Row, table: Table, width: float) -> list[str]:
    title, cells = _stacked(row[0], width, "t", "l"), row[1]
    grey = [_grey(cell) if table.placement != "off" else "" for cell in cells]
    if table.placement == "below" and any(grey):
        lines = [[title, *map(_measured, cells)], ["\\addlinespace[-2pt]", *grey]]
    else:
        texts = [" ".join(filter(None, [_measured(cell), own])) for cell, own in zip(cells, grey, strict=True)]
        lines = [[title, *texts]]
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
