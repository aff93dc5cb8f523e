"""Published layouts: which runs are the paper's setting, whose numbers stand beside them, and why cells are empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from ltbench.contract.parameters import plain, resolve
from ltbench.contract.registry import method_class, method_names, presets
from ltbench.errors import DataError, UnknownNameError
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.records.record import RunRecord
from ltbench.tables.agreement import agreements, all_agree, left_out
from ltbench.tables.cells import Table
from ltbench.tables.layouts import Layout, layout_named, layouts
from ltbench.tables.measurements import measure
from ltbench.tables.paper import OWN_DRAW, PaperTable, fill, table_of, wanted_cells
from ltbench.tables.published import published_numbers
from ltbench.tables.variants import assigned, overrides

MakeRecord = Callable[..., RunRecord]
NUMBERS = published_numbers()
TAILED = PROTOCOLS["tailedcore"]
PATCHCORE = MethodInfo("patchcore", "PatchCore")


@pytest.fixture
def patchcore(make_record: MakeRecord) -> MakeRecord:
    """Return a function that makes a PatchCore record of a preset, with parameters set beside it."""

    def make(split: str, image: float, preset: str = "tailedcore", seed: int = 0, **parameters: Any) -> RunRecord:
        cls = method_class("patchcore")
        values = plain(resolve(cls, presets(cls)[preset].parameters, parameters))
        record = make_record(
            "patchcore", split, {"image_auroc": image}, info=PATCHCORE, parameters=values, protocol=TAILED, seed=seed
        )
        object.__setattr__(record, "preset", preset)
        return record

    return make


def _filled(name: str, records: Sequence[RunRecord], **more: Any) -> PaperTable:
    layout = layout_named(name)
    return fill(layout, measure(records, list(layout.metrics)), NUMBERS, **more)


def _row(table: Table, title: str) -> list[float | None]:
    (cells,) = [cells for own, cells in table.rows if own == title]
    return [cell.mean for cell in cells]


@pytest.mark.parametrize("name", layouts())
def test_a_layout_prints_every_published_cell_of_its_table(name: str) -> None:
    filled = _filled(name, [])
    printed = NUMBERS.of(filled.layout.paper, filled.layout.table)
    assert sorted(cell.key for cell in filled.published.values()) == sorted(cell.key for cell in printed)
    rows = [line for line in filled.lines if line.row.published in {cell.method for cell in printed}]
    rows = rows or list(filled.lines)  # a column's name is part of the published one's
    added = len(filled.lines) - len(rows)
    if filled.layout.paper == "ltad" or filled.layout.table in ("1", "2", "3", "4"):  # others have gaps
        assert len(filled.published) == len(rows) * len(filled.columns)
    assert added == (2 if name in ("ltad-3", "ltad-4", "ltad-5") else 0), (
        "WinCLIP and AnomalyCLIP, which LTAD leaves out"
    )


def test_methods_of_layouts_are_registered_or_reconstruct() -> None:
    assert {row.method for layout in layouts().values() for row in layout.rows if row.method} <= {*method_names()}


def test_every_published_table_of_metrics_has_a_layout() -> None:
    tables = {(cell.paper, cell.table) for cell in NUMBERS.cells}
    assert {f"{paper}-{table}" for paper, table in tables - {("tailedcore", "tailsampler")}} == set(layouts())
    assert all(name == f"{layout.paper}-{layout.table}" for name, layout in layouts().items())


@pytest.fixture
def run_of(make_record: MakeRecord) -> MakeRecord:
    """Return a function that makes a record of a method's preset, with parameters set beside it."""

    def make(name: str, preset: str, split: str, values: dict[str, float], **parameters: Any) -> RunRecord:
        cls = method_class(name)
        resolved = plain(resolve(cls, presets(cls)[preset].parameters, parameters))
        protocol = PROTOCOLS[str(presets(cls)[preset].protocol)]
        record = make_record(name, split, {}, info=cls.info, parameters=resolved, protocol=protocol)
        object.__setattr__(record, "preset", preset)
        object.__setattr__(record, "metrics", {"image_auroc": values})
        return record

    return make


def test_a_table_by_category_is_compared_and_tested(run_of: MakeRecord) -> None:
    run = run_of("uniad", "paper", "mvtec_full", {"bottle": 0.99, "carpet": 0.5, "avg": 0.745})
    filled = _filled("uniad-1", [run])
    found = {own.group: own for own in agreements("uniad-1", filled, 1.0)}
    assert set(found) == {"bottle", "carpet"}
    assert found["carpet"].difference == pytest.approx(50 - 99.8)
    table = table_of(filled, name="uniad-1", significance=True)
    assert _row(table, "UniAD")[5] == pytest.approx(99.0)
    moved = _filled("uniad-1", [run], dataset="parts")
    assert "by category" in table_of(moved, name="uniad-1").caption


def test_what_the_papers_code_ran_otherwise_decides_nothing(run_of: MakeRecord) -> None:
    """PatchCore's numbers are of one memory a category, ours of one for all."""
    filled = _filled("patchcore-readme", [run_of("patchcore", "paper", "mvtec_full", {"avg": 0.5})])
    (only,) = agreements("patchcore-readme", filled, 1.0)
    assert only.status == "doubtful" and "one memory of all categories" in only.note
    uniad = _filled("uniad-abstract", [run_of("uniad", "paper", "mvtec_full", {"avg": 0.5})])
    assert [own.status for own in agreements("uniad-abstract", uniad, 1.0)] == ["differs"]


def test_what_is_set_beside_a_preset_makes_a_row(run_of: MakeRecord) -> None:
    """A run that is one row's own setting is no variant of another row."""
    runs = [
        run_of("uniad", "paper", "mvtec_full", {"avg": 0.97}),
        run_of("uniad", "paper", "mvtec_full", {"avg": 0.96}, batch_size=64),
        run_of("uniad", "paper", "mvtec_full", {"avg": 0.95}, batch_size=32),
    ]
    filled = _filled("uniad-readme", runs)
    shown = {line.title: line.cells[0].mean for line in filled.lines}
    assert shown == pytest.approx({"UniAD (1 GPU)": 97.0, "UniAD (8 GPUs)": 96.0})
    split = "mvtec_k4_noisy10_official1"
    two = [
        run_of("tailedcore", "paper_mvtec_step", split, {"avg": 0.9}),
        run_of("tailedcore", "paper_mvtec_step", split, {"avg": 0.8}, augmentation="none"),
    ]
    titles = {line.title for line in _filled("tailedcore-logs", two).lines if line.runs}
    assert titles == {"TailedCore", "TailedCore without augmentation"}


def test_another_dataset_takes_the_place_of_several(run_of: MakeRecord) -> None:
    """The names of the layouts' datasets may hold underscores, and splits that fall together are one column."""
    run = run_of("uniad", "ader", "parts_full", {"avg": 0.9})
    filled = _filled("ader-300-epochs", [run], dataset="parts")
    assert [column.column.split for column in filled.columns] == ["parts_full"] * 3
    assert filled.lines[0].cells[0].mean == pytest.approx(90.0)
    logs = _filled("tailedcore-logs", [], dataset="my_parts")
    assert "my_parts_k4_noisy40" in {column.column.split for column in logs.columns}


def test_a_folder_of_the_users_leaves_a_run_in_the_papers_setting(make_record: MakeRecord) -> None:
    """DRAEM's paper preset needs the path of a folder; a word in its place is another setting."""
    cls = method_class("draem")

    def run(textures: str, image: float) -> RunRecord:
        values = plain(resolve(cls, presets(cls)["paper"].parameters, {"textures": textures}))
        info = MethodInfo("draem", "DRAEM")
        record = make_record("draem", "mvtec_exp100", {"image_auroc": image}, info=info, parameters=values)
        object.__setattr__(record, "preset", "paper")
        return record

    table = table_of(_filled("ltad-3", [run("/data/dtd", 0.75), run("procedural", 0.65)]), name="ltad-3")
    found = {title.partition("*")[0]: cells[0].mean for title, cells in table.rows}
    assert found["DRAEM"] == pytest.approx(75.0)
    assert found["DRAEM (paper, textures=procedural)"] == pytest.approx(65.0)


def test_what_sets_a_method_apart_is_a_footnote_of_its_line(make_record: MakeRecord) -> None:
    """AnomalyGPT's decoder is measured where the paper ran it with its language model."""
    cls = method_class("anomalygpt")

    def run(preset: str, image: float) -> RunRecord:
        chosen = presets(cls)[preset].parameters
        given = {} if "model" in chosen else {"weights": "/data/imagebind_huge.pth"}
        values = plain(resolve(cls, chosen, given))
        record = make_record("anomalygpt", "mvtec_exp100", {"image_auroc": image}, info=cls.info, parameters=values)
        object.__setattr__(record, "preset", preset)
        return record

    note = "the decoder alone, trained without the language model"
    empty = table_of(_filled("ltad-3", []), name="ltad-3")
    assert note not in [text for _, text in empty.notes], "the published number is the whole method's"
    table = table_of(_filled("ltad-3", [run("paper", 0.85), run("openclip_h", 0.75)]), name="ltad-3")
    found = {title: cells[0].mean for title, cells in table.rows}
    (mark,) = [mark for mark, text in table.notes if text == note]
    own = {title: value for title, value in found.items() if title.startswith("AnomalyGPT")}
    assert list(own.values()) == pytest.approx([85.0, 75.0])
    assert all(mark in title for title in own)
    assert [title.partition("*")[0] for title in own] == ["AnomalyGPT", "AnomalyGPT (openclip_h)"]


def test_the_papers_setting_has_the_published_numbers(patchcore: MakeRecord) -> None:
    records = [
        patchcore("mvtec_k4_noisy10_seed1", 0.80),
        patchcore("mvtec_k4_noisy10_seed2", 0.90),
        patchcore("mvtec_k4_noisy10_seed1", 0.70, preset="offline"),
        patchcore("mvtec_k4_noisy10_seed1", 0.60, coreset_ratio=0.5),
    ]
    table = table_of(_filled("tailedcore-1", records), name="tailedcore-1")
    titles = [title for title, _ in table.rows]
    assert titles[4:7] == ["PatchCore", "PatchCore (offline)", "PatchCore (tailedcore, coreset_ratio=0.5)"]
    cell = dict(table.rows)["PatchCore"][5]
    assert (cell.count, cell.published) == (2, 83.83)
    assert cell.mean == pytest.approx(85)
    assert cell.difference == pytest.approx(1.17)
    assert all(own.published_text == "" for own in dict(table.rows)["PatchCore (offline)"])
    assert dict(table.rows)["WinCLIP"][0].reason == "not run"
    assert dict(table.rows)["PatchCore"][0].reason == "not run"


def test_the_authors_lists_come_before_our_own_draw(patchcore: MakeRecord) -> None:
    own = patchcore("mvtec_k4_noisy10_seed1", 0.80)
    table = table_of(_filled("tailedcore-1", [own]), name="t")
    cell = dict(table.rows)["PatchCore"][5]
    assert cell.mean == pytest.approx(80)
    assert dict(table.notes)[cell.mark] == OWN_DRAW
    both = [own, *(patchcore(f"mvtec_k4_noisy10_official{seed}", 0.9) for seed in (1, 2))]
    cell = dict(table_of(_filled("tailedcore-1", both), name="t").rows)["PatchCore"][5]
    assert cell.mean == pytest.approx(90)
    assert (cell.count, cell.mark) == (2, "")


def test_other_datasets_take_the_layout_and_no_published_number(patchcore: MakeRecord) -> None:
    records = [patchcore("my_parts_k4_noisy10_seed1", 0.8, preset="offline"), patchcore("mvtec_k4_noisy10_seed1", 0.5)]
    records[0] = replace(records[0], dataset="my_parts")
    table = table_of(_filled("tailedcore-1", records, dataset="my_parts"), name="t")
    assert [title for title, _ in table.rows] == [
        "PaDiM",
        "HVQ-Trans",
        "WinCLIP",
        "AnomalyCLIP",
        "PatchCore (offline)",
        "SoftPatch",
        "TailedCore",
    ]
    assert _row(table, "PatchCore (offline)")[5] == pytest.approx(80)
    assert all(cell.published_text == "" for _, cells in table.rows for cell in cells)
    assert table.caption.startswith(
        "In the layout of TailedCore, Table 1: Image AUROC on my_parts, 10 % contaminants; "
    )
    assert "MVTec" not in table.caption
    chosen = table_of(_filled("tailedcore-1", records, splits=["my_parts_k4_noisy10_seed1"]), name="t")
    assert [column.split for column in chosen.columns] == ["my_parts_k4_noisy10"] * 3


def test_a_caption_is_made_of_what_is_in_the_cells(patchcore: MakeRecord) -> None:
    """Own data in LTAD's layout was captioned as "on long-tailed MVTec AD" with the paper's protocol."""
    splits = ["parts_exp20_noisy05_softpatch_disjoint", "parts_step20_noisy05_softpatch_disjoint_seed1"]
    records = [replace(patchcore(split, 0.8, preset="offline"), dataset="parts") for split in splits]
    layout = layout_named("ltad-3").model_copy(update={"rows": layout_named("tailedcore-1").rows})
    table = table_of(fill(layout, measure(records, list(layout.metrics)), NUMBERS, splits=splits), name="t")
    assert table.caption == (
        "In the layout of LTAD, Table 3: Image AUROC (Det) and Pixel AUROC (Seg) on parts, 5 % contaminants "
        "(softpatch, disjoint); mean over all categories. Percent, protocol tailedcore. "
        "Best of the measured values bold, second underlined."
    )
    for splits in (["mvtec_exp100", "parts_exp20"], ["visa_exp100"]):
        caption = table_of(_filled("ltad-3", [], splits=splits), name="t").caption
        assert caption.startswith("In the layout of LTAD, Table 3: ")
        assert "long-tailed MVTec AD" not in caption and "no contaminants" in caption
    assert (
        "on MVTec AD and parts, no contaminants"
        in table_of(_filled("ltad-3", [], splits=["mvtec_exp100", "parts_exp20"]), name="t").caption
    )
    some = table_of(_filled("ltad-3", [], splits=["mvtec_exp100"]), name="t")
    assert some.caption.startswith(layout_named("ltad-3").caption), "columns of the paper keep its caption"
    assert "In parentheses" in some.caption


def test_a_layout_honours_other_metrics_and_groups(patchcore: MakeRecord) -> None:
    """`--group` and `--metric` were passed over beside `--paper`."""
    made = patchcore("mvtec_k1_noisy10_official1", 0.85)
    record = replace(made, metrics=dict.fromkeys(("image_auroc", "image_ap"), made.metrics["image_auroc"]))
    metrics = ["image_ap", "image_auroc"]
    layout = layout_named("tailedcore-1")
    filled = fill(layout, measure([record], metrics), NUMBERS, metrics=metrics, group="avg")
    table = table_of(filled, name="t")
    assert [(own.metric, own.group) for own in table.columns[-2:]] == [("image_ap", "avg"), ("image_auroc", "avg")]
    assert len(table.columns) == 6
    cells = dict(table.rows)["PatchCore"][-2:]
    assert [cell.mean for cell in cells] == [pytest.approx(85)] * 2
    assert [cell.published for cell in cells] == [None, 80.01], "the paper prints one of both"
    assert "Image AP and Image AUROC on MVTec AD, 10 % contaminants" in table.caption
    assert "(C_" not in table.caption
    every = fill(layout, measure([record], ["image_auroc"]), NUMBERS, metrics=["image_auroc"], group="all")
    assert every.layout == layout and not every.is_changed, "what the paper prints is not changed"
    with pytest.raises(UnknownNameError, match="image_auroc"):
        fill(layout, [], NUMBERS, metrics=["image_aurok"])


def test_two_settings_of_one_row_are_not_one_cell(patchcore: MakeRecord) -> None:
    """Runs of the paper's preset under two protocols were averaged as if they were seeds."""
    split = "mvtec_k1_noisy10_official1"
    paper, other = patchcore(split, 0.8), patchcore(split, 0.5, seed=1)
    other = replace(other, spec=replace(other.spec, protocol=PROTOCOLS["common"]))
    table = table_of(_filled("tailedcore-1", [other, paper]), name="t")
    rows = {title: cells[-1].mean for title, cells in table.rows if title.startswith("PatchCore")}
    assert rows == {"PatchCore": pytest.approx(80), "PatchCore (tailedcore)*": pytest.approx(50)}
    assert dict(table.notes)["*"] == "protocol common"


def test_what_is_not_compared_is_told(patchcore: MakeRecord) -> None:
    split = "mvtec_k1_noisy10_official1"
    one, two = patchcore(split, 0.8), patchcore(split, 0.5, seed=1)
    two = replace(two, spec=replace(two.spec, split_sha256="1" * 64))
    filled = _filled("tailedcore-1", [one, two])
    assert agreements("t", filled, 1.0) == []
    told = left_out("t", filled)
    assert len(told) == 3 and all(one.spec.hash in own and "PatchCore in Step, K = 1" in own for own in told)


def test_empty_cells_say_why() -> None:
    wanted = wanted_cells(layout_named("tailedcore-1"))
    assert ("patchcore", "mvtec_k1_noisy10") in wanted and ("patchcore", "mvtec_k1_noisy10_official") in wanted
    reasons = {("patchcore", "mvtec_k1_noisy10"): "failed: out of memory"}
    table = table_of(_filled("tailedcore-1", [], reasons=reasons), name="t")
    assert {cell.reason for cell in dict(table.rows)["PatchCore"]} == {"not run", "failed: out of memory"}


def test_column_parameters_choose_the_column(make_record: MakeRecord) -> None:
    layout = Layout.model_validate(
        {
            "caption": "C.", "paper": "ltad", "table": "9", "protocol": "common",
            "columns": [
                {"title": word, "split": "mvtec_step100", "suffix": f" | {word}", "parameters": {"abnormal": word}}
                for word in ("a broken", "a damaged")
            ],
            "metrics": {"image_auroc": ""}, "groups": {"avg": ""},
            "rows": [{"published": "a", "method": "m", "parameters": {"normal": "a"}}],
        }
    )  # fmt: skip
    records = [
        make_record(values={"image_auroc": 0.8}, parameters={"normal": "a", "abnormal": "a broken"}),
        make_record(values={"image_auroc": 0.7}, parameters={"normal": "a", "abnormal": "a damaged"}),
        make_record(values={"image_auroc": 0.6}, parameters={"normal": "b", "abnormal": "a damaged"}),
    ]
    filled = fill(layout, measure(records, ["image_auroc"]), NUMBERS)
    rows = table_of(filled, name="t").rows
    assert [title for title, _ in rows] == ["a", "a (defaults)"], "the method is not installed, so no setting is sure"
    assert [cell.mean for cell in rows[1][1]] == [pytest.approx(80), pytest.approx(70)]
    assert [cell.published for cell in rows[0][1]] == [84.12, 82.95]


def test_hyper_parameters_are_shown_as_they_are_given() -> None:
    values = {"b": False, "a": "x y", "layers": (2, 3), "none": None, "rate": 0.5}
    assert assigned(values) == ["a=x y", "b=false", "layers=[2, 3]", "none=null", "rate=0.5"]


def test_overrides_are_what_a_preset_does_not_say() -> None:
    cls = method_class("patchcore")
    values = plain(resolve(cls, presets(cls)["offline"].parameters))
    assert overrides("patchcore", "offline", values) == {}
    assert overrides("patchcore", "offline", values | {"coreset_ratio": 0.3}) == {"coreset_ratio": 0.3}
    assert overrides("patchcore", "gone", values) is None
    assert overrides("not_installed", "defaults", {}) is None


def test_agreement_has_a_tolerance_and_forgives_doubtful_numbers(patchcore: MakeRecord) -> None:
    filled = _filled("tailedcore-1", [patchcore("mvtec_k1_noisy10_official1", 0.8101)])  # printed: 80.01
    (found,) = [own for own in agreements("tailedcore-1", filled, 1.0) if own.group == "avg"]
    assert (found.status, found.published) == ("agrees", 80.01)
    assert found.difference == pytest.approx(1.0)
    assert not all_agree(agreements("tailedcore-1", filled, 0.9))
    far = _filled("tailedcore-1", [patchcore("mvtec_k4_noisy10_official1", 0.1)])
    (doubtful,) = [own for own in agreements("tailedcore-1", far, 1.0) if own.group == "avg"]
    assert doubtful.status == "doubtful" and "its parts give" in doubtful.note


def test_images_drawn_by_ltbench_decide_nothing(patchcore: MakeRecord) -> None:
    filled = _filled("tailedcore-1", [patchcore("mvtec_k1_noisy10_seed1", 0.1)])
    found = agreements("tailedcore-1", filled, 1.0)
    assert found and all(own.status == "doubtful" and OWN_DRAW in own.note for own in found)
    assert all_agree(found)
    both = [patchcore("mvtec_k1_noisy10_seed1", 0.1), patchcore("mvtec_k1_noisy10_official1", 0.1)]
    theirs = agreements("tailedcore-1", _filled("tailedcore-1", both), 1.0)
    assert {own.status for own in theirs if OWN_DRAW not in own.note} >= {"differs"}
    assert not all_agree(theirs)


@pytest.mark.parametrize("name", [name for name in layouts() if name.startswith(("ltad-", "tailedcore-"))])
def test_every_column_of_both_papers_has_the_authors_lists(name: str) -> None:
    for column in layout_named(name).columns:
        assert column.official == f"{column.split}_official"


def test_unknown_layouts_and_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ltad-3'"):
        layout_named("ltad3")
    with pytest.raises(DataError, match="Install ltbench anew"):
        layouts(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("ltad-3: {caption: x}\n")
    with pytest.raises(DataError, match="paper"):
        layouts(tmp_path / "bad.yaml")


def test_presets_of_layouts_are_the_rows_they_stand_for() -> None:
    """Each preset that a row names exists, and gives the hyper-parameters by which the row is known."""
    checked = set()
    for name, layout in layouts().items():
        for row in layout.rows:
            if row.method not in method_names():
                continue
            known = presets(method_class(row.method))
            for pattern in row.presets:
                matching = [preset for preset in known if fnmatchcase(preset, pattern)]
                assert matching, f"{name}, {row.published}: no preset {pattern!r} of {row.method}"
                for preset in matching:
                    values = plain(resolve(method_class(row.method), known[preset].parameters))
                    for key, value in row.parameters.items():
                        assert values.get(key) == value, f"{name}, {row.published}: {key} of preset {preset}"
                    assert values | plain(resolve(method_class(row.method), row.beside)) != values or not row.beside
                    checked.add((row.method, preset))
    assert {("patchcore", "tailedcore"), ("tailedcore", "paper_visa")} <= checked


def test_no_preset_stands_for_two_rows_of_a_table() -> None:
    for name, layout in layouts().items():
        for method in {row.method for row in layout.rows if row.method in method_names()}:
            for preset, settings in presets(method_class(str(method))).items():
                values = plain(resolve(method_class(str(method)), settings.parameters))
                rows = [
                    row.published
                    for row in layout.rows
                    if row.method == method and all(values.get(key) == own for key, own in row.required.items())
                ]
                assert len(rows) <= 1, f"{name}: {preset} of {method} is {rows}"
