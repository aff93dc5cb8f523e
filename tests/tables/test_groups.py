"""Groups of categories by training images, and what runs took, as columns beside High, Low and Avg."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ltbench.errors import SpecError, UnknownNameError
from ltbench.records.record import RunRecord
from ltbench.render import render
from ltbench.tables.arrangement import sorted_by
from ltbench.tables.cells import Table
from ltbench.tables.comparison import make_table
from ltbench.tables.groups import counted, group_title, members_of, parse_groups
from ltbench.tables.layouts import layout_named
from ltbench.tables.measurements import measure
from ltbench.tables.paper import fill, table_of
from ltbench.tables.published import published_numbers

MakeRecord = Callable[..., RunRecord]
COUNTS = {"bolt": (100, 10), "nut": (5, 0), "pin": (6, 0), "tile": (20, 3), "wire": (1, 0)}
"""Category -> normal and contaminant training images."""
VALUES = {"bolt": 0.9, "nut": 0.5, "pin": 0.7, "tile": 0.8, "wire": 0.6}


@pytest.fixture
def tailed(make_record: MakeRecord) -> MakeRecord:
    """Return a function that makes a record over five categories of other sizes."""

    def make(method: str = "m", seconds: float = 10.0, seed: int = 0) -> RunRecord:
        record = make_record(method, "parts_exp100", seed=seed)
        return replace(
            record,
            high=("bolt", "tile"),
            low=("nut", "pin", "wire"),
            counts={name: {"normal": normal, "contaminant": other} for name, (normal, other) in COUNTS.items()},
            metrics={"image_auroc": VALUES | {"high": 0.85, "low": 0.6, "avg": 0.7 + seed / 100}},
            seconds={"fit": seconds, "predict": 2.0},
            peak_memory_mib={"fit": 100.4, "predict": 2048.6},
        )

    return make


def _table(records: list[RunRecord], group: str, metrics: tuple[str, ...] = ("image_auroc",)) -> Table:
    return make_table(measure(records, metrics, ranges=counted(parse_groups(group))), metrics=metrics, group=group)


def test_ranges_of_training_images_stand_beside_high_and_low(tailed: MakeRecord) -> None:
    table = _table([tailed()], "high,low,1-5,6-20,21-")
    assert [column.titles[-1] for column in table.columns] == ["High", "Low", "1–5", "6–20", "21+"]
    ((_, cells),) = table.rows
    assert [cell.mean for cell in cells] == pytest.approx([85, 60, 55, 75, 90]), "contaminants are no normal images"
    assert "6–20 is the mean over the categories with 6 to 20 normal training images" in table.caption
    assert "High is" not in table.caption


def test_a_category_that_is_called_like_a_range_is_none(tailed: MakeRecord) -> None:
    """Folders of a data set may be called 1, 2, 3."""
    record = replace(
        tailed(),
        counts={name: {"normal": 5, "contaminant": 0} for name in ("5", "6", "1-5")},
        high=("5",),
        low=("6", "1-5"),
        metrics={"image_auroc": {"5": 0.9, "6": 0.6, "1-5": 0.3, "high": 0.9, "low": 0.45, "avg": 0.6}},
    )
    ((_, cells),) = _table([record], "5,1-5,high").rows
    assert [cell.mean for cell in cells] == pytest.approx([60, 60, 90])
    (found,) = measure([record], ["image_auroc"], ranges=["5/", "1-5/"])
    assert found.values["image_auroc"]["5"] == 0.9 and found.values["image_auroc"]["1-5"] == 0.3
    table = _table([record], "5,high")
    assert sorted_by(table, "5") == table
    assert [row.split(",")[3] for row in render(table, "csv").splitlines()] == ["group", "5", "high"]


def test_a_range_without_categories_says_so(tailed: MakeRecord) -> None:
    ((_, (cell,)),) = _table([tailed()], "2-4").rows
    assert cell.mean is None
    assert cell.reason == "no category of parts_exp100 has 2 to 4 normal training images"


def test_a_metric_that_no_category_of_a_range_has_keeps_its_reason(tailed: MakeRecord) -> None:
    record = replace(tailed(), missing={"pixel_auroc": {"nut": "no masks", "wire": "no masks", "avg": "no masks"}})
    ((_, (cell,)),) = _table([record], "1-5", ("pixel_auroc",)).rows
    assert (cell.mean, cell.reason) == (None, "no masks")


def test_members_and_titles() -> None:
    counts = {name: {"normal": normal, "contaminant": other} for name, (normal, other) in COUNTS.items()}
    assert members_of("1-5/", counts) == ("nut", "wire")
    assert members_of("6/", counts) == ("pin",) and members_of("20-/", counts) == ("bolt", "tile")
    assert [group_title(own) for own in ("avg", "7/", "1-5/", "21-/")] == ["Avg", "7", "1–5", "21+"]
    assert parse_groups("all, 1-5,low") == ("high", "low", "avg", "1-5/")


@pytest.mark.parametrize("text", ["", ",", "hihg", "5-1", "0-3", "-5", "1-5-9", "1–5", "1e3", "9" * 40])
def test_what_is_no_group_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="Expected"):
        parse_groups(text)


def test_seconds_and_memory_are_columns_without_groups(tailed: MakeRecord) -> None:
    metrics = ("image_auroc", "fit_seconds", "predict_seconds", "peak_memory_mib")
    table = _table([tailed("slow", 30.0), tailed("fast", 10.0)], "high,low", metrics)
    assert [(own.metric, own.group) for own in table.columns] == [
        ("image_auroc", "high"), ("image_auroc", "low"),
        ("fit_seconds", "run"), ("predict_seconds", "run"), ("peak_memory_mib", "run"),
    ]  # fmt: skip
    assert len({len(own.titles) for own in table.columns}) == 1
    cells = dict(table.rows)
    assert [cell.mean for cell in cells["Slow"][2:]] == [30.0, 2.0, 2048.6]
    assert [cell.digits for cell in cells["Slow"]] == [2, 2, 1, 1, 0]
    assert (cells["Fast"][2].rank, cells["Slow"][2].rank) == (1, 2), "the fastest is best"
    assert "lower is better: Fit (s), Predict (s), Peak memory (MiB)" in table.caption


def test_seconds_alone_are_not_called_percent(tailed: MakeRecord) -> None:
    table = _table([tailed()], "avg", ("fit_seconds",))
    assert table.caption.startswith("Fit (s), protocol common")
    assert [own.titles for own in table.columns] == [("parts_exp100",)]


def test_what_was_not_recorded_is_no_zero(tailed: MakeRecord) -> None:
    record = replace(tailed(), seconds={}, peak_memory_mib={})
    ((_, cells),) = _table([record], "avg", ("fit_seconds", "peak_memory_mib")).rows
    assert [(cell.mean, cell.reason) for cell in cells] == [(None, "not recorded")] * 2


def test_a_significance_test_leaves_seconds_as_they_are(tailed: MakeRecord) -> None:
    metrics = ("image_auroc", "fit_seconds")
    runs = measure([tailed("slow", 30.0), tailed("fast", 10.0)], metrics)
    table = make_table(runs, metrics=metrics, significance=True)
    assert {title: [cell.rank for cell in cells] for title, cells in table.rows} == {"Fast": [1, 1], "Slow": [1, 2]}
    assert "seconds and memory are ranked as they are" in table.caption


def test_a_papers_layout_takes_seconds_and_ranges(tailed: MakeRecord) -> None:
    record = replace(tailed("padim"), spec=replace(tailed("padim").spec, split="mvtec_k4_noisy10_seed1"))
    metrics, group = ("image_auroc", "fit_seconds"), "low,1-5"
    runs = measure([record], metrics, ranges=["1-5/"])
    filled = fill(layout_named("tailedcore-1"), runs, published_numbers(), metrics=metrics, group=group)
    table = table_of(filled, name="t")
    heads = [own.titles for own in table.columns[3:6]]
    assert [own[1] for own in heads] == ["Image AUROC", "Image AUROC", "Fit (s)"]
    assert [own[2] for own in heads[1:]] == ["1–5", ""]
    (cells,) = [cells for title, cells in table.rows if title.startswith("PaDiM (")]
    assert [cell.mean for cell in cells[3:6]] == pytest.approx([60, 55, 10])


def test_unknown_metrics_name_the_nearest(tailed: MakeRecord) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'fit_seconds'"):
        _table([tailed()], "avg", ("fit_secs",))
