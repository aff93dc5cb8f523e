"""Splits that a dataset's own publishers give as lists of training and test images, defects among the training ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from ltbench.core import Dataset, Split, TrainImages
from ltbench.datasets.description import Description, PublishedList
from ltbench.datasets.lists import list_files, read_rows
from ltbench.errors import DataError
from ltbench.splits.groups import GroupRule, groups_of


def import_published(dataset: Dataset, description: Description, groups: GroupRule = "auto") -> Iterator[Split]:
    """Yield the published splits of a dataset, `realiad_fuiad_noisy10_official1` and so on.

    Which images are contaminants is what the list says; they are no test images there.

    Args:
        dataset: with its root, below which the lists lie.
        description: of the dataset; it names the lists.
        groups: which categories are high and which low; by default those with 20 training images and the others.

    Raises:
        DataError: a list is missing or cannot be read, or names an image that the dataset calls otherwise or lacks.
    """
    assert dataset.root is not None
    assert description.listed is not None
    for name, published in description.listed.published.items():
        yield _split(name, published, dataset, description, groups)


def _split(name: str, published: PublishedList, dataset: Dataset, description: Description, groups: GroupRule) -> Split:
    assert dataset.root is not None
    train: dict[str, TrainImages] = {}
    test: dict[str, tuple[str, ...]] = {}
    files = list_files(dataset.root, description, published.file)
    for category, file in zip(description.categories, files, strict=True):
        rows = read_rows(file, description)
        for sample in (row.sample for row in rows):
            known = dataset.by_path.get(sample.path)
            if known is None or known.is_anomalous != sample.is_anomalous:
                what = "none of that name" if known is None else "it called the other"
                raise DataError(
                    f"Expected {sample.path} of {file} in {dataset.root} as labelled, got {what}. Get it anew."
                )
        own = [row.sample for row in rows if row.part == "train"]
        normal = sorted(sample.path for sample in own if not sample.is_anomalous)
        train[category] = TrainImages(tuple(normal), tuple(sorted(s.path for s in own if s.is_anomalous)))
        test[category] = tuple(sorted(row.sample.path for row in rows if row.part == "test"))
    counts = {category: len(images.normal) for category, images in train.items()}
    high, low = groups_of(counts, groups, "tail20")
    recipe = {
        "profile": "official",
        "source": description.homepage,
        "published_as": PurePosixPath(published.file[0]).parent.name,
        "noise_percent": published.noise_percent,
        "disjoint": True,
    }
    return Split(f"{dataset.name}_{name}_official1", dataset.name, recipe, 0, high, low, train, test)
