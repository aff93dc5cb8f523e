"""Whether a split and a dataset on disk belong together, found out before a run starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ltbench.core import Dataset, Protocol, Split
from ltbench.datasets.facts import TWELVE_BITS, check_depth, facts_of
from ltbench.datasets.masks import check_mask_size, kept_of
from ltbench.errors import DataError


def check_split(split: Split, dataset: Dataset) -> None:
    """Raise `DataError` unless every image of the split is in the dataset, as what the split says it is, with its mask.

    Of images and masks only file headers are read, and none where the dataset is a listing without files.
    """
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
    for path in (path for paths in split.test.values() for path in paths if dataset.root is not None):
        sample = dataset.by_path[path]
        if sample.mask is not None:
            check_mask_size(dataset, sample)


def check_images(split: Split, dataset: Dataset, protocol: Protocol) -> list[str]:
    """Check that every test image is whole; return the categories whose images will come out almost black.

    Without this a broken test image ends a run after its training. The training images are the first that a run reads.

    Raises:
        DataError: a test image is missing, truncated, or has pixels outside the protocol's depth.
    """
    dark = []
    for category, paths in sorted(split.test.items()):
        facts = facts_of(dataset.file(path) for path in paths)
        if any(fact.is_deep for fact in facts.values()):
            trained = (*split.train[category].normal, *split.train[category].contaminant)
            facts |= facts_of(dataset.file(path) for path in trained)
        for file, fact in facts.items():
            check_depth(file, fact, protocol.image_depth)
        deep = [fact for fact in facts.values() if fact.is_deep]
        if protocol.image_depth == 16 and deep and all(fact.is_dark for fact in deep):
            dark.append(category)
    return dark


def mask_notes(split: Split, dataset: Dataset, protocol: Protocol) -> dict[str, dict[str, int]]:
    """Return by category what a protocol makes of the masks of the defective test images; only what is worth a word.

    Returns:
        Category -> "defects" (with a mask), "blank" (it has no defect pixel), "empty" (it has, and the protocol leaves
        none), "halved" (the protocol leaves less than half), "graded" (it has many grey levels); nothing where all but
        the first are 0.

    Raises:
        DataError: a mask cannot be read.
    """
    notes = {}
    for category, paths in sorted(split.test.items()):
        samples = [dataset.by_path[path] for path in paths]
        defects = [sample for sample in samples if sample.is_anomalous and sample.mask]
        kept = kept_of(dataset, defects, protocol).values()
        found = {
            "blank": sum(mask.defect == 0 for mask in kept),
            "empty": sum(mask.inside == 0 < mask.defect for mask in kept),
            "halved": sum(mask.is_halved for mask in kept),
            "graded": sum(mask.is_graded for mask in kept),
        }
        if any(found.values()):
            notes[category] = {"defects": len(kept), **found}
    return notes


def told_of_masks(notes: Mapping[str, Mapping[str, Any]], dataset: str, protocol: Protocol) -> list[str]:
    """Return what `mask_notes` means for the user, with the remedy."""
    total = {kind: sum(note[kind] for note in notes.values()) for kind in ("blank", "empty", "halved", "graded")}
    told = []
    if total["blank"]:
        told.append(
            f"{total['blank']} test defects have a mask without a defect pixel; `ltbench datasets verify {dataset}` "
            "names them"
        )
    if total["empty"] or total["halved"]:
        where = ", ".join(f"{category} {note['empty']}" for category, note in notes.items() if note["empty"])
        remedy = ". A protocol without a crop (--protocol common) keeps whole images" if protocol.crops else ""
        told.append(
            f"{total['empty']} test defects have no pixel left under protocol {protocol.name}"
            f"{f' ({where})' if where else ''}, and {total['halved']} less than half; they count as anomalous all the "
            f"same{remedy}"
        )
    if total["graded"] and protocol.mask_threshold == "auto":
        told.append(
            f"{total['graded']} masks have many grey levels and are cut at half of their maximum; "
            f"--protocol {protocol.name}+positive_masks takes every value above 0, +half_masks cuts the others too"
        )
    return told


def told_of_dark_images(dark: Sequence[str], protocol: Protocol) -> list[str]:
    """Return what it means that the images of some categories use twelve of 16 bits, with the remedy."""
    if not dark:
        return []
    return [
        f"16-bit images of {', '.join(dark)} have no value above {TWELVE_BITS}, as 12-bit cameras leave them, and come "
        f"out almost black; --protocol {protocol.name}+depth12 scales grey by {TWELVE_BITS}, save colours with 8 bit"
    ]
