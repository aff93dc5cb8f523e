"""Datasets from their descriptions: indexed, verified and listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ltbench.core import Dataset
from ltbench.datasets.decode import members
from ltbench.datasets.description import Description
from ltbench.datasets.listing import files_of, numbered_listing
from ltbench.datasets.lists import scan_list
from ltbench.datasets.scan import Scan
from ltbench.datasets.source import DatasetSource, require_folder, tell, tell_unlisted
from ltbench.datasets.tree import scan_tree
from ltbench.datasets.verify import Verification, compare, unreadable_of
from ltbench.errors import DataError


def scan_dataset(root: Path, description: Description) -> Scan:
    """Return what a description sees below a root.

    Raises:
        DataError: a list, or a mask that decides about a label, cannot be read.
    """
    return scan_list(root, description) if description.listed else scan_tree(root, description)


def index_described(root: Path, description: Description, remedy: str = "") -> Dataset:
    """Return the dataset that a description finds below a root.

    Args:
        root: the dataset's folder.
        description: its layout; `name` is the dataset's.
        remedy: what to do when something is not where the description has it.

    Raises:
        DataError: a category folder is missing or has no training or no test image, a defective image has no mask
            although its category has masks, images lie within the layout's folders where none is read, or a listed
            file is not there.
    """
    require_folder(root, f"dataset {description.name!r}", remedy)
    _require_categories(root, description, remedy)
    scan = scan_dataset(root, description)
    check_scan(root, description, scan, remedy)
    _tell(root, description, scan)
    return Dataset(description.name, scan.categories, scan.train, scan.test, root=root, files=scan.files)


def _require_categories(root: Path, description: Description, remedy: str) -> None:
    """Raise `DataError` unless each category that is to be expected has its folder."""
    first = {pattern.parts[0] for pattern in description.patterns}
    for category in description.categories if first == {"{category}"} else ():
        require_folder(root / category, f"category {category!r} of {description.name}", remedy)


def check_scan(root: Path, description: Description, scan: Scan, remedy: str = "") -> None:
    """Raise `DataError` where what a description finds below a root is no dataset, as `index_described` says."""
    if not scan.categories:
        raise DataError(f"Expected category folders in {root}, got none. {remedy}")
    if scan.missing:
        raise DataError(
            f"Expected every file that the list of {description.name} names, got {len(scan.missing)} too few, "
            f"{root / scan.missing[0]} the first. List them with `ltbench datasets verify`."
        )
    if scan.strays:
        raise DataError(
            f"Expected the images of {description.name} where its layout has them, got {len(scan.strays)} elsewhere, "
            f"{root / scan.strays[0]} the first. Move them up, or out of there. {remedy}"
        )
    for category in scan.categories:
        for what, samples, patterns in (
            ("good training", scan.train, description.train), ("test", scan.test, description.test),
        ):  # fmt: skip
            if not any(sample.category == category for sample in samples):
                places = ", ".join(str(root / p.fill({"category": category}).rpartition("/")[0]) for p in patterns)
                raise DataError(
                    f"Expected {what} images of category {category!r} in {places or root}, got none. "
                    f"Add some, or move {root / category} out of the dataset. {remedy}"
                )
    for image, mask in scan.unmasked.items():
        place = mask if description.listed else root / mask
        raise DataError(
            f"Expected the mask {place} of the defective image {root / image}, got none. "
            f"Add it, or remove the masks of its category to be scored by image only. {remedy}"
        )


def _tell(root: Path, description: Description, scan: Scan) -> None:
    """Say which images and folders take no part."""
    tell_unlisted(root, scan.outside, f"the layout of {description.name}")
    if scan.left_out:
        tell(f"Defective images among those of {root} that train take no part: {len(scan.left_out)}.")
    if not description.categories and any("category" in pattern.fields for pattern in description.patterns):
        for name in sorted({entry.name for entry in root.iterdir() if entry.is_dir()} - {*scan.categories}):
            if not name.startswith(".") and not any(pattern.area[:1] == (name,) for pattern in description.patterns):
                tell(f"The folder {root / name} holds no images of a category and is passed over.")
    if description.is_numbered:
        named = {sample.path for sample in (*scan.train, *scan.test)}
        unlisted = named - set(numbered_listing(description.name, description.counts).by_path)
        tell_unlisted(root, unlisted, f"{description.title}'s published listing")


def verify_described(root: Path, description: Description) -> Verification:
    """Compare a tree with what its description says of the release."""
    require_folder(root, description.title or f"dataset {description.name!r}", f"Get it from {description.homepage}.")
    if description.is_numbered:
        return compare(root, description.categories, files_of(numbered_listing(description.name, description.counts)))
    scan = scan_dataset(root, description)
    paths = [path for s in scan.samples for path in (s.path, s.mask) if path is not None]
    own = [scan.files.get(path, path) for path in paths]
    places = [root / path for path in own if path not in scan.missing]
    there = [file.relative_to(root).as_posix() for place in places for file in members(place)]
    absent = [category for category in description.categories if not any(s.category == category for s in scan.samples)]
    return Verification(
        missing=tuple(sorted({*scan.missing, *scan.unmasked.values(), *(f"{category}/*" for category in absent)})),
        extra=tuple(sorted({*scan.strays, *scan.outside, *scan.idle_masks})),
        unreadable=unreadable_of(root, there),
        miscounted=tuple(_miscounted(scan, description)),
    )


def _miscounted(scan: Scan, description: Description) -> Iterator[str]:
    """Yield a sentence for each count that differs from the published one."""
    found = Counter((sample.category, "train") for sample in scan.train)
    found.update((sample.category, sample.defect_type) for sample in scan.test)
    for category, counts in description.counts.items():
        for folder, published in counts.items():
            if found[category, folder] != published:
                yield f"{category}/{folder}: {found[category, folder]} images, published {published}"
    totals = {
        "images": len(scan.samples),
        "train": len(scan.train),
        "test": len(scan.test),
        "defective": sum(sample.is_anomalous for sample in scan.samples),
    }
    for what, published in description.totals.items():
        if totals[what] != published:
            yield f"{what}: {totals[what]}, published {published}"


def source_of(description: Description) -> DatasetSource:
    """Return a dataset as the suite knows it, from its description."""
    remedy = f"Get {description.title} from {description.homepage} and unpack it there."
    return DatasetSource(
        name=description.name,
        title=description.title,
        licence=description.licence,
        citation=description.citation,
        homepage=description.homepage,
        layout=description.layout,
        aliases=description.aliases,
        categories=description.categories,
        index=partial(index_described, description=description, remedy=remedy),
        verify=partial(verify_described, description=description),
        folders=description.folders,
        listing=partial(numbered_listing, description.name, description.counts)
        if description.is_numbered
        else lambda: None,
    )
