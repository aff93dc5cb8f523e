"""Tables: which runs share a cell, what is best, what is missing and why; and their text in each format."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.errors import SpecError, UnknownNameError
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.records import RunRecord
from ltbench.render import escape_latex, escape_markdown, render
from ltbench.tables import Cell, Table, make_table

MakeRecord = Callable[..., RunRecord]
IMAGE = ("image_auroc",)


def _cells(table: Table) -> dict[str, tuple[Cell, ...]]:
    return dict(table.rows)


def test_seeds_of_method_and_split_share_a_cell(make_record: MakeRecord) -> None:
    records = [
        make_record(values={"image_auroc": 0.80}),
        make_record(values={"image_auroc": 0.90}, seed=1),
        make_record(values={"image_auroc": 0.85}, split="mvtec_step100_seed4"),
    ]
    (cell,) = _cells(make_table(records, metrics=IMAGE))["M"]
    assert cell.mean == pytest.approx(85)
    assert cell.std == pytest.approx(5)  # the sample standard deviation of 80, 90, 85
    assert cell.count == 3


def test_one_seed_has_no_deviation(make_record: MakeRecord) -> None:
    (cell,) = _cells(make_table([make_record()], metrics=IMAGE))["M"]
    assert (cell.mean, cell.std, cell.count) == (90, None, 1)


def test_two_versions_of_a_split_are_not_averaged(make_record: MakeRecord) -> None:
    records = [make_record(), make_record(split_sha256="1" * 64)]
    with pytest.raises(SpecError, match="splits differ"):
        make_table(records, metrics=IMAGE)


def test_best_and_second_are_marked_and_ties_share(make_record: MakeRecord) -> None:
    records = [
        make_record(name, values={"image_auroc": value})
        for name, value in zip("abcd", (0.9, 0.8, 0.9, 0.7), strict=True)
    ]
    ranks = {title: cells[0].rank for title, cells in make_table(records, metrics=IMAGE).rows}
    assert ranks == {"A": 1, "B": 2, "C": 1, "D": 0}


def test_what_is_missing_says_why(make_record: MakeRecord) -> None:
    records = [
        make_record("a", split="x_full"),
        make_record("b", split="x_step10", values={"image_auroc": 0.5}, missing={"pixel_auroc": "no masks"}),
    ]
    table = make_table(records)
    assert [column.split for column in table.columns] == ["x_full", "x_full", "x_step10", "x_step10"]
    assert [cell.reason for cell in _cells(table)["B"]] == ["not run", "not run", "", "no masks"]
    text = render(table, "markdown")
    assert "No value (no masks): B, x_step10 Pixel AUROC." in text
    assert "No value (not run)" in text


def test_variants_of_a_method_name_what_differs(make_record: MakeRecord) -> None:
    records = [make_record(parameters={"ratio": ratio, "k": 1}) for ratio in (0.1, 0.01)]
    assert sorted(_cells(make_table(records, metrics=IMAGE))) == ["M (ratio=0.01)", "M (ratio=0.1)"]


def test_odd_protocols_and_privileges_have_footnotes(make_record: MakeRecord) -> None:
    told = MethodInfo("c", "C", uses_categories=True)
    records = [
        make_record("a"),
        make_record("b"),
        make_record("c", info=told),
        make_record("d", protocol=PROTOCOLS["rlr"]),
    ]
    table = make_table(records, metrics=IMAGE)
    assert [title for title, _ in table.rows] == ["A", "B", "C*", "D**"]
    assert table.notes == (("*", "told the category of every image"), ("**", "protocol rlr"))
    assert "protocol common" in table.caption


def test_groups_metrics_and_filters(make_record: MakeRecord) -> None:
    records = [make_record(split="mvtec_step100"), make_record(split="visa_exp20"), make_record(split="visa_exp100")]
    table = make_table(records, dataset="visa", metrics=IMAGE, group="all")
    assert [(column.split, column.group) for column in table.columns] == [
        (split, group) for split in ("visa_exp20", "visa_exp100") for group in ("high", "low", "avg")
    ]
    only = make_table(records, splits=["mvtec_step100_seed3"], metrics=IMAGE)
    assert [column.split for column in only.columns] == ["mvtec_step100"]


def test_wrong_names_are_refused(make_record: MakeRecord) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'image_auroc'"):
        make_table([make_record()], metrics=["image_aucroc"])
    with pytest.raises(UnknownNameError, match="mvtec_step100"):
        make_table([make_record()], splits=["mvtec_step10"])
    with pytest.raises(SpecError, match="ltbench run"):
        make_table([])


HOSTILE = MethodInfo("evil", r"A_b & <script>|100% $x$ \textbf{y} ~^#")


def test_text_is_escaped(make_record: MakeRecord) -> None:
    table = make_table([make_record("evil", info=HOSTILE)], metrics=IMAGE)
    markdown = render(table, "markdown")
    assert "<script>" not in markdown
    assert "&lt;script&gt;\\|100%" in markdown
    assert r"A\_b \& \textless{}script\textgreater{}" in render(table, "latex")
    assert escape_latex("a\\b") == r"a\textbackslash{}b"
    assert escape_markdown("a*b") == r"a\*b"
    assert escape_markdown("_a_b c_d_") == r"\_a_b c_d\_"


def test_markdown(make_record: MakeRecord) -> None:
    records = [make_record("a", values={"image_auroc": 0.9}), make_record("b", values={"image_auroc": 0.81234})]
    lines = render(make_table(records, metrics=IMAGE), "markdown").splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["Method", "mvtec_step100"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["A", "**90.00**"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["B", "<u>81.23</u>"]


def test_csv_has_a_row_a_cell(make_record: MakeRecord) -> None:
    records = [make_record(), make_record(seed=1, values={"image_auroc": 0.8})]
    rows = list(csv.DictReader(io.StringIO(render(make_table(records), "csv"))))
    assert [row["metric"] for row in rows] == ["image_auroc", "pixel_auroc"]
    assert (rows[0]["mean"], rows[0]["std"], rows[0]["seeds"], rows[0]["rank"]) == ("85.0000", "7.0711", "2", "1")
    assert rows[1]["mean"] == ""
    assert rows[1]["reason"] == "not computed"


def test_latex_joins_headings(make_record: MakeRecord) -> None:
    text = render(make_table([make_record(), make_record(split="mvtec_exp100")], group="all"), "latex")
    assert text.count(r"\multicolumn{6}{c}") == 2
    assert text.count(r"\multicolumn{3}{c}{Image AUROC}") == 2
    assert text.count(r"\multicolumn{1}{c}{High}") == 4
    single = render(make_table([make_record()], metrics=IMAGE), "latex")
    assert "Method & " in single
    assert single.count(r"\multicolumn") == 1, "levels that say nothing are left out"
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path, make_record: MakeRecord) -> None:
    records = [
        make_record("evil", info=HOSTILE),
        make_record("b", seed=1),
        make_record("b", missing={"pixel_auroc": "a_b"}),
    ]
    body = render(make_table(records, group="all"), "latex")
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
