"""Small imitation trees: the names and folders of each dataset's release, with tiny images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltbench.datasets import dagm, visa
from ltbench.datasets.index import SOURCES


def save_image(file: Path, value: int = 120, size: tuple[int, int] = (12, 10)) -> None:
    """Write an RGB image of one colour, `size` being (width, height)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(file, format="JPEG" if "JP" in file.suffix.upper() else "PNG")


def save_mask(file: Path, label: int = 255, size: tuple[int, int] = (12, 10)) -> None:
    """Write a mask with `label` in its upper left quarter."""
    file.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    values[: size[1] // 2, : size[0] // 2] = label
    Image.fromarray(values).save(file, format="PNG")


def make_category(root: Path, category: str, train: int = 2, *, has_masks: bool = True, suffix: str = ".png") -> None:
    """Write a category in MVTec AD layout: `train` good training images, one good and one cracked test image."""
    for number in range(train):
        save_image(root / category / "train" / "good" / f"{number:03}{suffix}")
    save_image(root / category / "test" / "good" / f"000{suffix}")
    save_image(root / category / "test" / "crack" / f"000{suffix}")
    if has_masks:
        save_mask(root / category / "ground_truth" / "crack" / "000_mask.png")


@pytest.fixture
def make() -> Callable[..., None]:
    """Return `make_category`."""
    return make_category


@pytest.fixture
def mvtec_tree(tmp_path: Path) -> Path:
    """A data root with 15 tiny categories below `mvtec_anomaly_detection`, and the release's text files."""
    root = tmp_path / "mvtec_anomaly_detection"
    for category in SOURCES["mvtec"].categories:
        make_category(root, category)
        (root / category / "license.txt").write_text("terms")
    (root / "readme.txt").write_text("read me")
    return tmp_path


VISA_ROWS = [
    ("train", "normal", "Normal/0836.JPG"),
    ("train", "normal", "Normal/0451.JPG"),
    ("test", "normal", "Normal/0790.JPG"),
    ("test", "anomaly", "Anomaly/001.JPG"),
    ("test", "anomaly", "Anomaly/000.JPG"),
]


@pytest.fixture
def visa_release(tmp_path: Path) -> Path:
    """VisA as released, five images a category, masks with label ids."""
    root = tmp_path / "VisA"
    rows = []
    for category in visa.CATEGORIES:
        for part, label, name in VISA_ROWS:
            image = f"{category}/Data/Images/{name}"
            mask = f"{category}/Data/Masks/{name.replace('.JPG', '.png')}" if label == "anomaly" else ""
            save_image(root / image)
            if mask:
                save_mask(root / mask, label=3)
            rows.append((category, part, label, image, mask))
    file = root / "split_csv" / "1cls.csv"
    file.parent.mkdir()
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([visa.COLUMNS, *rows])
    return root


def convert_visa(root: Path, bad: str = "bad", suffix: str = ".JPG", mask_end: str = ".png") -> None:
    """Write what a converter makes of `visa_release`."""
    for category in visa.CATEGORIES:
        for part, label, name in VISA_ROWS:
            stem = Path(name).stem
            folder = "good" if label == "normal" else bad
            save_image(root / category / part / folder / f"{stem}{suffix}")
            if label == "anomaly":
                save_mask(root / category / "ground_truth" / bad / f"{stem}{mask_end}")


@pytest.fixture
def convert() -> Callable[..., None]:
    """Return `convert_visa`."""
    return convert_visa


def make_dagm(root: Path, *, is_nested: bool = False) -> None:
    """Write DAGM's folders, names and labels with four images a part: two good, two defective."""
    for category in dagm.CATEGORIES:
        for part, first in (("Test", 1), ("Train", 576)):
            folder = root / category / (category if is_nested else "") / part
            lines = ["1"]
            for n in range(first, first + 4):
                save_image(folder / f"{n:04}.PNG")
                is_defective = n % 2 == 0
                if is_defective:
                    save_mask(folder / "Label" / f"{n:04}_label.PNG")
                mask = f"{n:04}_label.PNG" if is_defective else "0"
                lines.append(f"{n}\t{int(is_defective)}\t{n:04}.PNG\t0\t{mask}")
            (folder / "Label" / "Labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


@pytest.fixture
def dagm_maker() -> Callable[..., None]:
    """Return `make_dagm`."""
    return make_dagm
