"""Tables that are too wide: LaTeX at no less than 70 % of the type, measured by pdflatex, and text in a terminal."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from ltbench.errors import SpecError
from ltbench.render import format_of, render
from ltbench.render.fitting import broken
from ltbench.render.latex import SMALLEST
from ltbench.render.latex_text import escape_latex
from ltbench.render.letters import text_width
from ltbench.render.terminal import styled_lines
from ltbench.tables.arrangement import turned
from ltbench.tables.cells import Cell, Column, Placement, Table
from ltbench.tables.layouts import layouts
from ltbench.tables.paper import fill, table_of
from ltbench.tables.published import published_numbers

NEEDS_LATEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
METRICS = {"image_auroc": "Image AUROC", "pixel_auroc": "Pixel AUROC", "pixel_aupro_30": "Pixel AUPRO-30"}
GROUPS = {"high": "High", "low": "Low", "avg": "Avg"}


def _wide(splits: int, rows: int = 3, placement: Placement = "off") -> Table:
    """Splits of long names x three metrics x three groups, with deviations, marks and long titles of rows."""
    columns = tuple(
        Column(split, metric, group, (split, title, head))
        for split in (f"mvtec_step{100 + number}_noisy10_disjoint" for number in range(splits))
        for metric, title in METRICS.items()
        for group, head in GROUPS.items()
    )
    titles = ["PatchCore*", "TailedCore (tailedcore, coreset_ratio=0.1, neighbours=9, patch_size=3)", "WWWWMMMM"]
    cells = tuple(
        Cell(88.88, 10.55, 3, rank=place % 3, mark="a" * (place % 2), published=77.7, published_text="77.70")
        for place in range(len(columns))
    )
    notes = (("*", "told the category"), ("a", "over 2 lists"))
    return Table(columns, tuple((title, cells) for title in titles[:rows]), notes, "Caption.", placement, name="w")


def _compiled(folder: Path, body: str, width: int = 345) -> str:
    """Return what pdflatex says of a document, which has to compile."""
    head = rf"\documentclass{{article}}\usepackage{{booktabs,graphicx,xcolor}}\setlength{{\textwidth}}{{{width}pt}}"
    (folder / "t.tex").write_text(rf"{head}\begin{{document}}{body}\end{{document}}", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@NEEDS_LATEX
@pytest.mark.parametrize("width", [345, 496])
def test_latex_is_never_wider_than_the_text_nor_below_70_percent(tmp_path: Path, width: int) -> None:
    numbers = published_numbers()
    papers = [table_of(fill(layout, [], numbers), name=name) for name, layout in layouts().items()]
    tables = [_wide(1), _wide(4), _wide(2, placement="beside"), _wide(2, placement="below"), *papers]
    tables += [turned(own) for own in tables]
    text = "\n\\clearpage\n".join(render(own, "latex", width=width) for own in tables)
    assert not re.search(r"resizebox|\\tiny|\\scriptsize", text)
    scales = [float(found) for found in re.findall(r"\\scalebox\{([\d.]+)\}", text)]
    assert scales and min(scales) >= SMALLEST == 0.7
    assert "Overfull \\hbox" not in _compiled(tmp_path, text, width)


@NEEDS_LATEX
def test_widths_of_letters_are_those_of_latex(tmp_path: Path) -> None:
    texts = [
        "PatchCore",
        "95.50 ± 0.50",
        "Pixel AUPRO-30",
        "mvtec_step100_noisy10",
        "WinCLIP (shots=4)",
        "– (88.86, +0.10)",
    ]
    boxes = "".join(
        rf"\setbox0=\hbox{{{style}{escape_latex(text)}}}\typeout{{width=\the\wd0}}"
        for text in texts
        for style in ("", r"\bfseries ")
    )
    measured = [float(found) for found in re.findall(r"width=([\d.]+)pt", _compiled(tmp_path, boxes + "x"))]
    wanted = [text_width(text, is_bold=is_bold) for text in texts for is_bold in (False, True)]
    assert len(measured) == len(wanted)
    for own, real in zip(wanted, measured, strict=True):
        assert real <= own <= 1.3 * real


@pytest.mark.parametrize("form", ["latex", "text"])
def test_every_cell_is_in_one_part(form: str) -> None:
    table = _wide(4)
    numbered = tuple(
        (title, tuple(replace(cell, mean=float(10 * row + place), std=None) for place, cell in enumerate(cells)))
        for row, (title, cells) in enumerate(table.rows, start=1)
    )
    for own in (replace(table, rows=numbered), turned(replace(table, rows=numbered))):
        text = render(own, "latex" if form == "latex" else "text")
        found = Counter(re.findall(r"\d+\.\d\d", re.sub(r"\\scalebox\{.*?\}", "", text)))
        assert found == Counter(f"{cell.mean:.2f}" for _, cells in numbered for cell in cells)


def test_parts_are_of_splits_or_of_metrics_whichever_are_fewer() -> None:
    wide = render(_wide(2), "latex", width=900)
    assert re.findall(r"Part (\d) of (\d): ([^.]*)\.", wide) == [
        ("1", "2", r"mvtec\_step100\_noisy10\_disjoint"), ("2", "2", r"mvtec\_step101\_noisy10\_disjoint"),
    ]  # fmt: skip
    assert re.findall(r"\\label\{(.*?)\}", wide) == ["tab:w-1", "tab:w-2"]
    narrow = replace(_wide(2), columns=tuple(own for own in _wide(2).columns if own.metric != "pixel_aupro_30"))
    few = replace(narrow, rows=tuple((title, cells[:12]) for title, cells in _wide(2).rows))
    assert "Part" not in render(few, "latex", width=1000)
    metrics = re.findall(r"Part \d of 2: (.*?)\.", render(few, "latex", per="metric", width=900))
    assert metrics == ["Image AUROC", "Pixel AUROC"]


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_text_fits_the_terminal(columns: int) -> None:
    placements: tuple[Placement, ...] = ("off", "beside", "below")
    for table in (_wide(3, placement=own) for own in placements):
        for own in (table, turned(table)):
            lines = [line.plain for line in styled_lines(own, None, columns)]
            assert max(map(cell_len, lines)) <= columns


def test_headings_are_said_once_above_their_columns() -> None:
    lines = render(_wide(1, rows=1), "text", width=200).splitlines()
    assert [line.strip(" ─") for line in lines[:2]] == ["mvtec_step100_noisy10_disjoint", ""]
    assert lines[2].split() == ["Image", "AUROC", "Pixel", "AUROC", "Pixel", "AUPRO-30"]
    assert lines[4].split() == ["Method", *list(GROUPS.values()) * 3]
    assert lines[6].startswith("PatchCore*  88.88 ± 10.55")
    for head in ("High", "Low", "Avg"):
        assert lines[4].index(head) + len(head) <= len(lines[6])


def test_the_best_is_bold_and_the_second_underlined_on_a_terminal() -> None:
    lines = list(styled_lines(_wide(1, rows=1), None, 200))
    styles = [str(span.style) for span in lines[6].spans]
    assert styles == ["bold", "underline"] * 3


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("mvtec_step100_noisy10", 12, ["mvtec_", "step100_", "noisy10"]),
        ("mvtec_step100_noisy10", 30, ["mvtec_step100_noisy10"]),
        ("Pixel AUPRO-30", 3, ["Pixel", "AUPRO-30"]),
        ("Tail C_t", 1, ["Tail", "C_t"]),
        ("", 5, [""]),
        ("__", 1, ["__"]),
    ],
)
def test_texts_are_broken_where_they_may_be(text: str, width: int, lines: list[str]) -> None:
    assert broken(text, width, len) == lines


def test_the_format_is_the_files_or_the_terminals() -> None:
    assert format_of(None, None, True) == "text"
    assert format_of(None, None, False) == "markdown"
    assert format_of(None, Path("a.tex"), True) == "latex"
    assert format_of("csv", Path("a.tex"), True) == "csv"
    with pytest.raises(SpecError, match=r"\.md"):
        format_of(None, Path("a"), True)


def test_markdown_and_html_have_a_table_a_split() -> None:
    table = _wide(2)
    assert render(table, "markdown", per="split").count("| Method") == 2
    assert render(table, "html", per="metric").count("<table") == 3


def test_options_that_would_be_passed_over_are_refused() -> None:
    for form, options in (("csv", {"per": "metric"}), ("markdown", {"width": 80}), ("html", {"width": 80})):
        with pytest.raises(SpecError, match="Leave it out"):
            render(_wide(1), form, **options)  # type: ignore[arg-type]


def test_text_of_a_title_does_not_steer_the_terminal() -> None:
    table = replace(_wide(1), rows=(("a\x1b[31m\u202e漢字", _wide(1).rows[0][1]),), caption="x\x07")
    text = render(table, "text")
    assert not set(text) & set("\x1b\x07\u202e")
    assert "\\x1b[31m\\u202e漢字" in text.replace("\n", "") and "x\\x07" in text
