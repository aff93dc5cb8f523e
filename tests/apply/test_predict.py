"""A saved method on new images: the same scores as in the run, odd files passed over, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltbench.apply.images import find_images
from ltbench.records.record import read_record
from ltbench.runs.models import MANIFEST, MODEL
from tests.conftest import Run

Fitted = tuple[Path, Path]


def _fit(ltbench: Run, parts: Path, *options: object) -> Path:
    arguments = ["run", "-m", "mean_image", "-s", "parts_full", "--data-root", parts, "--save-model", "--json"]
    code, out, err = ltbench(*arguments, *options)
    assert code == 0, err
    return Path(json.loads(out)["run"])


def test_scores_are_those_of_the_run(ltbench: Run, parts: Path, tmp_path: Path) -> None:
    folder = _fit(ltbench, parts)
    record = read_record(folder)
    expected = {entry["path"]: entry["score"] for own in record.scores.values() for entry in own}
    for name in (folder, folder.name[:6], folder / MODEL):
        code, out, _ = ltbench("predict", "--run", name, parts / "parts" / "bolt" / "test", "--json")
        assert code == 0
        found = {entry["path"]: entry["score"] for entry in json.loads(out)["images"]}
        assert found == {
            str(parts / "parts" / path): score for path, score in expected.items() if path.startswith("bolt/")
        }


def test_csv_maps_and_decisions(ltbench: Run, parts: Path, tmp_path: Path) -> None:
    folder = _fit(ltbench, parts, "--calibrate", "25%", "--save-maps")
    aside = read_record(folder).notes["calibration"]
    assert aside["percent"] == 25
    assert {category: len(scores) for category, scores in aside["scores"].items()} == {"bolt": 2, "nut": 2}
    code, out, err = ltbench(
        *("predict", "-r", folder, parts / "parts" / "nut" / "test", "--category", "nut", "--maps", "-o", "out"),
        *("--threshold", "false_alarms=40%"),
    )
    assert (code, out) == (0, "")
    assert "defective at" in err
    rows = list(csv.DictReader(io.StringIO(Path("out/scores.csv").read_text())))
    assert len(rows) == 8
    assert {row["decision"] for row in rows} <= {"good", "defective"}
    assert all("kept aside" in row["rule"] for row in rows)
    for row in rows:
        name = Path(row["path"]).relative_to(parts / "parts" / "nut" / "test")
        with Image.open((Path("out/maps") / name).with_suffix(".tiff")) as image:
            own = np.asarray(image)
        assert own.dtype == np.float32
        assert own.max() == np.float32(row["score"])
        with Image.open((Path("out/pictures") / name).with_suffix(".png")) as image:
            assert image.size == own.shape[::-1]


def test_odd_files_are_named_and_passed_over(ltbench: Run, parts: Path, tmp_path: Path) -> None:
    folder = _fit(ltbench, parts)
    new = tmp_path / "new"
    shutil.copytree(parts / "parts" / "bolt" / "test" / "good", new / "deep" / "er")
    (new / "notes.txt").write_text("no image")
    (new / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (new / ".hidden.png").write_bytes(b"")
    code, out, err = ltbench("predict", "-r", folder, new)
    assert code == 0
    assert len(out.splitlines()) == 1 + 4
    assert f"passed over {new / 'notes.txt'}" in err
    assert f"passed over {new / 'broken.png'}" in err
    assert "hidden" not in err
    code, out, _ = ltbench("predict", "-r", folder, new, "--json")
    assert [Path(one["path"]).name for one in json.loads(out)["passed_over"]] == ["notes.txt", "broken.png"]


def test_a_run_is_repeated_for_its_model_and_scores_stay(ltbench: Run, parts: Path) -> None:
    _, out, _ = ltbench("run", "-m", "mean_image", "-s", "parts_full", "--data-root", parts, "--json")
    before = read_record(Path(json.loads(out)["run"]))
    folder = _fit(ltbench, parts)
    assert (folder / MODEL / MANIFEST).is_file()
    assert read_record(folder).scores == before.scores
    assert not (folder / MODEL).is_symlink()


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / MODEL / MANIFEST
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_an_edited_model_is_refused(ltbench: Run, parts: Path) -> None:
    folder = _fit(ltbench, parts)
    _edit(folder, lambda content: content["tested"]["bolt"]["good"].append(1.0))
    code, _, err = ltbench("predict", "-r", folder, parts)
    assert code == 2
    assert "it was edited" in err


def test_a_model_of_another_version_is_refused(ltbench: Run, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _fit(ltbench, parts)
    with monkeypatch.context() as patched:
        patched.setattr("ltbench.runs.provenance.__version__", "99.0")
        code, _, err = ltbench("predict", "-r", folder, parts)
    assert code == 2
    assert "is ltbench 99.0 since" in err
    monkeypatch.setattr("ltbench.runs.provenance.source_digest", lambda _: "other")
    code, _, err = ltbench("predict", "-r", (folder / MODEL).absolute(), parts)
    assert code == 2
    assert "the code of mean_image changed" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "not there"),
        (["--maps", "."], "--out FOLDER"),
        (["empty"], "got none"),
        ([".", "--category", "gear"], "bolt, nut"),
        ([".", "--threshold", "false_alarms=1%"], "--calibrate"),
    ],
)
def test_what_is_refused(ltbench: Run, parts: Path, tmp_path: Path, options: list[str], message: str) -> None:
    folder = _fit(ltbench, parts)
    (tmp_path / "empty").mkdir()
    shutil.copy(parts / "parts" / "bolt" / "test" / "good" / "000.png", tmp_path)
    code, out, err = ltbench("predict", "-r", folder, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_run_without_a_model_says_how_to_keep_one(ltbench: Run, parts: Path) -> None:
    _, out, _ = ltbench("run", "-m", "mean_image", "-s", "parts_full", "--data-root", parts, "--json")
    code, _, err = ltbench("predict", "-r", json.loads(out)["run"], parts)
    assert code == 2
    assert "--save-model" in err


def test_maps_of_one_name_are_refused(ltbench: Run, parts: Path) -> None:
    folder = _fit(ltbench, parts)
    test = parts / "parts" / "bolt" / "test"
    code, _, err = ltbench("predict", "-r", folder, test / "good", test / "spot", "--maps", "-o", "out")
    assert code == 2
    assert "Score them apart" in err
    assert not Path("out").exists()


def test_links_are_followed_once_and_folders_that_cannot_be_read_are_errors(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "linked").symlink_to(parts / "parts" / "bolt" / "test" / "good")
    (tmp_path / "new" / "deep" / "back").symlink_to(tmp_path / "new")
    found, odd = find_images([tmp_path / "new"])
    assert [one.name for one in found] == [f"linked/{number:03d}.png" for number in range(4)]
    assert odd == []

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError):
        find_images([tmp_path / "new"])
