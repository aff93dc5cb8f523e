from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.datasets import dagm
from ltbench.datasets.index import load_dataset
from ltbench.errors import DataError

MakeDagm = Callable[..., None]


def test_good_train_images_train_and_all_test_images_test(tmp_path: Path, dagm_maker: MakeDagm) -> None:
    dagm_maker(tmp_path / "DAGM_2007")
    dataset = load_dataset("dagm", tmp_path)
    assert dataset.categories == tuple(f"Class{n}" for n in range(1, 11))
    assert [s.path for s in dataset.train_of("Class10")] == ["Class10/Train/0577.PNG", "Class10/Train/0579.PNG"]
    assert len(dataset.test_of("Class10")) == 4
    defect = dataset.by_path["Class1/Test/0002.PNG"]
    assert (defect.defect_type, defect.mask) == ("defect", "Class1/Test/Label/0002_label.PNG")
    assert not [path for path in dataset.by_path if path.startswith("Class1/Train/0578")]


def test_a_nested_archive_is_the_same_dataset(tmp_path: Path, dagm_maker: MakeDagm) -> None:
    dagm_maker(tmp_path / "flat")
    dagm_maker(tmp_path / "nested", is_nested=True)
    flat, nested = (load_dataset("dagm", tmp_path / name) for name in ("flat", "nested"))
    assert (flat.train, flat.test) == (nested.train, nested.test)
    for sample in nested.by_path.values():
        assert nested.file(sample.path).is_file()
        assert sample.mask is None or nested.file(sample.mask).is_file()


def test_published_counts_add_up() -> None:
    for category in dagm.CATEGORIES:
        images = 2 * dagm.IMAGE_COUNTS[category]
        defective = sum(dagm.DEFECTIVE_COUNTS[category].values())
        assert (images, defective) in ((1150, 150), (2300, 300))  # 1000 or 2000 good ones, as the organisers say
    assert sum(2 * count for count in dagm.IMAGE_COUNTS.values()) == 16100


@pytest.mark.parametrize(
    "line",
    ["576\t1\t0576.PNG\t0", "576\t2\t0576.PNG\t0\t0", "576\t1\t0576.PNG\t0\t0", "576\t0\t../0576.PNG\t0\t0"],
)
def test_a_malformed_label_line_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "Labels.txt"
    file.write_text(f"1\n{line}\n")
    with pytest.raises(DataError):
        dagm.read_labels(file)


def test_what_is_missing_is_named(tmp_path: Path, dagm_maker: MakeDagm) -> None:
    dagm_maker(tmp_path)
    (tmp_path / "Class3" / "Test" / "Label" / "0002_label.PNG").unlink()
    with pytest.raises(DataError, match=r"Class3/Test/Label/0002_label\.PNG"):
        dagm.index(tmp_path)
    (tmp_path / "Class2" / "Train" / "Label" / "Labels.txt").unlink()
    with pytest.raises(DataError, match=r"Class2/Train/Label/Labels\.txt"):
        dagm.index(tmp_path)
    (tmp_path / "Class1").rename(tmp_path / "Class11")
    with pytest.raises(DataError, match="category 'Class1' of dagm"):
        dagm.index(tmp_path)


def test_a_part_without_good_images_is_refused(tmp_path: Path, dagm_maker: MakeDagm) -> None:
    dagm_maker(tmp_path)
    labels = tmp_path / "Class4" / "Train" / "Label" / "Labels.txt"
    labels.write_text("1\n578\t1\t0578.PNG\t0\t0578_label.PNG\n")
    with pytest.raises(DataError, match="category 'Class4' in its Train"):
        dagm.index(tmp_path)


def test_verify(tmp_path: Path, dagm_maker: MakeDagm) -> None:
    dagm_maker(tmp_path)
    (tmp_path / "Class3" / "Test" / "0001.PNG").rename(tmp_path / "Class3" / "Test" / "0009.PNG")
    (tmp_path / "Class5" / "Test" / "0001.PNG").write_bytes(b"")
    (tmp_path / "Class9" / "Train" / "Label" / "Labels.txt").unlink()
    found = dagm.verify(tmp_path)
    assert found.missing == ("Class9/Train/Label/Labels.txt", "Class3/Test/0001.PNG")
    assert found.extra == ("Class3/Test/0009.PNG",)
    assert found.unreadable == ("Class5/Test/0001.PNG",)
    assert "Class1/Train: 4 images, published 575" in found.miscounted
    assert "Class1/Train: 2 defective images, published 79" in found.miscounted


def test_images_without_a_label_are_told_with_their_number(
    tmp_path: Path, dagm_maker: MakeDagm, caplog: pytest.LogCaptureFixture
) -> None:
    dagm_maker(tmp_path)
    for name in ("0999.PNG", "more/0998.PNG"):
        file = tmp_path / "Class6" / "Train" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"an image")
    assert len(dagm.index(tmp_path).train_of("Class6")) == 2
    assert (
        f"{tmp_path / 'Class6' / 'Train'} outside Label/Labels.txt take no part: 2, 0999.PNG the first" in caplog.text
    )
