"""The rows of the paper's tables take the runs of the presets that are named after them, and no others."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from ltbench.contract.parameters import plain, resolve
from ltbench.contract.registry import presets
from ltbench.tables.layouts import LayoutRow, layout_named
from methods.ltad.method import LTAD

TABLES = ("ltad-3", "ltad-4", "ltad-5", "ltad-6", "ltad-7", "ltad-8", "ltad-9")
DATASETS = {"ltad-3": "mvtec", "ltad-4": "visa", "ltad-5": "dagm"}
ROWS = [(table, row) for table in TABLES for row in layout_named(table).rows if row.method == "ltad"]


def fits(row: LayoutRow, preset: str) -> bool:
    values = plain(resolve(LTAD, presets(LTAD)[preset].parameters))
    named = any(fnmatchcase(preset, pattern) for pattern in row.presets)
    return named and all(values[name] == value for name, value in row.parameters.items())


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table} {row.published}" for table, row in ROWS])
def test_every_row_has_its_presets(table: str, row: LayoutRow) -> None:
    fitting = {preset for preset in presets(LTAD) if fits(row, preset)}
    number = row.published.partition(" ")[0].replace(".", "_")
    if table == "ltad-9":
        opening = f"ablation_9_{row.published.replace(' ', '_')}_a"
        own = {name for name in presets(LTAD) if name.startswith("ablation_9_")}
        assert len(fitting & own) == 4
        assert all(name.startswith(opening) for name in fitting & own)
    elif table in DATASETS:
        assert fitting == (
            {"ablation_no_sad", "ablation_6_8", "ablation_length_2"}
            if "w/o" in row.published
            else {f"paper_{DATASETS[table]}"}
        ), "lambda differs by dataset"
    else:
        assert f"ablation_{number}" in fitting


def test_the_columns_of_table_9_are_the_abnormal_prompts() -> None:
    layout = layout_named("ltad-9")
    for column in layout.columns:
        assert column.parameters == {"abnormal_prompts": [column.title]}
        found = [name for name in presets(LTAD) if name.endswith(column.title.replace(" ", "_")) and "_9_" in name]
        assert len(found) == 4
