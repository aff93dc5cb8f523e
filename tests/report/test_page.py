"""The report as a file: what it holds, that it needs nothing else, and that foreign text stays text."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ltbench.cli import main
from ltbench.errors import DataError, SpecError
from ltbench.records.record import RunRecord, read_record
from ltbench.report.leaderboard import leaderboard
from ltbench.report.page import make_page, write_page
from ltbench.report.pictures import galleries
from ltbench.tables.layouts import layouts
from ltbench.tables.published import published_numbers
from tests.report.conftest import HOSTILE, write_records

MakeRecord = Callable[..., RunRecord]


class _Read(HTMLParser):
    """Every tag of a page with its attributes, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def test_the_page_refers_to_nothing_outside_itself(page: Path, mapped_page: Path) -> None:
    for file in (page, mapped_page):
        text = file.read_text(encoding="utf-8")
        for tag, attributes in _Read(text).tags:
            assert tag not in ("iframe", "object", "embed", "base"), tag
            for name in ("src", "href", "action", "poster", "srcset"):
                assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
        assert "url(" not in text and "@import" not in text and "fetch(" not in text
        assert "default-src 'none'" in text
        assert [path.name for path in file.parent.iterdir()] == ["index.html"]


def test_foreign_text_stays_text(page: Path) -> None:
    read = _Read(page.read_text(encoding="utf-8"))
    assert len(read.scripts) == 2, "the data and the page's own script"
    rows = json.loads(read.scripts[0])["rows"]
    assert HOSTILE in [row["method"] for row in rows], "what the script gets is the title as it is"
    assert not any("onerror" in attributes for _, attributes in read.tags)
    assert "<title>A &amp; &lt;b&gt;</title>" in page.read_text(encoding="utf-8")


def test_every_control_has_a_name(page: Path, mapped_page: Path) -> None:
    for file in (page, mapped_page):
        text = file.read_text(encoding="utf-8")
        tags = _Read(text).tags
        assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
        assert len(re.findall(r"<label>[^<]+ <select", text)) == sum(tag == "select" for tag, _ in tags)
        assert all(
            attributes.get("aria-label") for tag, attributes in tags if attributes.get("role") in ("region", "group")
        )
        identifiers = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(identifiers) == len(set(identifiers))
        labels = [attributes["aria-labelledby"] for _, attributes in tags if "aria-labelledby" in attributes]
        assert set(labels) <= set(identifiers)


def test_the_same_runs_are_the_same_page(records: list[RunRecord], tmp_path: Path) -> None:
    assert make_page(records, tmp_path) == make_page(records[::-1], tmp_path)


def test_one_is_no_plural(records: list[RunRecord], tmp_path: Path) -> None:
    assert "1 run of 1 method on 1 training set, up to" in make_page(records[:1], tmp_path)
    counts = (len({getattr(record.spec, noun) for record in records}) for noun in ("method", "split"))
    several = "{} runs of {} methods on {} training sets, up to".format(len(records), *counts)
    assert several in make_page(records, tmp_path)


def test_rows_hold_means_reasons_and_published_numbers(records: list[RunRecord]) -> None:
    data = leaderboard({"": records}, published_numbers())
    rows: dict[tuple[str, str], dict[str, Any]] = {(row["split"], row["method"]): row for row in data["rows"]}
    plain = rows["parts_step4", "Plain"]
    assert plain["cells"]["image_auroc"]["avg"] == {"mean": 85.0, "std": 7.0711, "rank": 1}
    assert plain["cells"]["pixel_auroc"]["avg"] == {"reason": "no masks"}
    assert (plain["seeds"], len(plain["runs"])) == (2, 2)
    assert (plain["over"], plain["design"]) == ("1 list x 2 seeds, ± over seeds (n = 2)", "1 x 2")
    assert rows["parts_step4", HOSTILE]["notes"] == ["over 1 list x 1 seed"] and plain["notes"] == []
    assert all(data["runs"][run]["spec"]["split"] == "parts_step4" for run in plain["runs"])
    cell = rows["mvtec_k4_noisy10", "PatchCore"]["cells"]["image_auroc"]["avg"]
    assert cell["published"]["value"] == 83.83 and cell["published"]["flag"] == "inconsistent"
    assert "published" not in plain["cells"]["image_auroc"]["avg"]
    assert rows["parts_step4", HOSTILE]["privileges"] == ["told the category of every image"]
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_training_sets_tell_their_imbalance_and_contaminants(records: list[RunRecord]) -> None:
    counts = {"bolt": {"normal": 30, "contaminant": 9}, "nut": {"normal": 4, "contaminant": 0}}
    tailed = replace(records[2], counts=counts, high=("bolt",), low=("nut",))
    told = leaderboard({"": [records[0], tailed]}, published_numbers())["boards"]
    assert told == {
        "mvtec_k4_noisy10, protocol tailedcore": "MVTec AD, 1 category, imbalance 1, 10 % contaminants",
        "parts_step4, protocol common": "parts, 2 categories, imbalance 7.5, no contaminants",
    }


def test_layouts_without_runs_are_not_shown(records: list[RunRecord], tmp_path: Path) -> None:
    shown = re.findall(r"<summary>((?:ltad|tailedcore)-\d)</summary>", make_page(records, tmp_path))
    assert shown and set(shown) < set(layouts()) and "ltad-3" not in shown
    page = make_page(records[2:], tmp_path)
    assert "No run is on a training set of a published table." in page and "TailedCore, Table" not in page


def test_seeds_that_change_nothing_are_no_spread(records: list[RunRecord]) -> None:
    again = replace(records[2], spec=replace(records[2].spec, seed=7))
    (row,) = leaderboard({"": [records[2], again]}, published_numbers())["rows"]
    assert (row["over"], row["cells"]["image_auroc"]["avg"].get("std")) == ("1 list x 2 seeds", None)


def test_two_lists_of_one_name_are_no_number(records: list[RunRecord]) -> None:
    other = replace(records[3], spec=replace(records[3].spec, split_sha256="1" * 64))
    rows = leaderboard({"": [*records[:3], other]}, published_numbers())["rows"]
    (row,) = [row for row in rows if row["method"] == "Plain"]
    reason = row["cells"]["image_auroc"]["avg"]["reason"]
    assert records[2].spec.hash in reason and other.spec.hash in reason and "mean" not in str(row["cells"])


def test_a_figure_with_two_values_at_one_place_is_told(make_record: MakeRecord, tmp_path: Path) -> None:
    records = [
        replace(make_record("plain", split), metrics={"image_auroc": dict.fromkeys(("avg", "high", "low"), 0.5)})
        for split in ("parts_full", "parts_exp1", "parts_exp20")
    ]
    page = make_page(records, tmp_path)
    assert "No figure of Image AUROC against imbalance, parts: Expected one value at 1 of the line" in page
    assert 'alt="Image AUROC against imbalance' not in page


def test_galleries_need_maps_and_images(mapped_page: Path, records: list[RunRecord], tmp_path: Path) -> None:
    text = mapped_page.read_text(encoding="utf-8")
    assert text.count("data:image/webp;base64,") >= 2 * 4, "image, defect and two maps for each category"
    assert "parts_step4" in text and "smoothing_sigma=2" in text
    assert galleries(records, tmp_path, None) == ([], [])
    results = mapped_page.parents[1]
    found = [read_record(path.parent) for path in results.glob("runs/*/record.json")]
    shown, problems = galleries(found, results, tmp_path / "nowhere")
    assert shown == [] and problems[0].startswith("No heat maps of parts_step4: Expected")


def test_the_command_writes_the_page(
    records: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path, records)
    monkeypatch.setattr(sys, "argv", ["ltbench", "report", "--results", str(tmp_path), "--out", str(tmp_path / "s")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code in (0, None)
    assert capsys.readouterr().out.strip() == str(tmp_path / "s" / "index.html")
    assert (tmp_path / "s" / "index.html").read_text(encoding="utf-8") == make_page(
        records, tmp_path, title="ltbench report"
    )


def test_nothing_and_nowhere_are_refused(records: list[RunRecord], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="ltbench run"):
        make_page([], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="--out"):
        write_page("x", tmp_path / "file")


def test_numbers_that_json_lacks_are_refused(records: list[RunRecord], tmp_path: Path) -> None:
    bad = replace(records[0], seconds={"fit": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        make_page([bad], tmp_path)
