"""What a release consists of, as far as it is known without its files."""

from __future__ import annotations

from collections.abc import Mapping

from ltbench.core import GOOD, Dataset, Sample

Counts = Mapping[str, Mapping[str, int]]
"""Category -> images of each folder: `train` for train/good, and each defect type of test (`good` among them)."""


def numbered_listing(name: str, counts: Counts, digits: int = 3) -> Dataset:
    """Return the listing of a release whose files are numbered 000.png upwards in every folder.

    Args:
        name: the dataset's name.
        counts: how many images each folder has; its order is the class order.
        digits: width of the numbers.
    """
    train: list[Sample] = []
    test: list[Sample] = []
    for category, folders in counts.items():
        train += [Sample(f"{category}/train/good/{n:0{digits}}.png", category) for n in range(folders["train"])]
        for defect_type in sorted(folder for folder in folders if folder != "train"):
            for number in (f"{n:0{digits}}" for n in range(folders[defect_type])):
                path = f"{category}/test/{defect_type}/{number}.png"
                mask = f"{category}/ground_truth/{defect_type}/{number}_mask.png"
                test.append(Sample(path, category, defect_type, None if defect_type == GOOD else mask))
    return Dataset(name, tuple(counts), tuple(train), tuple(test))


def files_of(dataset: Dataset) -> set[str]:
    """Return the file of every image and mask, relative to the root."""
    samples = dataset.by_path.values()
    paths = (*dataset.by_path, *(sample.mask for sample in samples if sample.mask is not None))
    return {dataset.files.get(path, path) for path in paths}
