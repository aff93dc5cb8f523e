"""Tables as text: what each format prints, that foreign text stays text, and that LaTeX compiles."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest

from ltbench.method import MethodInfo
from ltbench.records.record import RunRecord
from ltbench.render import Format, render
from ltbench.render.latex_text import escape_latex
from ltbench.render.markdown import escape_markdown
from ltbench.tables.cells import Cell, Column, Placement, Table
from ltbench.tables.comparison import make_table
from ltbench.tables.layouts import layouts
from ltbench.tables.measurements import measure
from ltbench.tables.paper import fill, table_of
from ltbench.tables.published import published_numbers

MakeRecord = Callable[..., RunRecord]
IMAGE = ("image_auroc",)
HOSTILE = MethodInfo("evil", r"A_b & <script>|100% $x$ \textbf{y} ~^# é 漢 \"q\"")
FORMULA = MethodInfo("formula", '=HYPERLINK("http://x","y")')
FORMATS: tuple[Format, ...] = get_args(Format)


def _table(records: Sequence[RunRecord], metrics: Sequence[str] = ("image_auroc", "pixel_auroc"), **more: Any) -> Table:
    return make_table(measure(records, metrics), metrics=metrics, **more)


def _beside(placement: Placement) -> Table:
    """A table with every kind of cell: measured and published, only one of them, neither, and flagged."""
    cells = (
        Cell(95.5, 0.5, 3, rank=1, published=95.0, published_text="95.00", published_mark="a"),
        Cell(None, reason="not run", published=81.25, published_text="81.25"),
        Cell(None, reason="failed: no <memory>", published_text="N/A", published_mark="b"),
        Cell(70.0, rank=2, mark="c"),
    )
    columns = tuple(Column(f"s_{split}", "image_auroc", "avg", (f"s_{split}", "Det")) for split in "wxyz")
    notes = (("a", "odd & <b>"), ("b", "needs 2"), ("c", "own draw"))
    return Table(columns, (("M_1", cells),), notes, "Caption C_t & more.", placement, name="a_b")


def test_foreign_text_is_escaped(make_record: MakeRecord) -> None:
    table = _table([make_record("evil", info=HOSTILE)], IMAGE)
    markdown = render(table, "markdown")
    assert "<script>" not in markdown
    assert "&lt;script&gt;\\|100%" in markdown
    assert r"A\_b \& \textless{}script\textgreater{}" in render(table, "latex")
    assert "é {[}U+6F22]" in render(table, "latex"), "what pdflatex cannot set is told by its code point"
    page = render(table, "html")
    assert "<script>" not in page and "A_b &amp; &lt;script&gt;" in page
    assert escape_latex("a\\b") == r"a\textbackslash{}b"
    assert escape_markdown("a*b") == r"a\*b"
    assert escape_markdown("_a_b c_d_") == r"\_a_b c_d\_"


def test_a_title_that_is_a_formula_stays_text(make_record: MakeRecord) -> None:
    text = render(_table([make_record("formula", info=FORMULA)], IMAGE), "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["method"] == f"'{FORMULA.title}"
    assert row["mean"] == "90.0000", "numbers keep their signs"


def test_markdown(make_record: MakeRecord) -> None:
    records = [make_record("a", values={"image_auroc": 0.9}), make_record("b", values={"image_auroc": 0.81234})]
    lines = render(_table(records, IMAGE), "markdown").splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["Method", "mvtec_step100"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["A", "**90.00**"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["B", "<u>81.23</u>"]


@pytest.mark.parametrize(
    ("placement", "first", "second"),
    [
        ("off", "**95.50 ± 0.50**", "–"),
        ("beside", "**95.50 ± 0.50** (95.00<sup>a</sup>, +0.50)", "– (81.25)"),
        ("below", "**95.50 ± 0.50**<br>(95.00<sup>a</sup>, +0.50)", "–<br>(81.25)"),
    ],
)
def test_markdown_places_published_values(placement: Placement, first: str, second: str) -> None:
    text = render(_beside(placement), "markdown")
    cells = [cell.strip() for cell in text.splitlines()[2].split("|")[2:-1]]
    assert cells[:2] == [first, second]
    assert cells[3] == "<u>70.00</u><sup>c</sup>"
    assert "No value (not run): M_1 in s_x; " not in text
    assert "No value (failed: no &lt;memory&gt;): M_1 in s_y." in text


def test_csv_has_a_row_a_cell(make_record: MakeRecord) -> None:
    records = [make_record(), make_record(seed=1, values={"image_auroc": 0.8})]
    rows = list(csv.DictReader(io.StringIO(render(_table(records), "csv"))))
    assert [row["metric"] for row in rows] == ["image_auroc", "pixel_auroc"]
    assert (rows[0]["mean"], rows[0]["std"], rows[0]["seeds"], rows[0]["rank"]) == ("85.0000", "7.0711", "2", "1")
    assert rows[0]["runs"].split() == sorted(record.spec.hash for record in records)
    assert (rows[1]["mean"], rows[1]["reason"]) == ("", "not computed")
    printed = list(csv.DictReader(io.StringIO(render(_beside("off"), "csv"))))
    assert [row["published"] for row in printed] == ["95.00", "81.25", "N/A", ""]
    assert printed[0]["difference"] == "0.5000"
    assert [row["note"] for row in printed] == ["odd & <b>", "", "needs 2", "own draw"]


def test_latex_joins_headings(make_record: MakeRecord) -> None:
    text = render(_table([make_record(), make_record(split="mvtec_exp100")], group="all"), "latex")
    assert text.count(r"\multicolumn{6}{c}") == 2
    assert text.count(r"\multicolumn{3}{c}{Image AUROC}") == 2
    assert text.count(r"\multicolumn{1}{c}{High}") == 4
    single = render(_table([make_record()], IMAGE), "latex")
    assert "Method & " in single
    assert single.count(r"\multicolumn") == 1, "levels that say nothing are left out"
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_methods_across_are_the_same_cells_turned() -> None:
    layout = layouts()["ltad-3"]
    table = table_of(fill(layout, [], published_numbers()), name="ltad-3")
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    lines = render(table, "markdown").splitlines()
    heads = [cell.strip() for cell in lines[0].split("|")[1:-1]]
    assert heads[:3] == ["Training set", "Cut&amp;Paste Det", "Cut&amp;Paste Seg"]
    assert len(heads) == 1 + 10 * 2
    for line, split in zip(lines[2:6], ("exp100", "exp200", "step100", "step200"), strict=True):
        title, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert title == split
        printed = [row["published"] for row in rows if row["split"] == f"mvtec_{split}"]
        assert len(cells) == len(printed) == 20
        for value, cell in zip(printed, cells, strict=True):
            assert f"({value}" in cell if value else "(" not in cell, (
                "a row that the paper does not print has no number"
            )


class _Shape(HTMLParser):
    """The width of each row of a table in columns, and every attribute of a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []
        self.scopes: list[str] = []
        self.rows_spanned = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "tr":
            self.widths.append(int(self.rows_spanned > 0))
            self.rows_spanned = max(0, self.rows_spanned - 1)
        if tag in ("td", "th"):
            self.widths[-1] += int(values.get("colspan") or 1)
        if tag == "th":
            self.scopes.append(values["scope"] or "")
            self.rows_spanned += int(values.get("rowspan") or 1) - 1


@pytest.mark.parametrize("name", ["ltad-3", "ltad-6", "ltad-9", "tailedcore-1"])
def test_html_rows_are_as_wide_as_one_another(name: str) -> None:
    table = table_of(fill(layouts()[name], [], published_numbers()), name=name)
    shape = _Shape()
    shape.feed(render(table, "html"))
    assert len(set(shape.widths)) == 1, shape.widths
    assert set(shape.scopes) <= {"row", "col", "colgroup"}


def test_html_says_why_a_cell_is_empty() -> None:
    page = render(_beside("below"), "html")
    assert 'aria-label="no value: failed: no &lt;memory&gt;"' in page
    assert '<br><span class="published">(95.00<sup>a</sup>, +0.50)</span>' in page
    assert "odd &amp; &lt;b&gt;" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path, make_record: MakeRecord) -> None:
    records = [
        make_record("evil", info=HOSTILE),
        make_record("b", seed=1),
        make_record("b", missing={"pixel_auroc": "a_b"}),
    ]
    tables = [_table(records, group="all"), _beside("beside"), _beside("below")]
    numbers = published_numbers()
    for place, (name, layout) in enumerate(layouts().items()):
        placement: Placement = ("beside", "below", "off")[place % 3]
        tables.append(table_of(fill(layout, measure(records, IMAGE), numbers), placement=placement, name=name))
    body = "\n\\clearpage\n".join(render(table, "latex") for table in tables)
    packages = r"\usepackage{booktabs,graphicx,xcolor}"
    (tmp_path / "t.tex").write_text(rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    pages = re.search(r"\((\d+) pages", done.stdout)
    assert pages and int(pages[1]) >= len(tables), "a table that is broken between its columns may take two"


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_table_is_the_same_text(form: Format, make_record: MakeRecord) -> None:
    records = [make_record(name, seed=seed) for name in "ab" for seed in range(3)]
    assert render(_table(records), form) == render(_table(records[::-1]), form)
