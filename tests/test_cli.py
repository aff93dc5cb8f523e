"""The command line as a user calls it: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ltbench.cli import tables
from ltbench.contract.parameters import plain, resolve
from ltbench.contract.registry import method_class, presets
from ltbench.datasets.index import SOURCES
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.records.record import RunRecord, new_folder, run_folder, write_record
from ltbench.runs.claims import try_claim
from ltbench.sweeps import tabulation
from tests.conftest import Run


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['ltbench', '--help']\n"
        "from ltbench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'timm', 'faiss', 'sklearn', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "command", ["run", "table", "compare", "make-splits", "check", "datasets", "methods", "datasets verify"]
)
def test_every_command_has_help_with_examples(ltbench: Run, command: str) -> None:
    code, out, _ = ltbench(*command.split(), "--help")
    assert code == 0
    assert "Examples:" in out


def test_help_says_which_metrics_a_table_shows() -> None:
    assert ",".join(tabulation.METRICS) == tables.METRICS


def test_a_run_and_its_table(ltbench: Run, parts: Path, tmp_path: Path) -> None:
    arguments = ["run", "--method", "mean_image", "--split", "parts_step2", "--data-root", parts, "--json"]
    code, out, _ = ltbench(*arguments)
    assert code == 0
    printed: dict[str, Any] = json.loads(out)
    assert Path(printed["run"]).is_dir()
    assert set(printed["metrics"]["image_auroc"]) == {"bolt", "nut", "high", "low", "avg"}
    assert printed["seconds"]["fit"] >= 0
    assert not printed["reused"]
    assert json.loads(ltbench(*arguments)[1])["reused"]
    ltbench(*arguments, "--seed", "1")

    code, out, _ = ltbench("table", "--dataset", "parts", "--metric", "image_auroc", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert code == 0
    assert float(row["mean"]) == pytest.approx(100 * printed["metrics"]["image_auroc"]["avg"], abs=1e-4)
    assert row["seeds"] == "2"
    assert "| Mean image" in ltbench("table", "--group", "all")[1]


def test_a_run_prints_a_table_for_people(ltbench: Run, parts: Path) -> None:
    code, out, _ = ltbench("run", "-m", "mean_image", "-s", "parts_full", "--data-root", parts)
    assert code == 0
    assert "Mean image on parts_full, protocol common" in out
    assert "no value (" in out, "the category without masks says why its cells are empty"
    assert "found, not repeated" in ltbench("run", "-m", "mean_image", "-s", "parts_full", "--data-root", parts)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "mean_imag", "-s", "parts_full"], "Did you mean 'mean_image'"),
        (["-m", "mean_image", "-s", "parts_ful"], "Did you mean 'full'"),
        (["-m", "mean_image", "-s", "parts_step0"], "imbalance"),
        (["-m", "mean_image", "-s", "parts_step2_noisy101"], "100"),
        (["-m", "mean_image", "-s", "parts_full", "--preset", "papr"], "preset"),
        (["-m", "mean_image", "-s", "parts_full", "-p", "smoothing=1"], "Did you mean 'smoothing_sigma'"),
        (["-m", "mean_image", "-s", "parts_full", "-p", "smoothing_sigma=-1"], "smoothing_sigma"),
        (["-m", "mean_image", "-s", "parts_full", "-p", "smoothing_sigma"], "key=value"),
        (["-m", "mean_image", "-s", "parts_full", "--protocol", "commn"], "Did you mean 'common'"),
        (["-m", "mean_image", "-s", "parts_full", "--device", "cuda:7"], "--device cpu"),
        (["-m", "mean_image", "-s", "parts_full", "--cache-size", "big"], "--cache-size"),
        (["-m", "mean_image", "-s", "parts_full", "--precision", "bf16"], "backbone_precision"),
        (["-m", "patchcore", "-s", "parts_full", "--precision", "half"], "'tf32'"),
        (
            ["-m", "patchcore", "-s", "parts_full", "--precision", "tf32", "--preset", "offline"],
            "Expected a CUDA device",
        ),
        (["-m", "mean_image", "-s", "absent.json"], "absent.json"),
        (["-m", "mean_image", "-s", "mvtec_full"], "mvtec"),
        (["-m", "mean_image", "-s", "nothing_full"], "nothing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(ltbench: Run, parts: Path, arguments: list[str], message: str) -> None:
    code, out, err = ltbench("run", *arguments, "--data-root", parts)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not list(Path("results").glob("runs/*"))


def test_a_missing_data_root_is_told(ltbench: Run) -> None:
    assert "--data-root" in ltbench("run", "-m", "mean_image", "-s", "mvtec_full")[2]
    code, _, err = ltbench("run", "-m", "mean_image", "-s", "mvtec_full", "--data-root", "nowhere")
    assert code == 2
    assert "nowhere" in err


def test_the_data_root_comes_from_the_environment(
    ltbench: Run, parts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LTBENCH_DATA", str(parts))
    monkeypatch.setenv("LTBENCH_RESULTS", str(tmp_path / "elsewhere"))
    code, out, _ = ltbench("run", "-m", "mean_image", "-s", "parts_full", "--json")
    assert code == 0
    assert json.loads(out)["run"].startswith(str(tmp_path / "elsewhere"))


def test_a_run_says_where_contaminants_were_capped(ltbench: Run, parts: Path) -> None:
    code, _, err = ltbench("run", "-m", "mean_image", "-s", "parts_full_noisy100", "--data-root", parts)
    assert code == 0
    assert "bolt: 4 contaminants of 8 asked for" in err.replace("\n", " ")


def test_a_table_is_written_in_the_format_of_its_file(ltbench: Run, parts: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        arguments = ("run", "-m", "mean_image", "-s", "parts_step2", "--data-root", parts, "--seed", seed)
        assert ltbench(*arguments)[0] == 0
    metrics = ("--metric", "image_auroc,fit_seconds")
    for name, begin in (("t.tex", "% needs"), ("t.md", "| Method"), ("t.csv", "method,"), ("t.html", "<!doctype")):
        code, out, _ = ltbench("table", *metrics, "--out", name)
        assert (code, out) == (0, f"{name}\n")
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(begin)
    code, out, _ = ltbench("table", *metrics, "--digits", "1", "--sort", "fit_seconds", "--group", "high,1-5")
    assert code == 0 and "parts\\_step2 Image AUROC 1–5" in out.replace("parts_step2", "parts\\_step2")
    ((row),) = [line for line in out.splitlines() if line.startswith("| Mean image")]
    assert re.fullmatch(r"\| Mean image +\|( +\*\*\d+\.\d\*\* \|){2} +\*\*\d+\.\d ± \d+\.\d\*\* \|", row), row
    assert "±" not in ltbench("table", *metrics, "--no-std")[1]
    text = ltbench("table", *metrics, "--format", "text", "--per", "metric", "--transpose")[1]
    assert text.index("Image AUROC") < text.index("Fit (s)") and "Training set" in text
    for wrong, told in (
        (("--out", "t.docx"), "Expected a file named .txt, .md, .tex, .csv, .html"),
        (("--out", "no/t.tex", "--sort", "hihg"), "Name some of: parts_step2"),
        (("--group", "5-1"), "Mend --group"),
        (("--metric", "fit_secnds"), "Did you mean 'fit_seconds'"),
    ):
        code, out, err = ltbench("table", *wrong)
        assert (code, out) == (2, "") and told in err, err
    assert not (tmp_path / "no").exists()


def test_a_table_of_nothing_says_what_to_do(ltbench: Run) -> None:
    code, _, err = ltbench("table")
    assert code == 2
    assert "ltbench run" in err


def test_splits_of_a_folder(ltbench: Run, parts: Path) -> None:
    arguments = ["--folder", parts / "parts", "--name", "parts", "--profile", "step2", "--noise", "25", "--seed", "3"]
    code, out, _ = ltbench("make-splits", *arguments, "--out", "made")
    assert "; imbalance 2 (8 to 4)" in out
    assert code == 0
    path = Path("made/parts/parts_step2_noisy25_seed3.json")
    assert str(path) in out
    split = json.loads(path.read_text())
    assert list(split) == ["name", "dataset", "recipe", "seed", "high", "low", "counts", "train", "test", "sha256"]
    assert split["counts"]["bolt"] == {"normal": 8, "contaminant": 2}
    code, out, _ = ltbench("run", "-m", "mean_image", "-s", path, "--data-root", parts, "--json")
    assert code == 0
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    code, _, err = ltbench("run", "-m", "mean_image", "-s", path, "--data-root", parts)
    assert code == 2
    assert "edited by hand" in err


def test_splits_by_name_and_their_check(ltbench: Run, parts: Path) -> None:
    assert ltbench("make-splits", "mvtec_step100", "--out", "made")[0] == 0
    assert ltbench("make-splits", "mvtec_step100", "--check", "--out", "made")[0] == 0
    path = Path("made/mvtec/mvtec_step100.json")
    path.write_text(path.read_text().replace("000.png", "999.png", 1))
    code, out, _ = ltbench("make-splits", "mvtec_step100", "--check", "--out", "made")
    assert code == 1
    assert "mvtec_step100" in out
    code, _, err = ltbench("make-splits")
    assert code == 2
    assert "--all" in err


LISTED = "tile,carpet,zipper,pill,bottle,screw,hazelnut,wood,cable,capsule,leather,transistor,metal_nut,grid,toothbrush"


def test_the_authors_draw_on_a_listing_of_ones_own(ltbench: Run) -> None:
    """The order of TailedCore's 5 % splits gives their sizes: carpet 149, hazelnut 391, grid 237 (seed 101)."""
    name = "mvtec_pareto_authors_noisy05_seed101"
    code, out, _ = ltbench("make-splits", name, "--listing", LISTED, "--out", "made")
    assert code == 0
    assert "1085 normal, 54 contaminants" in out
    counts = json.loads(Path(f"made/mvtec/{name}_listed.json").read_text())["counts"]
    assert counts["carpet"] == {"normal": 149, "contaminant": 9}
    code, _, err = ltbench("make-splits", "mvtec_pareto_noisy05", "--listing", LISTED, "--out", "made")
    assert code == 2
    assert "Only the authors' draw depends on it" in err


def test_options_that_would_be_passed_over_are_refused(ltbench: Run, parts: Path) -> None:
    for arguments, options in (
        (["mvtec_k4_noisy10", "--noise-rule", "softpatch"], "--noise-rule"),
        (["mvtec_k4", "--noise", "10", "--disjoint", "--seed", "2"], "--noise, --seed, --disjoint"),
        (["--official", "tailedcore", "--profile", "k1"], "--profile"),
        (["--from-list", "x.csv", "--folder", parts / "parts", "--name", "mine", "--reversed"], "--reversed"),
    ):
        code, _, err = ltbench("make-splits", *arguments, "--out", "made")
        assert code == 2
        assert f"Expected {options} beside --folder alone" in err
        assert "mvtec_k4_noisy10_softpatch_disjoint_seed3" in err
    assert not Path("made").exists()
    for rule in ("softpatch", "open-iad"):
        code, out, _ = ltbench("make-splits", f"mvtec_full_noisy10_{rule}_disjoint", "--out", "made")
        assert code == 0
        assert f"mvtec_full_noisy10_{rule}_disjoint.json" in out


def test_datasets(ltbench: Run, parts: Path) -> None:
    code, out, _ = ltbench("datasets")
    assert code == 0
    assert all(name in out for name in ("mvtec", "visa", "dagm", "shapes", "CC BY-NC-SA"))
    assert set(json.loads(ltbench("datasets", "--json")[1])) == set(SOURCES)
    assert "\\n" not in ltbench("datasets")[1]  # a layout has lines
    assert ltbench("datasets", "verify", "parts", "--data-root", parts)[0] == 0
    code, out, err = ltbench("datasets", "verify", "mvtec", "--data-root", parts)
    assert code == 2
    assert "mvtec" in err


def test_methods(ltbench: Run) -> None:
    assert "patchcore" in ltbench("methods")[1]
    assert json.loads(ltbench("methods", "--json")[1])["mean_image"]["presets"] == ["offline"]
    code, out, _ = ltbench("methods", "show", "mean_image")
    assert code == 0
    assert "smoothing_sigma" in out
    assert "privileges, at most: uses_categories" in ltbench("methods", "show", "draem")[1]
    shown = json.loads(ltbench("methods", "show", "patchcore", "--preset", "offline", "--json")[1])
    values = {row["name"]: row["value"] for row in shown["hyper_parameters"]}
    assert values["backbone"] == "tf_efficientnet_lite0"
    assert shown["trainable_parameters"] is None, "it was not asked"
    assert "it does not tell" in ltbench("methods", "show", "patchcore", "--count")[1]
    counted = json.loads(ltbench("methods", "show", "mkd", "--count", "--json")[1])
    assert counted["trainable_parameters"] > 1000
    assert ltbench("methods", "show", "patchcor")[0] == 2


def test_check(ltbench: Run) -> None:
    code, out, _ = ltbench("check", "mean_image", "--json")
    assert code == 0
    assert all(result["passed"] for result in json.loads(out).values())


def test_doctor(ltbench: Run, parts: Path) -> None:
    code, out, _ = ltbench("doctor", "--data-root", parts, "--json")
    report = json.loads(out)
    assert code == (0 if report["healthy"] else 1)
    assert {"Python", "PyTorch", "FAISS", "Weights", "Results", "Cache"} <= {row["topic"] for row in report["findings"]}
    Path("results").write_text("a file where the folder should be")
    code, out, _ = ltbench("doctor", "--results", "results/below")
    assert code == 1
    assert "--results" in out


def test_version(ltbench: Run) -> None:
    assert ltbench("--version")[1].strip()[0].isdigit()


def test_a_published_table_and_the_comparison_with_it(ltbench: Run, parts: Path) -> None:
    code, out, _ = ltbench("table", "--paper", "ltad-3", "--published", "below", "--format", "markdown")
    assert code == 0
    assert "(88.86)" in out and "No value (not run): " in out and "UniAD, AnomalyGPT, LTAD w/o SAD, LTAD" in out
    assert re.search(r"No value \(not applicable: RegAD needs at least 2 [^)]*\): RegAD in step200\.", out)
    assert ltbench("run", "-m", "mean_image", "-s", "parts_k4_noisy10", "--data-root", str(parts))[0] == 0
    code, out, _ = ltbench("table", "--paper", "tailedcore-1", "--dataset", "parts", "--format", "csv")
    assert code == 0 and "parts_k4_noisy10" in out and "mvtec" not in out.replace("MVTec", "")
    code, out, _ = ltbench(
        "table", "--paper", "ltad-3", "-s", "parts_k4_noisy10", "--metric", "image_ap", "--group", "low"
    )
    assert code == 0 and "Image AP on parts, 10 % contaminants; mean over the minority categories" in out
    assert "Det" not in out and "MVTec" not in out and "88.86" not in out
    code, _, err = ltbench("table", "--paper", "ltad-3", "--metric", "image_app")
    assert (code, "Did you mean 'image_ap'" in err) == (2, True)
    code, _, err = ltbench("compare")
    assert code == 2
    assert "Expected runs in the setting of a published table" in err
    code, _, err = ltbench("table", "--paper", "ltad-33")
    assert (code, "Did you mean 'ltad-3'" in err) == (2, True)


@pytest.mark.parametrize(("value", "code"), [(0.8, 0), (0.5, 1)])
def test_compare_fails_beyond_the_tolerance(
    ltbench: Run, tmp_path: Path, make_record: Callable[..., RunRecord], value: float, code: int
) -> None:
    """Published for PatchCore under mvtec_k1_noisy10: 86.36 tail, 70.48 head, 80.01 all."""
    cls = method_class("patchcore")
    parameters = plain(resolve(cls, presets(cls)["tailedcore"].parameters))
    info = MethodInfo("patchcore", "PatchCore")
    made = make_record(
        "patchcore", "mvtec_k1_noisy10_official1", {"image_auroc": value}, info=info, parameters=parameters,
        protocol=PROTOCOLS["tailedcore"],
    )  # fmt: skip
    metrics = {"image_auroc": {"avg": value, "low": 0.8636, "high": 0.7048}}
    record = replace(made, preset="tailedcore", metrics=metrics)
    with new_folder(run_folder(tmp_path / "results", record.spec)) as folder:
        write_record(folder, record)
    returned, out, _ = ltbench("compare", "tailedcore-1", "--tolerance", "0.5", "--json")
    assert returned == code
    numbers = {row["group"]: row for row in json.loads(out)["numbers"]}
    assert numbers["avg"]["status"] == ("differs" if code else "agrees")
    assert numbers["avg"]["difference"] == pytest.approx(100 * value - 80.01)
    assert numbers["avg"]["over"] == "1 list x 1 seed"
    assert numbers["low"]["status"] == numbers["high"]["status"] == "agrees"
    text = ltbench("compare", "tailedcore-1")[1]
    assert "3 numbers are both measured and published" in text


def test_what_a_method_prints_is_not_among_the_results(
    ltbench: Run, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = method_class("mean_image")
    fit = cls.fit

    def talkative(self: Any, *arguments: Any) -> Any:
        print("fitting!")
        return fit(self, *arguments)

    monkeypatch.setattr(cls, "fit", talkative)
    code, out, err = ltbench("run", "-m", "mean_image", "-s", "parts_full", "--data-root", parts, "--json")
    assert code == 0
    assert json.loads(out)["metrics"]
    assert err == "fitting!\n"


def test_a_wrong_backbone_is_answered_with_the_nearest(ltbench: Run) -> None:
    code, _, err = ltbench("run", "-m", "patchcore", "-s", "shapes_step20", "-p", "backbone=wide_resnet5_2")
    assert code == 2
    assert "'wide_resnet50_2'" in err and err.count("'") == 2 * 6
    assert len(err) < 400


def test_who_holds_a_run_is_told_and_it_can_be_taken(ltbench: Run, tmp_path: Path) -> None:
    claim = try_claim(tmp_path / "results", "0" * 16)
    assert claim is not None
    code, out, _ = ltbench("runs", "unlock", "0000")
    assert code == 0
    assert f"taken from process {os.getpid()} on" in out
    assert claim.is_lost
    claim.release()
    code, _, err = ltbench("runs", "unlock", "0000")
    assert code == 2 and "Expected a run '0000'" in err
