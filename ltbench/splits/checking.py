"""Whether a split and a dataset on disk belong together, found out before a run starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltbench.core import Dataset, Protocol, Split
from ltbench.datasets.decode import is_dark
from ltbench.datasets.masks import check_mask_size, kept_of
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


def mask_notes(split: Split, dataset: Dataset, protocol: Protocol) -> dict[str, dict[str, int]]:
    """Return by category what a protocol makes of the masks of the defective test images; only what is worth a word.

    Returns:
        Category -> "defects" (with a mask), "blank" (it has no defect pixel), "empty" (the crop leaves none), "halved"
        (the crop leaves less than half), "graded" (it has many grey levels); nothing where all but the first are 0.

    Raises:
        DataError: a mask cannot be read.
    """
    notes = {}
    for category, paths in sorted(split.test.items()):
        samples = [dataset.by_path[path] for path in paths]
        kept = [kept_of(dataset, sample, protocol) for sample in samples if sample.is_anomalous and sample.mask]
        found = {
            "blank": sum(mask.whole == 0 for mask in kept),
            "empty": sum(mask.inside == 0 < mask.whole for mask in kept),
            "halved": sum(0 < 2 * mask.inside < mask.whole for mask in kept),
            "graded": sum(mask.is_graded for mask in kept),
        }
        if any(found.values()):
            notes[category] = {"defects": len(kept), **found}
    return notes


def told_of_masks(notes: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> list[str]:
    """Return what `mask_notes` means for the user, with the remedy."""
    told = []
    if blank := sum(note["blank"] for note in notes.values()):
        told.append(f"{blank} test defects have a mask without a defect pixel; `ltbench datasets verify` names them")
    empty, halved = (sum(note[kind] for note in notes.values()) for kind in ("empty", "halved"))
    if empty or halved:
        where = ", ".join(f"{category} {note['empty']}" for category, note in notes.items() if note["empty"])
        told.append(
            f"{empty} test defects have no pixel left under protocol {protocol.name}"
            f"{f' ({where})' if where else ''}, and {halved} less than half; they count as anomalous all the same. "
            "A protocol without a crop (--protocol common) keeps whole images"
        )
    graded = sum(note["graded"] for note in notes.values())
    if graded and protocol.mask_threshold == "auto":
        told.append(
            f"{graded} masks have many grey levels and are cut at half of their maximum; "
            f"--protocol {protocol.name}+positive_masks takes every value above 0, +half_masks cuts the others too"
        )
    return told


def told_of_dark_images(split: Split, dataset: Dataset, protocol: Protocol) -> list[str]:
    """Return which categories' images will come out almost black: no training image of them has a value above 4095.

    An image that has one ends the look at its category, and one that is not of 16 bit does.

    Raises:
        DataError: an image cannot be read.
    """
    if protocol.image_depth != 16:
        return []
    dark = [name for name, own in sorted(split.train.items()) if all(is_dark(dataset.file(p)) for p in own.normal)]
    if not dark:
        return []
    return [
        f"16-bit training images of {', '.join(dark)} have no value above 4095, as 12-bit cameras leave them, and come "
        f"out almost black; --protocol {protocol.name}+depth12 scales them by 4095"
    ]
