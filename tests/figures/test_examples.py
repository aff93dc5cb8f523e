"""Heat maps: the right image under its own map, the worst ones first, and what to do where no map was kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from ltbench.core import Dataset
from ltbench.datasets.index import load_dataset
from ltbench.errors import DataError, SpecError, UnknownNameError
from ltbench.figures.examples import Example, SavedMaps, one_of_each_defect, worst
from ltbench.figures.heatmaps import OUTLINE, draw_heatmaps, outlined, overlay, panels_of
from ltbench.figures.style import save
from ltbench.metrics.thresholds import f1_threshold
from ltbench.records.record import MAPS, RunRecord
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name

MakeRecord = Callable[..., RunRecord]


@pytest.fixture(scope="module")
def folder(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with maps."""
    harness = Harness(tmp_path_factory.mktemp("results"), save_maps=True)
    return run_by_name("mean_image", "parts_step4", parts, harness).folder


@pytest.fixture(scope="module")
def dataset(parts: Path) -> Dataset:
    return load_dataset("parts", parts)


def _scored(make: MakeRecord, good: list[float], bad: list[float], category: str = "bolt") -> RunRecord:
    entries = [{"path": f"{category}/g{k}", "defect_type": "good", "score": score} for k, score in enumerate(good)]
    entries += [{"path": f"{category}/b{k}", "defect_type": "cut", "score": score} for k, score in enumerate(bad)]
    return replace(make(), scores={category: entries})


def test_a_map_lies_over_its_own_image(folder: Path, dataset: Dataset) -> None:
    """The mean image's map is hottest inside the square that the fixture draws."""
    run = SavedMaps(folder)
    for example in one_of_each_defect(run.record, ["bolt"]):
        (_, image), (title, outline), (name, over) = panels_of(example, dataset, [run])
        assert (title, name) == ("defect", "Mean image")
        assert image is not None and outline is not None and over is not None
        assert image.shape == outline.shape == over.shape
        edge = (outline == OUTLINE).all(axis=2) & ~(image == OUTLINE).all(axis=2)
        rows, columns = np.nonzero(edge)
        heat = run.map_of(example.path)
        assert heat is not None
        hottest = np.unravel_index(np.argmax(heat), heat.shape)
        assert rows.min() < hottest[0] < rows.max() and columns.min() < hottest[1] < columns.max()
        assert (heat.min(), heat.max()) == (0, 1)


def test_outline_and_overlay_leave_what_they_should() -> None:
    image = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[8:12, 8:12] = True
    outline = outlined(image, mask)
    assert (outline[mask] == 100).all() and (outline[0] == 100).all()
    assert (outline[7, 9] == OUTLINE).all() and (outline[6, 9] == OUTLINE).all() and (outline[5, 9] == 100).all()
    assert outlined(image, None) is image
    heat = np.zeros((20, 20), np.float32)
    heat[0, 0] = 1
    over = overlay(image, heat)
    assert over[0, 0].sum() > over[5, 5].sum(), "hot is bright"


def test_misses_and_false_alarms_are_ordered_by_share(make_record: MakeRecord) -> None:
    record = _scored(make_record, good=[1, 2.6, 3, 4, 9.5], bad=[2.5, 0.5, 8, 9, 10])
    scores = np.array([entry["score"] for entry in record.scores["bolt"]], float)
    assert f1_threshold(scores, np.arange(10) >= 5) == 8
    assert [(example.kind, example.path, example.share) for example in worst(record, 5)] == [
        ("miss", "bolt/b1", 1.0),
        ("miss", "bolt/b0", 0.8),
        ("false alarm", "bolt/g4", 0.8),
    ]
    assert [example.path for example in worst(record, 1)] == ["bolt/b1", "bolt/g4"]
    assert worst(_scored(make_record, [1, 2], [3, 4]), 5) == []
    assert worst(_scored(make_record, [], [3, 4]), 5) == [], "no threshold without good images"
    with pytest.raises(UnknownNameError, match="'bolt'"):
        worst(record, 1, ["bolts"])


def test_the_threshold_is_that_of_the_largest_f1() -> None:
    rng = np.random.RandomState(0)
    for _ in range(20):
        labels = np.r_[np.zeros(6, bool), np.ones(9, bool)]
        scores = rng.randint(0, 10, 15).astype(float)
        precision, recall, thresholds = precision_recall_curve(labels, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        assert f1_threshold(scores, labels) in thresholds[np.isclose(f1[:-1], f1.max())]


def test_runs_side_by_side_are_drawn(folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    run = SavedMaps(folder)
    found = one_of_each_defect(run.record)
    assert [(example.category, example.defect_type) for example in found] == [("bolt", "spot"), ("nut", "spot")]
    save(draw_heatmaps(found, dataset, [run]), tmp_path / "x.png")
    figure = draw_heatmaps([*found, *worst(run.record, 2)], dataset, [run])
    assert [axes.get_title() for axes in figure.axes[:3]] == ["image", "defect", "Mean image"]
    with pytest.raises(SpecError, match="no miss"):
        draw_heatmaps([], dataset, [run])


def test_what_is_not_in_the_test_set_has_no_map(folder: Path) -> None:
    assert SavedMaps(folder).map_of("bolt/train/good/000.png") is None
    assert Example("bolt", "x", "good", "false alarm", 0.5).title.endswith("50% of the anomalous images score lower")


def test_a_run_without_maps_says_how_to_make_them(parts: Path, tmp_path: Path) -> None:
    outcome = run_by_name("mean_image", "parts_step4", parts, Harness(tmp_path))
    with pytest.raises(SpecError, match=r"ltbench run -m mean_image -s parts_step4 .*--save-maps --force"):
        SavedMaps(outcome.folder)


def test_damaged_maps_are_told(folder: Path, tmp_path: Path) -> None:
    import shutil

    copied = tmp_path / "run"
    shutil.copytree(folder, copied)
    (copied / MAPS / "bolt.safetensors").write_bytes(b"garbage")
    run = SavedMaps(copied)
    with pytest.raises(DataError, match="Repeat the run"):
        run.map_of(str(run.record.scores["bolt"][0]["path"]))
