from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltbench.datasets import shapes
from ltbench.datasets.drawing.canvas import noise
from ltbench.datasets.index import load_dataset, locate
from ltbench.datasets.listing import Counts
from ltbench.errors import DataError, FullDiskError

DEFECTS = [(c, d) for c, drawing in shapes.DRAWINGS.items() for d in drawing.defect_types]
FEW: Counts = {"washer": {"train": 2, "good": 1, "split": 1}, "wood": {"train": 1, "good": 1, "stain": 2}}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own, and a dataset of two categories."""
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shapes, "COUNTS", FEW)
    monkeypatch.setattr(shapes, "CATEGORIES", tuple(FEW))
    return tmp_path / "cache"


def tree_bytes(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_there_are_enough_categories_and_defect_types() -> None:
    assert len(shapes.CATEGORIES) >= 10
    assert list(shapes.CATEGORIES) == sorted(shapes.CATEGORIES)
    assert all(len(set(drawing.defect_types)) >= 3 for drawing in shapes.DRAWINGS.values())


def test_two_drawings_of_it_are_byte_equal(tmp_path: Path) -> None:
    shapes.write(tmp_path / "a", FEW)
    shapes.write(tmp_path / "b", dict(reversed(list(FEW.items()))))
    first = tree_bytes(tmp_path / "a")
    assert len(first) == 11
    assert first == tree_bytes(tmp_path / "b")


def test_a_subset_is_the_same_as_in_the_whole() -> None:
    image, _ = shapes.render("gear", "good", 0)
    again, _ = shapes.render("gear", "good", 0)
    other, _ = shapes.render("gear", "good", 1)
    train, _ = shapes.render("gear", "train", 0)
    assert np.array_equal(image, again)
    assert not np.array_equal(image, other)
    assert not np.array_equal(image, train)


def test_good_images_have_no_defect_pixels() -> None:
    for category in shapes.CATEGORIES:
        image, mask = shapes.render(category, "train", 0)
        assert image.shape == (256, 256, 3)
        assert image.dtype == np.uint8
        assert not mask.any()
        assert image.std() > 10


@pytest.mark.parametrize(("category", "defect_type"), DEFECTS)
def test_masks_hold_the_defect_and_nothing_else(
    category: str, defect_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flawed, mask = shapes.render(category, defect_type, 0)
    draw = shapes.DRAWINGS[category].draw
    whole_drawing = shapes.Drawing(lambda rng, flaw: draw(rng, None), (defect_type,))
    monkeypatch.setattr(shapes, "DRAWINGS", {category: whole_drawing})
    whole, nothing = shapes.render(category, defect_type, 0)
    assert not nothing.any()
    assert 20 <= mask.sum() <= 0.1 * mask.size
    change = np.abs(flawed.astype(int) - whole.astype(int)).max(axis=2)
    assert change[~mask].max() <= shapes.MASK_STEP + 4  # rounding to levels of 4 can add as much
    assert change[mask].min() >= shapes.MASK_STEP - 4


def test_defects_differ_in_size() -> None:
    areas = [shapes.render("wood", "stain", n)[1].sum() for n in range(6)]
    assert max(areas) > 1.5 * min(areas)


def test_noise_stays_in_its_range() -> None:
    field = noise(np.random.RandomState(0), 20, 5)
    assert field.shape == (256, 256)
    assert -1 <= field.min() < -0.2 < 0.2 < field.max() <= 1


def test_it_is_drawn_once_and_indexed(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = locate("shapes", None)
    assert root.parent == few
    assert not root.exists()
    dataset = load_dataset("shapes", None)
    listing = shapes.listing()
    assert (dataset.train, dataset.test) == (listing.train, listing.test)
    assert shapes.verify(root).ok

    def never(*_: object) -> None:
        raise AssertionError("drawn twice")

    monkeypatch.setattr(shapes, "write", never)
    assert load_dataset("shapes", few / "not looked at").test == dataset.test
    for look in (shapes.index, shapes.verify):
        with pytest.raises(DataError, match="elsewhere"):
            look(few / "elsewhere")
    assert sorted(path.name for path in few.iterdir() if not path.name.endswith(".lock")) == [root.name]


def test_an_interrupted_drawing_leaves_nothing(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Image.Image.save
    saved: list[object] = []

    def fail(self: Image.Image, file: Path, **options: Any) -> None:
        if len(saved) == 3:
            raise OSError(28, "No space left on device")
        saved.append(file)
        save(self, file, **options)

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(FullDiskError, match=r"No space left.*LTBENCH_CACHE"):
        load_dataset("shapes", None)
    assert [path for path in few.iterdir() if path.is_dir()] == []
    monkeypatch.setattr(Image.Image, "save", save)
    (few / f".{shapes.cached_root().name}.partial" / "washer").mkdir(parents=True)  # left by a killed process
    assert len(load_dataset("shapes", None).by_path) == 8


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set LTBENCH_CACHE"):
        load_dataset("shapes", None)
