"""What papers say of their tables follows from their tables, or is marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.errors import DataError
from ltbench.tables.claims import Claim, Verdict, printed, published_claims, worth
from ltbench.tables.published import CLAIMS, published_numbers

Run = Callable[..., tuple[int, str, str]]

BEST = Claim("p", "1", "best", "A", (), "", 50.0, 0.0, "", "", "source")
GAIN = Claim("p", "1", "gain", "A", ("B",), "image_auroc", 2.0, 0.0, "", "", "source")
NUMBERS = {
    ("s1", "image_auroc", "avg"): {"A": 90.0, "B": 88.0, "C": 95.0},
    ("s2", "image_auroc", "avg"): {"A": 80.0, "B": 79.0},
    ("s1", "pixel_auroc", "avg"): {"A": 70.0, "B": 90.0},
    ("s3", "pixel_auroc", "avg"): {"B": 90.0},
}


@pytest.mark.parametrize("claim", published_claims(), ids=lambda claim: f"{claim.layout}-{claim.kind}-{claim.metric}")
def test_what_the_table_gives_is_recomputed(claim: Claim) -> None:
    value, columns = worth(claim, printed(claim, published_numbers()))
    assert columns > 0
    assert value == pytest.approx(claim.recomputed, abs=0.005)
    if claim.flag == "":
        assert claim.stated is not None and claim.recomputed >= claim.stated, "what does not follow is flagged"
    if claim.flag == "inconsistent":
        assert claim.stated is not None and abs(claim.recomputed - claim.stated) > 0.05


def test_the_two_contradictions_are_noted() -> None:
    noted = {(claim.table, claim.flag) for claim in published_claims() if claim.flag}
    assert ("5", "inconsistent") in noted
    assert {("3", "unverified"), ("4", "unverified"), ("5", "unverified")} <= noted


def test_shares_and_gains() -> None:
    share, columns = worth(BEST, NUMBERS)
    assert columns == 3
    assert share == pytest.approx(100 / 3)
    assert worth(GAIN, NUMBERS) == (1.5, 2)
    assert worth(GAIN, {}) == (None, 0)


def test_a_claim_holds_where_all_of_it_was_measured() -> None:
    assert Verdict(GAIN, 1.5, 2, 2).holds(1.0) is True
    assert Verdict(GAIN, 0.5, 2, 2).holds(1.0) is False
    assert Verdict(BEST, 49.0, 2, 2).holds(5.0) is False, "a share has no tolerance"
    assert Verdict(GAIN, 9.0, 1, 2).holds(1.0) is None


def test_a_row_that_is_no_claim_is_named(tmp_path: Path) -> None:
    header = "paper,table,kind,method,against,metric,stated,recomputed,flag,note,source"
    (tmp_path / CLAIMS).write_text(f"{header}\nltad,3,worst,LTAD,,,1,1,,,x\n")
    with pytest.raises(DataError, match="line 2"):
        published_claims(tmp_path)
    with pytest.raises(DataError, match="Install"):
        published_claims(tmp_path / "none")


def test_the_command_lists_claims_without_runs(ltbench: Run) -> None:
    code, out, _ = ltbench("compare", "ltad-5", "--claims", "--json")
    assert code == 0
    rows = json.loads(out)["claims"]
    assert {row["claim"]["table"] for row in rows} == {"5"}
    assert all(row["holds"] is None and row["total"] > 0 for row in rows)
    code, _, err = ltbench("compare", "ltad-9", "--claims")
    assert code == 2 and "Expected" in err
