"""A dataset whose folders and file names say what its images show, as its description has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ltbench.core import GOOD, Sample
from ltbench.datasets.decode import is_image_name
from ltbench.datasets.description import Description
from ltbench.datasets.masks import blank_masks
from ltbench.datasets.patterns import Fields, Pattern
from ltbench.datasets.scan import Part, Scan, parted
from ltbench.datasets.verify import images_below

DEFECT = "defect"
"""The defect type of an image that only its mask calls defective."""

_LEFT_BY_ARCHIVES = "__MACOSX"


@dataclass(frozen=True, slots=True)
class _Image:
    """An image that fits a pattern: what its path says of it."""

    path: str
    part: Part
    category: str
    word: str | None
    fields: Fields


def scan_tree(root: Path, description: Description) -> Scan:
    """Return what the patterns of a description see below a root.

    Raises:
        DataError: a mask that says whether its image is good cannot be read.
    """
    paths = list(_walk(root, description))
    masks = _Masks(root, description)
    rest = [path for path in paths if not masks.take(path)]
    images, others = [], []
    for path in rest:
        image = _image(path, description)
        if image is None or (description.categories and image.category not in description.categories):
            others.append(path)
        else:
            images.append(image)
    labelled, unmasked = _labelled(images, masks, description)
    scan = parted(labelled, description.categories or _categories(paths, description), description.hold_out)
    strays = {path for path in others if any(pattern.covers(path) for pattern in description.patterns)}
    return replace(
        scan,
        unmasked=unmasked,
        strays=tuple(path for path in others if path in strays),
        outside=tuple(path for path in others if path not in strays),
        idle_masks=masks.idle(scan.samples),
    )


def _walk(root: Path, description: Description) -> Iterator[str]:
    """Yield every image file below a root that can belong to the dataset, those that are ignored left out."""
    by_category = all(pattern.parts[0] == "{category}" for pattern in (*description.patterns, *description.masks))
    folders: Sequence[str] = description.categories if by_category and description.categories else subfolders(root)
    for path in (*image_names(root), *images_below(root, folders)):
        if not any(pattern.holds(path) for pattern in description.ignored):
            yield path


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones and what archives leave behind."""
    entries = (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return sorted(entry.name for entry in entries if entry.name != _LEFT_BY_ARCHIVES)


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files of a folder, sorted; none when there is no such folder."""
    if not folder.is_dir():
        return []
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and is_image_name(entry.name))
    return sorted(entry.name for entry in entries if not entry.is_dir())


def _image(path: str, description: Description) -> _Image | None:
    parts: tuple[tuple[Part, tuple[Pattern, ...]], ...] = (
        ("train", description.train),
        ("test", description.test),
        ("images", description.images),
    )
    for part, patterns in parts:
        for pattern in patterns:
            if (fields := pattern.match(path)) is not None:
                category = fields.get("category", description.one_category)
                return _Image(path, part, category, fields.get("defect"), fields)
    return None


def _categories(paths: Iterable[str], description: Description) -> tuple[str, ...]:
    """Return the categories in whose folders images lie, sorted, or the one category of a layout without any."""
    if not any("category" in pattern.fields for pattern in description.patterns):
        return (description.one_category,)
    found = {pattern.category(path) for path in paths for pattern in description.patterns}
    return tuple(sorted(category for category in found if category is not None))


def _labelled(
    images: Iterable[_Image], masks: _Masks, description: Description
) -> tuple[list[tuple[Part, Sample]], dict[str, str]]:
    """Return the images as samples with part, label and mask, and image -> place of a mask that should be there."""
    samples: list[tuple[Part, Sample]] = []
    unmasked: dict[str, str] = {}
    blank = masks.blank() if description.is_good_by_mask else frozenset()
    for image in images:
        mask = masks.of(image.fields)
        if description.is_good_by_mask:
            is_good = mask is None or mask in blank
            word, is_due = GOOD if is_good else DEFECT, True
        else:
            is_good = image.word is None or image.word in description.good
            word, is_due = GOOD if is_good else str(image.word), not is_good and masks.are_of(image.category)
        if mask is None and is_due:
            unmasked[image.path] = masks.expected(image.fields)
        samples.append((image.part, Sample(image.path, image.category, word, None if is_good else mask)))
    return samples, unmasked


class _Masks:
    """The masks of a tree, found by their patterns.

    Args:
        root: the dataset's root.
        description: its `masks`, the best pattern first.
    """

    def __init__(self, root: Path, description: Description) -> None:
        self._root, self._description = root, description
        self._found: list[dict[tuple[str, ...], str]] = [{} for _ in description.masks]
        self._taken: set[str] = set()
        self._categories: dict[str, bool] = {}

    def take(self, path: str) -> bool:
        """Return whether a file is a mask by its place and name, and remember it."""
        is_mask = False
        for pattern, found in zip(self._description.masks, self._found, strict=True):
            if (fields := pattern.match(path)) is not None:
                mask = PurePosixPath(path).parent.as_posix() if pattern.is_folder else path
                found[_key(pattern, fields)] = mask
                self._taken.add(mask)
                self._categories[fields.get("category", self._description.one_category)] = is_mask = True
        return is_mask

    def of(self, fields: Fields) -> str | None:
        """Return the mask of the image in whose path the fields were found, a file or a folder, or None."""
        for pattern, found in zip(self._description.masks, self._found, strict=True):
            if pattern.fields <= set(fields) and (mask := found.get(_key(pattern, fields))) is not None:
                return mask
        return None

    def expected(self, fields: Fields) -> str:
        """Return where the mask of an image should lie."""
        return self._description.masks[0].fill(fields)

    def are_of(self, category: str) -> bool:
        """Return whether a category has masks, or a folder for them; one without is scored by image only."""
        if category not in self._categories:
            shared = {pattern.area for pattern in self._description.patterns}
            areas = {pattern.area for pattern in self._description.masks} - shared
            places = ("/".join(area).replace("{category}", category) for area in areas if area)
            self._categories[category] = any((self._root / place).is_dir() for place in places)
        return self._categories[category]

    def blank(self) -> frozenset[str]:
        """Return the masks without a pixel above 0; every mask is read, once a machine."""
        return blank_masks({mask: self._root / mask for mask in self._taken})

    def idle(self, samples: Iterable[Sample]) -> tuple[str, ...]:
        """Return the masks that belong to none of the samples, sorted."""
        if self._description.is_good_by_mask:
            return ()
        return tuple(sorted(self._taken - {sample.mask for sample in samples if sample.mask is not None}))


def _key(pattern: Pattern, fields: Fields) -> tuple[str, ...]:
    return tuple(fields[name] for name in sorted(pattern.fields))
