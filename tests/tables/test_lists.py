"""Training lists and method seeds: what a mean and its ± are over, what is marked, and what is never pooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from ltbench.records.record import RunRecord
from ltbench.tables.cells import Cell, Precision, Table
from ltbench.tables.comparison import make_table
from ltbench.tables.lists import OTHER_LISTS
from ltbench.tables.measurements import base_name, measure
from ltbench.tables.ranking import pairs_of

MakeRecord = Callable[..., RunRecord]
VALUES = {1: (0.80, 0.82, 0.84), 2: (0.90, 0.92, 0.94)}
"""List -> value of each method seed."""


def _grid(
    make: MakeRecord, method: str = "m", values: Mapping[int, tuple[float, ...]] | None = None
) -> list[RunRecord]:
    return [
        make(method, f"mvtec_k4_seed{number}", {"image_auroc": value}, seed=seed, split_sha256=f"{number:064x}")
        for number, own in (values or VALUES).items()
        for seed, value in enumerate(own)
    ]


def _table(records: Sequence[RunRecord]) -> Table:
    return make_table(measure(records, ["image_auroc"]), metrics=["image_auroc"])


def _cell(table: Table, title: str = "M") -> Cell:
    ((cell,),) = [cells for own, cells in table.rows if own == title]
    return cell


def _notes(table: Table, cell: Cell) -> list[str]:
    return [dict(table.notes)[mark] for mark in cell.marks]


def test_the_spread_is_over_lists_and_the_caption_says_of_how_many(make_record: MakeRecord) -> None:
    table = _table(_grid(make_record))
    cell = _cell(table)
    assert cell.mean == pytest.approx(87)
    assert cell.std == pytest.approx(50**0.5), "of the lists' means 82 and 92, not of six runs"
    assert (cell.count, cell.design, cell.unit, cell.draws, cell.mark) == (6, "2 lists x 3 seeds", "lists", 2, "")
    assert (
        "; 2 lists x 3 seeds: mean over the seeds of a list, then over lists, ± sample standard deviation over lists "
        "(n = 2)."
    ) in table.caption


def test_one_list_spreads_over_its_seeds(make_record: MakeRecord) -> None:
    table = _table(_grid(make_record, values={1: VALUES[1]}))
    assert _cell(table).std == pytest.approx(2)
    assert "; 1 list x 3 seeds: mean ± sample standard deviation over seeds (n = 3)." in table.caption
    assert "±" not in _table(_grid(make_record, values={1: (0.8,)})).caption


def test_nothing_drawn_has_no_deviation(make_record: MakeRecord) -> None:
    """A method that gives the same numbers under every seed had "± 0.00", as if it had been drawn anew."""
    same = _grid(make_record, "same", {1: (0.8, 0.8, 0.8)})
    table = _table(same)
    assert (_cell(table, "Same").std, _cell(table, "Same").count) == (None, 3)
    assert "; 1 list x 3 seeds: mean, without a deviation: all of them give the same numbers." in table.caption
    both = _table([*same, *_grid(make_record, "m", {1: VALUES[1]})])
    assert _cell(both, "Same").std is None and _cell(both).std == pytest.approx(2)
    assert "over seeds (n = 3); no ± where all of them give the same numbers." in both.caption
    lists = _table(_grid(make_record, "m", {1: (0.8,), 2: (0.8,)}))
    assert _cell(lists).std is None, "lists of all images are the same images"


def test_what_was_drawn_keeps_a_deviation_of_zero(make_record: MakeRecord) -> None:
    """An image AUROC of 100 % under every seed is a finding where other metrics differ."""
    records = [
        replace(own, metrics={**own.metrics, "pixel_auroc": {"avg": 0.9 + own.spec.seed / 100}})
        for own in _grid(make_record, values={1: (1.0, 1.0, 1.0)})
    ]
    assert _cell(_table(records)).std == 0


def test_means_without_their_deviation_say_what_they_are_over(make_record: MakeRecord) -> None:
    runs = measure(_grid(make_record), ["image_auroc"])
    table = make_table(runs, metrics=["image_auroc"], precision=Precision(1, has_std=False))
    assert (_cell(table).std, _cell(table).digits) == (None, 1)
    assert "; 2 lists x 3 seeds: mean over the seeds of a list, then over lists." in table.caption


def test_what_prints_alike_shares_a_rank(make_record: MakeRecord) -> None:
    runs = measure(
        [make_record("a", values={"image_auroc": 0.9041}), make_record("b", values={"image_auroc": 0.9039})],
        ["image_auroc"],
    )
    for digits, ranks in ((0, [1, 1]), (1, [1, 1]), (2, [1, 2])):
        table = make_table(runs, metrics=["image_auroc"], precision=Precision(digits))
        assert [cells[0].rank for _, cells in table.rows] == ranks, digits


def test_a_list_that_was_run_more_often_counts_once_and_is_marked(make_record: MakeRecord) -> None:
    table = _table(
        [*_grid(make_record, "a"), *_grid(make_record, "b"), *_grid(make_record, "c", {1: VALUES[1], 2: (0.9,)})]
    )
    cell = _cell(table, "C")
    assert cell.mean == pytest.approx((82 + 90) / 2), "not the mean of four runs"
    assert _notes(table, cell) == ["unbalanced, over 2 lists x 1 to 3 seeds, ± over lists (n = 2)"]
    assert not _cell(table, "A").mark and not _cell(table, "B").mark


def test_cells_of_other_lists_or_seeds_than_the_rest_are_marked(make_record: MakeRecord) -> None:
    others = _grid(make_record, "c", {3: (0.7, 0.7, 0.7), 4: (0.8, 0.8, 0.8)})
    table = _table(
        [*_grid(make_record, "a"), *_grid(make_record, "b"), *others, *_grid(make_record, "d", {1: VALUES[1]})]
    )
    assert _notes(table, _cell(table, "C")) == [OTHER_LISTS]
    assert _notes(table, _cell(table, "D")) == ["over 1 list x 3 seeds, ± over seeds (n = 3)"]
    renamed = [
        replace(own, spec=replace(own.spec, split_sha256="f" * 64)) for own in _grid(make_record, "e", {1: (0.5,)})
    ]
    same_name = _table([*_grid(make_record, "a", {1: (0.5,)}), *_grid(make_record, "b", {1: (0.5,)}), *renamed])
    assert _notes(same_name, _cell(same_name, "E")) == [OTHER_LISTS], "a list of the same name with other images"


def test_runs_of_one_seed_on_a_list_are_not_averaged(make_record: MakeRecord) -> None:
    (found,) = measure([make_record()], ["image_auroc"])
    table = make_table([found, replace(found, run="another")], metrics=["image_auroc"])
    cell = _cell(table)
    assert cell.mean is None
    assert cell.reason == f"runs {found.run} and another have seed 0 on mvtec_step100; remove one"


def test_lists_drawn_from_another_listing_are_lists_of_one_split() -> None:
    assert base_name("mvtec_k4_authors_noisy10_seed3_listed") == "mvtec_k4_authors_noisy10_listed"


def test_the_test_pairs_lists_where_there_are_several_and_seeds_where_there_is_one(make_record: MakeRecord) -> None:
    def measured(method: str, values: Mapping[int, tuple[float, ...]]) -> Sequence[RunRecord]:
        return [
            replace(own, metrics={"image_auroc": {"avg": 0.5, "bolt": own.metrics["image_auroc"]["avg"]}})
            for own in _grid(make_record, method, values)
        ]

    def pairs(*rows: Sequence[RunRecord]) -> list[dict[tuple[str, str, int | None], float]]:
        return [dict(own) for own in pairs_of([measure(row, ["image_auroc"]) for row in rows], "image_auroc", "avg")]

    many, few = pairs(measured("a", VALUES), measured("b", {1: (0.7,), 2: (0.6, 0.8)}))
    assert sorted(many.values()) == pytest.approx([0.82, 0.92]) and sorted(few.values()) == pytest.approx([0.7, 0.7])
    assert set(many) == set(few), "one pair a category and list, whatever the seeds"
    first, second = pairs(measured("a", {1: VALUES[1]}), measured("b", {1: VALUES[1]}))
    assert len(first) == 3 and first == second, "one pair a category and seed of the only list"
    one, renamed = pairs(
        measured("a", {1: (0.5,)}),
        [replace(own, spec=replace(own.spec, split_sha256="f" * 64)) for own in measured("b", {1: (0.5,)})],
    )
    assert not set(one) & set(renamed), "lists of one name with other images have no pair"
