"""Records of older schema versions: read for ever, upgraded step by step, never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltbench.errors import DataError
from ltbench.records.integrity import checked
from ltbench.records.record import RunRecord
from ltbench.records.schema import SCHEMA_VERSION, UPGRADES, upgraded

GOLDEN = sorted((Path(__file__).resolve().parents[1] / "golden" / "records").glob("v*.json"))
"""A record of each version as it was written, `v<version>.json`; they are never rewritten.

v1 to v4 were written by `ltbench run -m mean_image -s parts_step4` on the test fixture `parts`.
"""


def test_before_version_2_every_method_gave_maps() -> None:
    path = next(path for path in GOLDEN if path.stem == "v1")
    assert RunRecord.from_json(json.loads(path.read_text())).method.has_maps


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_old_records_are_read(path: Path) -> None:
    values = json.loads(path.read_text())
    assert values["schema_version"] == int(path.stem[1:])
    record = RunRecord.from_json(checked(values))
    assert record.schema_version == SCHEMA_VERSION
    assert record.spec.hash == values["run"], "an upgrade leaves the name of the run alone"
    assert record.metrics == values["metrics"] and record.scores == values["scores"]
    assert RunRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_every_version_has_a_golden_record_and_a_way_on() -> None:
    assert {int(path.stem[1:]) for path in GOLDEN} == set(range(1, SCHEMA_VERSION + 1))
    assert set(UPGRADES) == set(range(1, SCHEMA_VERSION))


def test_upgrades_run_one_after_another() -> None:
    def named(values: dict[str, Any]) -> dict[str, Any]:
        return values | {"curves": {}}

    def moved(values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key != "curves"} | {"history": values["curves"]}

    old = {"schema_version": 1, "run": "x"}
    assert upgraded(old, {1: named, 2: moved}, 3) == {"schema_version": 3, "run": "x", "history": {}}
    assert old == {"schema_version": 1, "run": "x"}, "the input is left alone"
    with pytest.raises(DataError, match="schema version 2"):
        upgraded(old, {1: named}, 3)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (SCHEMA_VERSION + 1, "Update ltbench"),
        (0, "Repeat the run"),
        (None, "got None"),
        (True, "got True"),
        ("1", "'1'"),
    ],
)
def test_other_versions_are_refused(version: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        upgraded({"schema_version": version})
