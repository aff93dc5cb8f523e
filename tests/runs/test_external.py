"""Predictions from elsewhere: the digits of the method run inside, what fits an image, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ltbench.core import Prediction
from ltbench.datasets.images import center_crop, resize
from ltbench.errors import DataError, SpecError, UnknownNameError
from ltbench.protocols import PROTOCOLS
from ltbench.records.maps import read_maps
from ltbench.records.record import MAPS, read_record
from ltbench.runs.claims import try_claim
from ltbench.runs.external import Submission
from ltbench.runs.predictions import fitted, read_map
from tests.conftest import Run

Write = Callable[[Path, NDArray[np.float32]], None]


def _tiff(file: Path, own: NDArray[np.float32]) -> None:
    Image.fromarray(own).save(file)


WRITERS: dict[str, Write] = {
    ".tiff": _tiff,
    ".tif": _tiff,
    ".npy": np.save,
    ".npz": lambda file, own: np.savez_compressed(file, maps=own),
}


@pytest.fixture
def inside(ltbench: Run, parts: Path) -> Path:
    """The folder of a run of the suite's own, with maps."""
    arguments = ("-m", "mean_image", "-s", "parts_full", "--data-root", parts, "--save-maps", "--json")
    _, out, _ = ltbench("run", *arguments)
    return Path(json.loads(out)["run"])


def _hand_in(inside: Path, folder: Path, suffix: str, *, scores: bool = True) -> Path:
    record = read_record(inside)
    rows = []
    for category, entries in record.scores.items():
        for entry, own in zip(entries, read_maps(inside / MAPS, category, len(entries)), strict=True):
            file = (folder / entry["path"]).with_suffix(suffix)
            file.parent.mkdir(parents=True, exist_ok=True)
            WRITERS[suffix](file, own)
            rows.append({"path": entry["path"], "score": entry["score"]})
    if scores:
        with (folder / "scores.csv").open("w", newline="") as content:
            writer = csv.DictWriter(content, ["path", "score"])
            writer.writeheader()
            writer.writerows(rows)
    return folder


def _evaluate(ltbench: Run, parts: Path, folder: Path, *options: object) -> tuple[int, str, str]:
    base = ("evaluate", "-s", "parts_full", "--data-root", parts, "--predictions", folder, "-m", "Their net")
    return ltbench(*base, *options)


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_same_maps_give_the_same_digits(ltbench: Run, parts: Path, inside: Path, suffix: str) -> None:
    folder = _hand_in(inside, Path("theirs"), suffix)
    code, out, err = _evaluate(ltbench, parts, folder, "--json")
    assert code == 0, err
    own, theirs = read_record(inside), read_record(Path(json.loads(out)["run"]))
    assert theirs.metrics == own.metrics
    assert theirs.scores == own.scores
    assert theirs.method.is_external and theirs.method.title == "Their net"
    assert theirs.notes["image_scores"] == "csv"
    assert theirs.provenance is not None and theirs.provenance["weights"]["predictions"]


def test_without_a_csv_the_maximum_counts_and_is_told(ltbench: Run, parts: Path, inside: Path) -> None:
    folder = _hand_in(inside, Path("theirs"), ".npy", scores=False)
    code, _, err = _evaluate(ltbench, parts, folder)
    assert code == 0
    assert "the maximum of its map" in err
    _, out, _ = _evaluate(ltbench, parts, folder, "--json")
    assert json.loads(out)["reused"]
    assert read_record(Path(json.loads(out)["run"])).scores == read_record(inside).scores, "as mean_image scores images"


def test_sixteen_bit_pictures(tmp_path: Path) -> None:
    own = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    Image.fromarray(own).save(tmp_path / "map.png")
    assert np.array_equal(read_map(tmp_path / "map.png"), own.astype(np.float32))
    Image.fromarray(own.astype(np.uint8)).save(tmp_path / "map.png")
    with pytest.raises(DataError, match="16-bit grey"):
        read_map(tmp_path / "map.png")


def test_scores_alone_have_image_metrics_alone(ltbench: Run, parts: Path, inside: Path) -> None:
    _hand_in(inside, Path("theirs"), ".npy")
    Path("only").mkdir()
    shutil.move("theirs/scores.csv", "only/scores.csv")
    code, out, err = _evaluate(ltbench, parts, Path("only"), "--json")
    assert code == 0, err
    found = json.loads(out)
    assert "pixel_auroc" not in found["metrics"]
    assert found["missing"]["pixel_auroc"]["avg"] == "gives no maps"
    code, _, err = _evaluate(ltbench, parts, Path("only"), "--protocol", "rlr")
    assert (code, "takes image scores" in err) == (2, True)


def test_tables_mark_it(ltbench: Run, parts: Path, inside: Path) -> None:
    folder = _hand_in(inside, Path("theirs"), ".npy")
    assert _evaluate(ltbench, parts, folder, "--told", "categories", "--paper", "arXiv:1")[0] == 0
    _, out, _ = ltbench("table", "--dataset", "parts", "--format", "markdown")
    assert "Their net" in out
    assert "predictions made elsewhere" in out
    assert "told the category of every image" in out
    assert ltbench("runs", "verify", "--data-root", parts)[0] == 0


def test_other_predictions_replace_none_unless_forced(ltbench: Run, parts: Path, inside: Path) -> None:
    folder = _hand_in(inside, Path("theirs"), ".npy")
    assert _evaluate(ltbench, parts, folder)[0] == 0
    file = next(folder.rglob("*.npy"))
    np.save(file, np.load(file) + 1)
    code, _, err = _evaluate(ltbench, parts, folder)
    assert (code, "--force replaces" in err) == (2, True)
    assert _evaluate(ltbench, parts, folder, "--force")[0] == 0
    assert _evaluate(ltbench, parts, folder, "--seed", "1")[0] == 0


def test_an_array_under_the_name_of_an_archive_is_read(tmp_path: Path) -> None:
    own = np.ones((3, 4), np.float32)
    np.save(tmp_path / "map.npy", own)
    (tmp_path / "map.npy").rename(tmp_path / "map.npz")
    assert np.array_equal(read_map(tmp_path / "map.npz"), own)


def test_what_else_changed_is_not_called_other_predictions(
    ltbench: Run, parts: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _hand_in(inside, Path("theirs"), ".npy")
    assert _evaluate(ltbench, parts, folder)[0] == 0
    code, _, err = _evaluate(ltbench, parts, folder, "--told", "categories")
    assert (code, "another --told or --paper" in " ".join(err.split())) == (2, True)
    monkeypatch.setattr("ltbench.runs.external.__version__", "99.0")
    code, _, err = _evaluate(ltbench, parts, folder)
    assert (code, "is ltbench 99.0 since this run" in " ".join(err.split())) == (2, True)


def test_a_run_that_another_process_does_is_left_alone(ltbench: Run, parts: Path, inside: Path) -> None:
    folder = _hand_in(inside, Path("theirs"), ".npy")
    assert _evaluate(ltbench, parts, folder, "--json")[0] == 0
    run = next(own for own in (inside.parent).iterdir() if own != inside)
    claim = try_claim(Path("results"), run.name)
    assert claim is not None
    (being_written := inside.parent / f".{run.name}.x").mkdir()
    shutil.rmtree(run)

    def end() -> None:
        being_written.rename("kept")
        claim.release()

    timer = Timer(0.5, end)
    timer.start()
    assert _evaluate(ltbench, parts, folder, "--json")[0] == 0
    timer.join()
    assert Path("kept").is_dir()


def _nan(folder: Path) -> None:
    file = next(folder.rglob("*.npy"))
    np.save(file, np.full((64, 64), np.nan, np.float32))


def _object(folder: Path) -> None:
    np.save(next(folder.rglob("*.npy")), np.array([{}]))


def _shape(folder: Path) -> None:
    np.save(next(folder.rglob("*.npy")), np.zeros((64, 64, 3), np.float32))


def _aspect(folder: Path) -> None:
    np.save(next(folder.rglob("*.npy")), np.zeros((64, 32), np.float32))


def _twice(folder: Path) -> None:
    file = next(folder.rglob("*.npy"))
    _tiff(file.with_suffix(".tiff"), np.zeros((4, 4), np.float32))


def _cut(folder: Path) -> None:
    file = next(folder.rglob("*.npy"))
    file.write_bytes(file.read_bytes()[:100])


def _cut_npz(folder: Path) -> None:
    file = next(folder.rglob("*.npy"))
    np.savez(file.with_suffix(".npz"), maps=np.zeros((64, 64), np.float32))
    file.unlink()
    whole = file.with_suffix(".npz").read_bytes()
    file.with_suffix(".npz").write_bytes(whole[: len(whole) // 2])


def _flipped_npz(folder: Path) -> None:
    file = next(folder.rglob("*.npy"))
    np.savez_compressed(file.with_suffix(".npz"), maps=np.random.RandomState(0).rand(64, 64))
    file.unlink()
    whole = bytearray(file.with_suffix(".npz").read_bytes())
    whole[len(whole) // 2] ^= 255
    file.with_suffix(".npz").write_bytes(whole)


def _broken_header(folder: Path) -> None:
    file = next(folder.rglob("*.npy"))
    file.write_bytes(file.read_bytes().replace(b"{'descr'", b"{'", 1))


def _csv(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "scores.csv"
        file.write_text(file.read_text().replace("path,score", text.split("|")[0], 1) + text.split("|")[1])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: next(folder.rglob("*.npy")).unlink(), "for each of the 16 test images"),
        (shutil.rmtree, "which is none"),
        (_nan, "finite values"),
        (_object, "Expected an anomaly map"),
        (_shape, "one value a pixel"),
        (_aspect, "aspect of its image"),
        (_twice, "one map an image"),
        (_cut, "Expected an anomaly map"),
        (_cut_npz, "Expected an anomaly map"),
        (_flipped_npz, "Expected an anomaly map"),
        (_broken_header, "Expected an anomaly map"),
        (_csv("path,points|"), "columns path and score"),
        (_csv("path,score|bolt/test/good/000.png,1\n"), "twice"),
        (_csv("path,score|x,nan\n"), "not finite"),
        (_csv("path,score|x,much\n"), "could not convert"),
        (lambda folder: (folder / "scores.csv").write_text("path,score\n"), "a score in"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    ltbench: Run, parts: Path, inside: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = _hand_in(inside, Path("theirs"), ".npy")
    change(folder)
    before = sorted(inside.parent.iterdir())
    code, out, err = _evaluate(ltbench, parts, folder, "--json")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(inside.parent.iterdir()) == before


def test_files_of_no_test_image_are_named(ltbench: Run, parts: Path, inside: Path) -> None:
    folder = _hand_in(inside, Path("theirs"), ".npy")
    np.save(folder / "bolt" / "more.npy", np.zeros((4, 4), np.float32))
    code, _, err = _evaluate(ltbench, parts, folder)
    assert code == 0
    assert "1 files of theirs belong to no test image of parts_full and are left out: bolt/more.npy" in " ".join(
        err.split()
    )


def test_maps_of_whole_images_are_resized_and_cropped_as_images_are() -> None:
    rng = np.random.RandomState(0)
    whole = rng.rand(150, 200).astype(np.float32)
    cropping, exact = PROTOCOLS["tailedcore"], PROTOCOLS["common"]
    assert cropping.crops
    own = fitted(whole, (400, 300), cropping, Path("map"))
    assert own.shape == cropping.size
    expected = center_crop(resize(Image.fromarray(whole), cropping, Image.Resampling.BILINEAR), cropping)
    assert np.array_equal(own, np.asarray(expected))
    assert fitted(whole, (400, 300), exact, Path("map")).shape == exact.size
    side = exact.size[0]
    ready = rng.rand(side, side).astype(np.float32)
    assert fitted(ready, (400, 300), exact, Path("map")) is ready, "it has the size of the protocol's images"
    square = rng.rand(2 * side, 2 * side).astype(np.float32)
    assert fitted(square, (400, 300), exact, Path("map")).shape == exact.size, "the protocol makes all images squares"
    with pytest.raises(DataError, match="aspect of its image"):
        fitted(square, (400, 300), cropping, Path("map"))
    crop = cropping.size[0]
    with pytest.raises(DataError, match="which both have"):
        fitted(np.zeros(cropping.size, np.float32), (crop, crop), cropping, Path("map"))


def test_submissions() -> None:
    assert Submission("My Net++ (v2)").info(has_maps=True).name == "external_my_net_v2"
    assert Submission("网").info(has_maps=True).name.startswith("external_")
    assert Submission("A", told=("categories",)).info(has_maps=False).uses_categories
    with pytest.raises(UnknownNameError, match="categories"):
        Submission("A", told=("categorys",))
    with pytest.raises(SpecError, match="--method"):
        Submission(" ")
    assert replace(Submission("A"), seed=2).seed == 2
    assert not Prediction(np.zeros(1, np.float32)).has_maps
