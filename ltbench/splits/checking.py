"""Whether a split and a dataset on disk belong together, found out before a run starts."""

from __future__ import annotations

from ltbench.core import Dataset, Split
from ltbench.datasets.images import check_mask_size
from ltbench.errors import DataError


def check_split(split: Split, dataset: Dataset) -> None:
    """Raise `DataError` unless every image of the split is in the dataset, as what the split says it is."""
    named = {path for images in split.train.values() for path in (*images.normal, *images.contaminant)}
    named |= {path for paths in split.test.values() for path in paths}
    lacking = sorted(named - set(dataset.by_path))
    if lacking:
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        raise DataError(
            f"Expected every image of split {split.name} in {dataset.root}, got none at {shown}. "
            f"Check the folder with `ltbench datasets verify {dataset.name}`."
        )
    for images in split.train.values():
        wrong = [path for path in images.normal if dataset.by_path[path].is_anomalous]
        wrong += [path for path in images.contaminant if not dataset.by_path[path].is_anomalous]
        if wrong:
            raise DataError(f"Expected {wrong[0]} to be what split {split.name} calls it, got the other. Make it anew.")


def check_masks(split: Split, dataset: Dataset) -> None:
    """Raise `DataError` unless every mask of the test set is as large as its image; only file headers are read."""
    for path in (path for paths in split.test.values() for path in paths):
        sample = dataset.by_path[path]
        if sample.mask is not None:
            check_mask_size(dataset, sample)
