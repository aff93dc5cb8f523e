"""The comparison table: which runs share a cell, what is best, what is missing and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ltbench.contract.parameters import plain, resolve
from ltbench.contract.registry import presets
from ltbench.errors import SpecError, UnknownNameError
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.records.record import RunRecord
from ltbench.render.text import reasons
from ltbench.tables.cells import Cell, Table
from ltbench.tables.comparison import make_table
from ltbench.tables.measurements import measure
from methods.mean_image.method import MeanImage

MakeRecord = Callable[..., RunRecord]
IMAGE = ("image_auroc",)


def _table(records: Sequence[RunRecord], metrics: Sequence[str] = ("image_auroc", "pixel_auroc"), **more: Any) -> Table:
    return make_table(measure(records, metrics, more.pop("dataset", None)), metrics=metrics, **more)


def _cells(table: Table) -> dict[str, tuple[Cell, ...]]:
    return dict(table.rows)


def test_seeds_of_method_and_split_share_a_cell(make_record: MakeRecord) -> None:
    records = [
        make_record(values={"image_auroc": 0.80}),
        make_record(values={"image_auroc": 0.90}, seed=1),
        make_record(values={"image_auroc": 0.95}, split="mvtec_step100_seed4"),
    ]
    (cell,) = _cells(_table(records, metrics=IMAGE))["M"]
    assert cell.mean == pytest.approx(90)  # of the lists' means 85 and 95
    assert cell.std == pytest.approx(50**0.5)
    assert (cell.count, cell.design, cell.draws) == (3, "2 lists x 1 to 2 seeds", 2)


def test_one_seed_has_no_deviation(make_record: MakeRecord) -> None:
    (cell,) = _cells(_table([make_record()], metrics=IMAGE))["M"]
    assert (cell.mean, cell.std, cell.count) == (90, None, 1)


def test_two_versions_of_a_split_are_not_averaged(make_record: MakeRecord) -> None:
    records = [make_record(), make_record(split_sha256="1" * 64, seed=1)]
    table = _table(records, metrics=IMAGE)
    (cell,) = _cells(table)["M"]
    assert cell.mean is None
    for record in records:
        assert record.spec.hash in cell.reason and record.spec.hash in reasons(table)[0]


def test_best_and_second_are_marked_and_ties_share(make_record: MakeRecord) -> None:
    records = [
        make_record(name, values={"image_auroc": value})
        for name, value in zip("abcd", (0.9, 0.8, 0.9, 0.7), strict=True)
    ]
    ranks = {title: cells[0].rank for title, cells in _table(records, metrics=IMAGE).rows}
    assert ranks == {"A": 1, "B": 2, "C": 1, "D": 0}


def test_what_is_missing_says_why(make_record: MakeRecord) -> None:
    records = [
        make_record("a", split="x_full"),
        make_record("b", split="x_step10", values={"image_auroc": 0.5}, missing={"pixel_auroc": "no masks"}),
    ]
    table = _table(records)
    assert [column.split for column in table.columns] == ["x_full", "x_full", "x_step10", "x_step10"]
    assert [cell.reason for cell in _cells(table)["B"]] == ["not run", "not run", "", "no masks"]
    assert reasons(table) == [
        "No value (not computed): A in x_full Pixel AUROC.",
        "No value (not run): A in x_step10; B in x_full.",
        "No value (no masks): B in x_step10 Pixel AUROC.",
    ]
    failed = _table(records, reasons={("b", "x_full"): "failed: out of memory"})
    assert _cells(failed)["B"][0].reason == "failed: out of memory"


def test_variants_of_a_method_name_what_differs(make_record: MakeRecord) -> None:
    records = [make_record(parameters={"ratio": ratio, "k": 1}) for ratio in (0.1, 0.01)]
    assert sorted(_cells(_table(records, metrics=IMAGE))) == ["M (ratio=0.01)", "M (ratio=0.1)"]


def test_variants_of_one_preset_name_what_they_set_beside_it(make_record: MakeRecord) -> None:
    offline = plain(resolve(MeanImage, presets(MeanImage)["offline"].parameters))

    def titles(*changes: dict[str, Any], preset: str = "offline") -> list[str]:
        records = [make_record("mean_image", parameters=offline | own) for own in changes]
        records = [replace(record, preset=preset) for record in records]
        return sorted(_cells(_table(records, metrics=IMAGE)))

    assert titles({}, {"smoothing_sigma": 9.0}) == ["Mean_Image", "Mean_Image (smoothing_sigma=9.0)"]
    assert titles({}) == ["Mean_Image"]
    assert titles({}, {"smoothing_sigma": 9.0}, preset="gone") == [
        f"Mean_Image (smoothing_sigma={value})" for value in (offline["smoothing_sigma"], 9.0)
    ]


def test_odd_protocols_and_privileges_have_footnotes(make_record: MakeRecord) -> None:
    told = MethodInfo("c", "C", uses_categories=True)
    records = [
        make_record("a"),
        make_record("b"),
        make_record("c", info=told),
        make_record("d", protocol=PROTOCOLS["rlr"]),
        make_record("e", info=MethodInfo("e", "E", recognises_training_images=True)),
    ]
    table = _table(records, metrics=IMAGE)
    assert [title for title, _ in table.rows] == ["A", "B", "C*", "E**", "D***"]
    assert table.notes == (
        ("*", "told the category of every image"),
        ("**", "recognises training images among test images"),
        ("***", "protocol rlr"),
    )
    assert "protocol common" in table.caption


def test_groups_metrics_and_filters(make_record: MakeRecord) -> None:
    records = [make_record(split="mvtec_step100"), make_record(split="visa_exp20"), make_record(split="visa_exp100")]
    table = _table(records, dataset="visa", metrics=IMAGE, group="all")
    assert [(column.split, column.group) for column in table.columns] == [
        (split, group) for split in ("visa_exp20", "visa_exp100") for group in ("high", "low", "avg")
    ]
    only = _table(records, splits=["mvtec_step100_seed3"], metrics=IMAGE)
    assert [column.split for column in only.columns] == ["mvtec_step100"]


def test_wrong_names_are_refused(make_record: MakeRecord) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'image_auroc'"):
        _table([make_record()], metrics=["image_aucroc"])
    with pytest.raises(UnknownNameError, match="mvtec_step100"):
        _table([make_record()], splits=["mvtec_step10"])
    with pytest.raises(SpecError, match="ltbench run"):
        _table([])
