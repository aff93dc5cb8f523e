"""What tables keep of records: little, once, and enough."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ltbench.records.record import RunRecord
from ltbench.tables.comparison import make_table
from ltbench.tables.measurements import base_name, measure

MakeRecord = Callable[..., RunRecord]


@pytest.mark.parametrize(
    ("split", "base"),
    [
        ("mvtec_step100_seed12", "mvtec_step100"),
        ("mvtec_k4_noisy10_official3", "mvtec_k4_noisy10_official"),
        ("mvtec_k4_noisy10_official3_disjoint", "mvtec_k4_noisy10_official_disjoint"),
        ("mvtec_step100", "mvtec_step100"),
        ("mvtec_k4_noisy10_seed1_heldout10", "mvtec_k4_noisy10_heldout10"),
    ],
)
def test_a_split_without_its_seed(split: str, base: str) -> None:
    assert base_name(split) == base


def test_records_are_looked_at_one_at_a_time(make_record: MakeRecord) -> None:
    """Of 200 records with heavy scores and notes, at most two are alive at once."""
    alive = 0

    class Heavy(list[Any]):
        def __init__(self) -> None:
            nonlocal alive
            super().__init__(range(100))
            alive += 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    highest = 0

    def records() -> Iterator[RunRecord]:
        nonlocal highest
        template = make_record()
        for seed in range(200):
            yield replace(
                template, spec=replace(template.spec, seed=seed), scores={"bolt": Heavy()}, notes={"n": Heavy()}
            )
            highest = max(highest, alive)

    measured = measure(records(), ["image_auroc"])
    gc.collect()
    assert (len(measured), alive) == (200, 0)
    assert highest <= 4
    assert len({id(own.parameters) for own in measured}) == len({id(own.method) for own in measured}) == 1


def test_ten_thousand_records_read_each_measurement_once(make_record: MakeRecord) -> None:
    """The work grows with the records, not with records x rows x columns: each value is looked up once a column."""
    looked_up = 0

    class Counted(dict[str, dict[str, float]]):
        def get(self, metric: str, default: dict[str, float] | None = None) -> dict[str, float]:  # type: ignore[override]
            nonlocal looked_up
            looked_up += 1
            return super().get(metric, default or {})

    template = measure([make_record()], ["image_auroc"])[0]
    many = [
        replace(
            template,
            run=f"{number:016x}",
            parameters={"k": number % 50},
            split=f"mvtec_step{10 + number // 50 % 20}",
            seed=number // 1000,
            values=Counted({"image_auroc": {"avg": 0.5}}),
        )
        for number in range(10_000)
    ]
    table = make_table(many, metrics=["image_auroc"])
    assert (len(table.rows), len(table.columns)) == (50, 20)
    assert all(cell.count == 10 for _, cells in table.rows for cell in cells)
    assert looked_up == 10_000
