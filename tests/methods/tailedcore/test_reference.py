"""TailedCore, with guessed and with true tails, against an independent implementation on real images."""

from __future__ import annotations

from typing import Any

import pytest

from ltbench.datasets.folder import index_tree
from ltbench.records.record import read_records
from ltbench.runs.examination import shuffled
from ltbench.splits.importers import import_list
from tests.methods.reference import LISTS, Reference, assert_near
from tests.shared import SHARED

pytestmark = pytest.mark.slow

KINDS = ["industrial7_k4_noisy10", "industrial8_k4_noisy10", "industrial7_k4_clean"]
TRUE_TAILS = "tailedcore with the true tails"
PREDICTED = {"industrial7_k4_noisy10": [43, 16, 41], "industrial8_k4_noisy10": [108, 101, 20]}
MAX_TAIL_SIZE = {"industrial7_k4_noisy10": [14, 17, 15], "industrial8_k4_noisy10": [5, 6, 17]}


@pytest.mark.parametrize("kind", KINDS)
def test_meets_the_reference(reference: Reference, kind: str) -> None:
    assert_near(reference.means("tailedcore", kind), kind, "tailedcore")


@pytest.mark.parametrize("kind", KINDS)
def test_meets_the_reference_with_the_true_tails(reference: Reference, kind: str) -> None:
    assert_near(reference.means("tailedcore_oracle", kind), kind, "tailedcore", row=TRUE_TAILS)


@pytest.mark.parametrize("kind", list(PREDICTED))
def test_finds_the_tails_that_the_reference_finds(reference: Reference, kind: str) -> None:
    noted = [_noted_tails(reference, f"{kind}_ref{number}") for number in range(LISTS)]
    assert [len(tails["indices"]) for tails in noted] == PREDICTED[kind]
    assert [tails["max_tail_size"] for tails in noted] == MAX_TAIL_SIZE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_misses_no_tail(reference: Reference, kind: str) -> None:
    dataset = index_tree(SHARED / "data" / "industrial8", "industrial8")
    for number in range(LISTS):
        name = f"{kind}_ref{number}"
        split = import_list(SHARED / "reference" / f"{name}.csv", dataset, name)
        paths = [path for images in split.train.values() for path in (*images.normal, *images.contaminant)]
        seen = shuffled(paths)
        found = {seen[index] for index in _noted_tails(reference, name)["indices"]}
        true = {path for category in split.low for path in split.train[category].normal}
        assert len(true) == 4 * len(split.low) > 0
        assert true <= found


def _noted_tails(reference: Reference, list_name: str) -> dict[str, Any]:
    """Return what TailedCore noted of the tails of a list."""
    reference.scores("tailedcore", list_name)
    records, _ = read_records(reference.folder / "results")
    specs = {(record.spec.method, record.spec.split): record for record in records}
    noted: dict[str, Any] = specs["tailedcore", list_name].notes["tails"]
    return noted
