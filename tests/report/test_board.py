"""The board: rows of two who measured stay apart, each number tells its origin, and what was edited is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ltbench.errors import DataError, SpecError
from ltbench.records.record import RunRecord
from ltbench.report.board import make_board
from ltbench.report.contributions import Contribution
from ltbench.report.leaderboard import leaderboard
from ltbench.report.page import write_page
from ltbench.runs.exchange import write_bundle
from ltbench.runs.verification import runs_on_disk
from ltbench.tables.published import published_numbers
from tests.conftest import Run
from tests.report.conftest import HOSTILE

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

MakeRecord = Callable[..., RunRecord]
CSS = "css selector"


def _contribution(by: str, *records: RunRecord) -> Contribution:
    own = Contribution(by)
    for record in records:
        own.add(record, f"bundle of {by}")
    return own


@pytest.fixture
def contributions(records: list[RunRecord]) -> list[Contribution]:
    """Two who measured one run with other numbers, and one more each."""
    published, plain = records[0], records[2]
    other = replace(plain, metrics={"image_auroc": {"avg": 0.95, "high": 0.95, "bolt": 0.95}})
    return [_contribution("A lab", published, plain), _contribution(HOSTILE, other, records[3])]


def test_rows_of_two_who_measured_stay_apart(contributions: list[Contribution]) -> None:
    data = leaderboard({own.by: own.records for own in contributions}, published_numbers())
    rows: dict[tuple[str, str], dict[str, Any]] = {(row["split"], row["origin"]): row for row in data["rows"]}
    one, other = rows["parts_step4", "A lab"], rows["parts_step4", HOSTILE]
    assert (one["method"], other["method"]) == ("Plain", "Plain")
    assert one["cells"]["image_auroc"]["avg"] == {"mean": 90.0, "rank": 1}
    assert other["cells"]["image_auroc"]["avg"]["mean"] == 87.5, "its own two seeds"
    assert other["cells"]["image_auroc"]["avg"]["rank"] == 2, "ranked in one leaderboard"
    assert one["board"] == other["board"] == "parts_step4, protocol common"
    shared = contributions[0].records[-1].spec.hash
    assert len({*one["runs"], *other["runs"]}) == 3 and all(key in data["runs"] for key in other["runs"])
    assert {run["hash"] for key, run in data["runs"].items() if shared in key} <= {shared}
    cell = rows["mvtec_k4_noisy10", "A lab"]["cells"]["image_auroc"]["avg"]
    assert cell["published"]["value"] == 83.83
    assert rows["mvtec_k4_noisy10", "A lab"]["made_with"] == "torch 0"
    assert data["origins"] == [HOSTILE, "A lab"]


def test_protocols_have_leaderboards_of_their_own(records: list[RunRecord]) -> None:
    spec = records[2].spec
    other = replace(records[2], spec=replace(spec, protocol=replace(spec.protocol, name="ltad")))
    data = leaderboard({"A lab": [records[2], other]}, published_numbers())
    assert [row["board"] for row in data["rows"]] == ["parts_step4, protocol common", "parts_step4, protocol ltad"]
    assert [row["cells"]["image_auroc"]["avg"]["rank"] for row in data["rows"]] == [1, 1]


def test_titles_tell_variants_of_two_apart(records: list[RunRecord]) -> None:
    sizes = [replace(records[2], spec=replace(records[2].spec, parameters={"size": size})) for size in (1, 2)]
    data = leaderboard({"A lab": sizes[:1], "B lab": sizes[1:]}, published_numbers())
    assert [row["method"] for row in data["rows"]] == ["Plain (size=1)", "Plain (size=2)"]


def test_foreign_names_stay_text(contributions: list[Contribution]) -> None:
    page = make_board(contributions)
    assert "<img src=x" not in page and "</script><script>document" not in page
    assert "&lt;/script&gt;&lt;script&gt;document.title" in page
    assert page == make_board(contributions)


def test_one_name_has_one_number_a_run(records: list[RunRecord]) -> None:
    own = _contribution("A lab", records[2])
    own.add(records[2], "another bundle")
    assert (len(own.records), own.sources) == (1, ["bundle of A lab", "another bundle"])
    with pytest.raises(DataError, match=r"two with other numbers, from bundle of A lab and another bundle and third"):
        own.add(replace(records[2], scores={}), "third")


def test_bundles_and_results_become_a_page(ltbench: Run, parts: Path) -> None:
    for seed, results in ((0, "a"), (0, "b"), (1, "b")):
        arguments = ("-m", "mean_image", "-s", "parts_full", "--seed", seed, "--data-root", parts)
        assert ltbench("run", *arguments, "--results", results, "--json")[0] == 0
    for results in ("a", "b"):
        write_bundle(Path(results), Path(f"{results}.tar.zst"), f"{results.upper()} lab")
    assert ltbench("board", "a.tar.zst", "b.tar.zst", "--out", "both") == (0, "both/index.html\n", "")
    page = Path("both/index.html").read_text(encoding="utf-8")
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [(row["origin"], row["design"]) for row in data["rows"]] == [("A lab", "1 x 1"), ("B lab", "1 x 2")]
    assert "bundle " in page and not Path("results").exists()
    assert ltbench("runs", "import", "a.tar.zst", "--results", "c")[0] == 0
    assert ltbench("board", "b.tar.zst", "--results", "c", "--out", "mixed")[0] == 0
    assert ">A lab</th>" in Path("mixed/index.html").read_text(encoding="utf-8")
    assert ltbench("board", "--results", "b", "--by", "We", "--out", "own")[0] == 0
    assert ">We</th>" in Path("own/index.html").read_text(encoding="utf-8")


def test_what_was_edited_is_refused_and_nothing_is_written(ltbench: Run, parts: Path) -> None:
    assert ltbench("run", "-m", "mean_image", "-s", "parts_full", "--data-root", parts, "--json")[0] == 0
    write_bundle(Path("results"), Path("b.tar.zst"), "A lab")
    whole = Path("b.tar.zst").read_bytes()
    Path("b.tar.zst").write_bytes(whole[:-9])
    code, _, err = ltbench("board", "b.tar.zst", "--out", "board")
    assert (code, err.count("\n")) == (2, 1) and "Ask for it again" in err
    (run,) = runs_on_disk(Path("results"))
    record = Path("results/runs") / run / "record.json"
    record.write_text(record.read_text().replace('"score": ', '"score": 1', 1))
    code, _, err = ltbench("board", "--out", "board")
    assert code == 2 and run in err
    assert not Path("board").exists()


def test_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="ltbench runs bundle"):
        make_board([])


@pytest.mark.parametrize("width", [390, 1400])
def test_the_board_in_a_browser(
    show: Callable[..., Chrome], contributions: list[Contribution], tmp_path: Path, width: int
) -> None:
    from selenium.webdriver.support.select import Select

    browser = show(write_page(make_board(contributions), tmp_path / "board"), width)
    assert browser.title == "ltbench board", "no foreign name became a script"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert "83.83, +8.36" in [own.text for own in browser.find_elements(CSS, "#board td:not(.text) .sub")]
    Select(browser.find_element("name", "origin")).select_by_value("A lab")
    assert browser.find_element("id", "status").text.startswith("2 of 3 rows")
    browser.find_element(CSS, "#board tbody button").click()
    detail = browser.find_element("id", "detail").text
    assert "Measured by\nA lab" in detail and "Measured on\ntorch 0" in detail
