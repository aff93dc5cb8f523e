"""What lies on disk: samples, and datasets with their published partition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path

from ltbench.core.identity import check_relative
from ltbench.errors import DataError

GOOD = "good"
"""The defect type of an image without a defect (the MVTec AD convention)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Args:
        path: where the image lies, relative to the dataset root, with forward slashes; its identity.
        category: the kind of object ("bottle").
        defect_type: "good" or the kind of defect ("crack").
        mask: the ground-truth mask, or the folder of its parts, relative to the dataset root; None where there is none.
    """

    path: str
    category: str
    defect_type: str = GOOD
    mask: str | None = None

    def __post_init__(self) -> None:
        check_relative(self.path)
        if self.mask is not None:
            check_relative(self.mask)

    @property
    def is_anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect_type != GOOD


@dataclass(frozen=True)
class Dataset:
    """A dataset: its images with the published partition into train and test.

    Args:
        name: "mvtec", "visa", ... or the name given to a folder.
        categories: every category, in the dataset's published order (the order of long tails).
        train: the published training images, all of them good.
        test: the published test images.
        root: the folder on disk; None when only the listing is known (MVTec's splits need no images).
        files: sample path -> file relative to the root, where a release keeps an image under another name than the
            one that identifies it (VisA converted to the MVTec layout).
    """

    name: str
    categories: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    root: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.by_path) != len(self.train) + len(self.test):
            raise DataError(f"Expected every image of {self.name} once, got a path twice. Remove the duplicate.")
        unknown = {sample.category for sample in self.by_path.values()} - set(self.categories)
        if unknown:
            raise DataError(f"Expected images of {list(self.categories)}, got {sorted(unknown)}. List them.")
        if any(sample.is_anomalous for sample in self.train):
            raise DataError(f"Expected good images to train on, got a defective one in {self.name}. Move it to test.")

    @cached_property
    def by_path(self) -> Mapping[str, Sample]:
        """Every sample of both parts by its path."""
        return {sample.path: sample for sample in (*self.train, *self.test)}

    def train_of(self, category: str) -> tuple[Sample, ...]:
        """Return the training samples of one category, sorted by path."""
        return self._by_category[0].get(category, ())

    def test_of(self, category: str) -> tuple[Sample, ...]:
        """Return the test samples of one category, sorted by path."""
        return self._by_category[1].get(category, ())

    @cached_property
    def _by_category(self) -> tuple[Mapping[str, tuple[Sample, ...]], Mapping[str, tuple[Sample, ...]]]:
        return _grouped(self.train), _grouped(self.test)

    def file(self, path: str) -> Path:
        """Return the file on disk of a sample's image or mask.

        Raises:
            DataError: the dataset was listed without a folder, or the path would leave the folder.
        """
        if self.root is None:
            raise DataError(f"Expected the images of {self.name}, got their listing only. Pass --data-root DIR.")
        relative = self.files.get(path, path)
        check_relative(relative)
        return self.root / relative


def _grouped(samples: Iterable[Sample]) -> dict[str, tuple[Sample, ...]]:
    ordered = sorted(samples, key=lambda sample: (sample.category, sample.path))
    return {category: tuple(group) for category, group in groupby(ordered, key=lambda sample: sample.category)}
