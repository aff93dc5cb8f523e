"""Published numbers: what can be computed from others is, so that a typing error fails; odd cells stay flagged."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest

from ltbench.errors import DataError, UnknownNameError
from ltbench.splits.recipe import parse_name
from ltbench.tables.published import COLUMNS, Published, published_numbers
from tests.methods.reference import needs_shared
from tests.shared import SHARED

NUMBERS = published_numbers()
SHARE_HIGH = {"mvtec": 7 / 15, "visa": 6 / 12}
"""LTAD's majority half of the categories."""
TAILS = {"mvtec": 9 / 15, "visa": 7 / 12}
"""TailedCore's share of K-shot categories."""
CELLS = {  # rows x columns of each printed table
    ("ltad", "3"): 8 * 4 * 2, ("ltad", "4"): 5 * 6 * 2, ("ltad", "5"): 5 * 6 * 2, ("ltad", "6"): 8 * 6,
    ("ltad", "7"): 4 * 6, ("ltad", "8"): 3 * 6, ("ltad", "9"): 4 * 4 * 2,
    **{("tailedcore", table): 7 * 3 * 3 for table in "1234"},
}  # fmt: skip


def _rows(*papers_tables: tuple[str, str]) -> Iterator[tuple[dict[str, float], list[Published]]]:
    """Yield the groups of each row and metric of some tables: group -> value, and the cells."""
    rows = defaultdict(list)
    for paper, table in papers_tables:
        for cell in NUMBERS.of(paper, table):
            rows[cell.paper, cell.table, cell.split, cell.method, cell.metric].append(cell)
    for cells in rows.values():
        yield {cell.group: cell.value for cell in cells if cell.value is not None}, cells


@pytest.mark.parametrize(("paper", "table"), CELLS)
def test_every_printed_cell_is_there(paper: str, table: str) -> None:
    assert len(NUMBERS.of(paper, table)) == CELLS[paper, table]


@pytest.mark.parametrize("table", ["6", "7", "8"])
def test_ltad_all_is_seven_high_and_eight_low(table: str) -> None:
    rows = list(_rows(("ltad", table)))
    assert rows
    for values, cells in rows:
        computed = (7 * values["high"] + 8 * values["low"]) / 15
        assert computed == pytest.approx(values["avg"], abs=0.0081), cells[0].method


def test_ltad_tables_agree_with_one_another() -> None:
    """LTAD without SAD is a row of tables 3 and 6, the best SAD of tables 7 and 9; UniAD of 3 and 6 disagree."""
    for metric in ("image_auroc", "pixel_auroc"):
        main, vae = (
            NUMBERS.find("ltad", table, "mvtec_step100", method, metric, "avg")
            for table, method in (("3", "LTAD w/o SAD"), ("6", '6.8 "object" init (LTAD w/o SAD)'))
        )
        assert main is not None and vae is not None and main.value == vae.value
        single, best = (
            NUMBERS.find("ltad", table, "mvtec_step100", method, metric, "avg")
            for table, method in (("7", "7.4 max, single"), ("9", "a | a broken"))
        )
        assert single is not None and best is not None and single.value == best.value
    for table, method, value in (("3", "UniAD", 83.37), ("6", "6.1 UniAD", 82.63)):
        cell = NUMBERS.find("ltad", table, "mvtec_step100", method, "image_auroc", "avg")
        assert cell is not None and cell.value == value and cell.flag == "inconsistent"


def test_ltad_gains_are_those_of_its_text() -> None:
    """LTAD beats UniAD on image AUROC in every column but MVTec exp200, where it does not reach it."""
    for table, columns in (("3", 4), ("4", 6), ("5", 6)):
        cells = {(c.split, c.method): c.value for c in NUMBERS.of("ltad", table) if c.metric == "image_auroc"}
        worse = [split for split, method in cells if method == "LTAD" and cells[split, "LTAD"] <= cells[split, "UniAD"]]  # type: ignore[operator]
        assert worse == (["mvtec_exp200"] if table == "3" else [])
        assert len({split for split, _ in cells}) == columns


@pytest.mark.parametrize("table", "1234")
def test_tailedcore_cells_that_cannot_be_are_flagged_and_no_others(table: str) -> None:
    """`all` lies between its parts, and is their weighted mean where the tail has a fixed share."""
    for values, cells in _rows(("tailedcore", table)):
        dataset, split = cells[0].dataset, cells[0].split
        low, high, every = values["low"], values["high"], values["avg"]
        outside = not min(low, high) - 0.005 <= every <= max(low, high) + 0.005
        computed = TAILS[dataset] * low + (1 - TAILS[dataset]) * high
        wrong = outside or ("pareto" not in split and abs(computed - every) > 0.0101)
        (flag,) = [cell.flag for cell in cells if cell.group == "avg"]
        assert (flag == "inconsistent") == wrong, (cells[0].method, split, values, computed)


def test_zero_shot_methods_score_all_categories_alike() -> None:
    """WinCLIP and AnomalyCLIP train on nothing, so `all` is the same under every split."""
    for table, method in product("1234", ("WinCLIP", "AnomalyCLIP")):
        values = {c.value for c in NUMBERS.of("tailedcore", table) if c.method == method and c.group == "avg"}
        assert len(values) == 1


def test_uniads_categories_average_to_its_abstract() -> None:
    for table, metric in (("1", "image_auroc"), ("2", "pixel_auroc")):
        categories = [cell.value for cell in NUMBERS.of("uniad", table)]
        abstract = NUMBERS.find("uniad", "abstract", "mvtec_full", "UniAD", metric, "avg")
        assert len(categories) == 15 and abstract is not None
        assert fmean(value or 0 for value in categories) == pytest.approx(abstract.value, abs=0.051)
    cifar = {cell.group: cell.value for cell in NUMBERS.of("uniad", "cifar10")}
    assert cifar.pop("avg") == pytest.approx(fmean(value or 0 for value in cifar.values()), abs=0.051)


def test_the_categories_of_anomalibs_dinomaly_average_to_its_mean() -> None:
    cells = [cell for cell in NUMBERS.of("dinomaly", "anomalib") if cell.metric == "image_auroc"]
    values = {cell.group: cell.value or 0 for cell in cells}
    mean = values.pop("avg")
    assert len(values) == 15
    assert fmean(values.values()) == pytest.approx(mean, abs=0.051)


def test_re_reported_numbers_are_the_papers() -> None:
    for cell in NUMBERS.of("ltoad"):
        if cell.method == "LTAD":
            original = NUMBERS.find("ltad", "3", cell.split, "LTAD", cell.metric, "avg")
            assert original is not None and original.value == cell.value


LOGGED = {
    "PatchCore": ("patchcore_mvtec_01",),
    "SoftPatch": ("softpatch_mvtec_01",),
    "TailedCore without the tail memory": ("aatailedpatch_mvtec_12",),
    "TailedCore without augmentation": ("aatailedpatch_mvtec_13",),
    "TailedCore": ("aatailedpatch_mvtec_09", "aatailedpatch_mvtec_10", "aatailedpatch_mvtec_11"),
}
"""Row -> names of the authors' runs; those of the whole method differ by profile (09 step, 10 Pareto, 11 VisA)."""


@needs_shared
def test_the_authors_logs_average_to_the_table() -> None:
    logs = json.loads((SHARED / "splits" / "author_logs.json").read_text())
    official = json.loads((SHARED / "splits" / "official30.json").read_text())
    checked = 0
    for cell in NUMBERS.of("tailedcore", "logs"):
        recipe = parse_name(cell.split)
        kind = "pareto_random" if recipe.profile.kind == "pareto" else "step_random"
        ending = "" if recipe.profile.kind == "pareto" else f"_tk{recipe.profile.shots}_tr60"
        base = f"{cell.dataset}_{kind}_nr{int(recipe.noise_percent):02}{ending}"
        number = {"pareto": 1}.get(recipe.profile.kind, 0) if cell.dataset == "mvtec" else 2
        run = LOGGED[cell.method][number if len(LOGGED[cell.method]) > 1 else 0]
        means = []
        for seed in range(101, 106):
            log = logs[f"{base}_seed{seed}|{run}"]
            part = {"high": "head", "low": "tail"}.get(cell.group)
            categories = official[f"{base}_seed{seed}"][part] if part else list(log)
            means.append(fmean(log[category][cell.metric == "pixel_auroc"] for category in categories))
        assert fmean(means) == pytest.approx(cell.value, abs=0.00501), cell
        checked += 1
    assert checked == 208
    for profile in ("k4", "k1"):
        for table, metric in (("1", "image_auroc"), ("3", "pixel_auroc")):
            split = f"mvtec_{profile}_noisy10"
            printed = NUMBERS.find("tailedcore", table, split, "TailedCore", metric, "avg")
            logged = NUMBERS.find("tailedcore", "logs", split, "TailedCore", metric, "avg")
            assert printed is not None and logged is not None
            assert printed.value == pytest.approx(logged.value, abs=0.0101)


def test_what_nothing_computes_is_as_it_was_read() -> None:
    """A digest of the transcription, of every value: a change has to be meant. Rewrite it with the command below.

    python -c "from tests.tables.test_published import digest; print(digest())"
    """
    assert digest() == "9375df4087317259"


def digest() -> str:
    """Return the hash of every cell's key, value and flag."""
    lines = [f"{'|'.join(cell.key)}={cell.value} {cell.flag}" for cell in NUMBERS.cells]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_unknown_papers_and_tables_are_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tailedcore'"):
        NUMBERS.of("tailedcor")
    with pytest.raises(UnknownNameError, match="table of ltad"):
        NUMBERS.of("ltad", "12")


GOOD_ROW = ["ltad", "3", "mvtec", "mvtec_exp100", "M", "image_auroc", "avg", "88.86", "", "", "somewhere"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "8886"}, "a percentage, got 8886"),
        ({"value": "88,86"}, "Expected a percentage"),
        ({"value": ""}, "a value, or the flag"),
        ({"flag": "odd"}, "a flag of"),
        ({"flag": "inconsistent"}, "a note beside a flag"),
        ({"source": ""}, "a source"),
        ({"paper": "tailedcore"}, "paper 'ltad'"),
    ],
)
def test_what_is_no_published_number_is_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    row = dict(zip(COLUMNS, GOOD_ROW, strict=True)) | change
    lines = [",".join(COLUMNS), ",".join(f'"{row[column]}"' for column in COLUMNS)]
    (tmp_path / "ltad.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        published_numbers.__wrapped__(tmp_path)


def test_a_number_twice_and_no_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got no csv"):
        published_numbers.__wrapped__(tmp_path)
    (tmp_path / "ltad.csv").write_text("\n".join([",".join(COLUMNS), *[",".join(GOOD_ROW)] * 2]) + "\n")
    with pytest.raises(DataError, match="twice"):
        published_numbers.__wrapped__(tmp_path)
    (tmp_path / "ltad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="Expected the columns"):
        published_numbers.__wrapped__(tmp_path)
