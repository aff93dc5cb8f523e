"""Titles and names of any characters: every format shows them, LaTeX compiles them, and none steers a terminal."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltbench.figures.categories import draw_categories
from ltbench.figures.style import as_bytes
from ltbench.foreign import inert, visible
from ltbench.method import MethodInfo
from ltbench.records.exports import export, metric_rows, score_rows
from ltbench.records.record import RunRecord
from ltbench.render import Format, render
from ltbench.render.latex_text import escape_latex
from ltbench.report.page import make_page
from ltbench.tables.cells import Cell, Column, Table

MakeRecord = Callable[..., RunRecord]

STEERING = "a\x1b[31mb\x07\r\n\u202eevil\u2066\u200b\udcff\x9b2J"
"""Colours, a bell, line ends, marks that turn the writing round, a byte that is no UTF-8, and a one-byte CSI."""

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1+1")

needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")


def _table(texts: Sequence[str]) -> Table:
    """A table in which each text is the title of a row, and one is a heading, the caption, a note and a reason."""
    heads = {"x": texts[-1], "y": "y"}
    columns = tuple(Column(f"s{side}", "image_auroc", "avg", (text, "Det")) for side, text in heads.items())
    rows = tuple((text, (Cell(1.0, rank=1, mark="a"), Cell(None, reason=texts[0]))) for text in texts)
    return Table(columns, rows, (("a", texts[-1]),), texts[0], "off", name="hostile")


def _compile(tables: Sequence[Table]) -> str:
    """Compile tables and return the log."""
    body = "\n\\clearpage\n".join(render(table, "latex") for table in tables)
    source = (
        r"\documentclass{article}\usepackage{booktabs,graphicx,xcolor}\tracinglostchars=2"
        rf"\begin{{document}}{body}\end{{document}}"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "t.tex").write_text(source, encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-3000:]
    assert f"({len(tables)} page" in log.replace("\n", "")
    return log


def _is_shown(text: str) -> bool:
    return all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


@given(st.text())
def test_visible_text_only_shows(text: str) -> None:
    shown = visible(text)
    assert _is_shown(shown)
    assert visible(shown) == shown
    shown.encode("utf-8")


def test_what_is_visible_stays_and_what_steers_is_told() -> None:
    assert visible("Größe α 漢 – é 1\u202f000") == "Größe α 漢 – é 1\u202f000"
    assert visible("a\x1bb\nc\u202ed\udcff") == r"a\x1bb\nc\u202ed\udcff"


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "html"])
def test_no_format_steers_a_terminal(form: Format) -> None:
    text = render(_table([STEERING, "plain", STEERING]), form)
    assert all(map(_is_shown, text.splitlines())), text
    assert "\x85" not in text and "\u2028" not in text
    assert "evil" in text


@needs_latex
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(st.characters(exclude_categories=()), min_size=1, max_size=12), min_size=30, max_size=40))
def test_latex_compiles_with_any_titles(texts: list[str]) -> None:
    assert "Missing character" not in _compile([_table(texts)])


@needs_latex
def test_latex_compiles_with_every_letter_in_front_of_a_row() -> None:
    """A row that begins with `[`, `*` or `(` belongs to no command before it; letters with accents can be set."""
    codes = [*range(0x250), *range(0x370, 0x400), *range(0x1E00, 0x1F00), *range(0x2010, 0x2040), 0x6F22, 0x1F600]
    texts = [chr(code) + "x" for code in codes]
    pages = [texts[start : start + 45] for start in range(0, len(texts), 45)]
    assert "Missing character" not in _compile([_table(page) for page in pages])


def test_greek_letters_and_accents_come_out_as_such() -> None:
    assert escape_latex("β-VAE Ω Α ά") == (
        r"\ensuremath{\beta}-VAE \ensuremath{\Omega} \ensuremath{\mathrm{A}} \ensuremath{\acute{\alpha}}"
    )
    assert escape_latex("Dvořák, Erdős, Şahin, ı") == r"Dvo\v{r}ák, Erd\H{o}s, \c{S}ahin, \i{}"
    assert escape_latex("e\u0301") == "é", "a letter in two parts, as macOS names files"
    assert escape_latex("[a] * -- 漢") == "{[}a] {*} -{}- {[}U+6F22]"


@pytest.mark.parametrize("text", FORMULAS)
def test_no_csv_holds_a_formula(text: str, make_record: MakeRecord, tmp_path: Path) -> None:
    """One guard for tables, exported metrics and exported scores."""
    assert inert(text).startswith("'") and inert(f"a{text}") == visible(f"a{text}")
    record = replace(
        make_record("m", info=MethodInfo("m", text), missing={"pixel_auroc": text}),
        preset=text,
        scores={text: [{"path": text, "defect_type": text, "score": -0.5}]},
    )
    written = [render(_table([text, text]), "csv")]
    for number, rows in enumerate((metric_rows([record]), score_rows([record]))):
        export(rows, tmp_path / f"{number}.csv")
        written.append((tmp_path / f"{number}.csv").read_text(encoding="utf-8"))
    for content in written:
        cells = [cell for row in csv.reader(io.StringIO(content)) for cell in row]
        found = [cell for cell in cells if cell.strip(" ").startswith(tuple("=+-@\t\r"))]
        assert found in ([], ["-0.5"]), "numbers keep their signs, and nothing else begins like a formula"
        assert visible(f"'{text}") in cells


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_figures_of_any_titles_are_drawn(suffix: str, make_record: MakeRecord) -> None:
    titles = (STEERING, "漢字 😀 $x^2$ </svg>")
    infos = [MethodInfo(f"m{number}", title) for number, title in enumerate(titles)]
    records = [make_record(info.name, "parts_step4", info=info) for info in infos]
    content = as_bytes(draw_categories(records, "image_auroc"), suffix)
    assert len(content) > 1000
    if suffix == ".svg":
        ElementTree.fromstring(content)


def test_a_report_of_any_titles_is_written(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record("m", "parts_step4", info=MethodInfo("m", STEERING), missing={"pixel_auroc": STEERING})
    page = make_page([record], tmp_path, title=STEERING)
    assert all(_is_shown(line) for line in page.splitlines())
    script = page[page.index("<script") :]
    assert not re.search(r"(?<!\\)\\u202e", script), "no escape that the script turns into the mark again"
