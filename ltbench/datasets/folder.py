"""A folder of your own: in MVTec AD layout, or in another that a description says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ltbench.core import Dataset
from ltbench.datasets.described import index_described, verify_described
from ltbench.datasets.description import FILE_NAME, Description, read_description
from ltbench.datasets.source import DatasetSource
from ltbench.datasets.verify import Verification

LAYOUT = """\
<category>/train/good/<image>
<category>/test/good/<image>
<category>/test/<defect_type>/<image>
<category>/ground_truth/<defect_type>/<stem>_mask.png   (or <stem>.png; leave ground_truth out: image metrics only)"""

MVTEC_LAYOUT = Description.model_validate(
    {
        "train": "{category}/train/good/{stem}",
        "test": "{category}/test/{defect}/{stem}",
        "masks": ["{category}/ground_truth/{defect}/{stem}_mask", "{category}/ground_truth/{defect}/{stem}"],
    }
)
"""The layout of a folder without a description."""


def index_tree(root: Path, name: str, categories: Sequence[str] = (), remedy: str = "") -> Dataset:
    """Return the dataset that a tree in MVTec AD layout holds.

    Args:
        root: the folder of the category folders.
        name: the dataset's name.
        categories: the categories to expect, in class order; by default every subfolder, sorted by name.
        remedy: what to do when something is not as the layout has it.

    Raises:
        DataError: as `index_described` says.
    """
    description = MVTEC_LAYOUT.model_copy(update={"name": name, "categories": tuple(categories)})
    return index_described(root, description, remedy or f"It needs this layout: {' '.join(LAYOUT.split())}.")


def is_own_dataset(place: Path) -> bool:
    """Return whether a path is a dataset by itself: a description, a folder that has one, or one in MVTec AD layout."""
    return place.is_file() or (place / FILE_NAME).is_file() or any(place.glob("*/train/good"))


def own_description(place: Path, name: str = "") -> tuple[Path, Description]:
    """Return the root of a dataset of one's own and its description.

    Args:
        place: its folder, or a description that lies elsewhere and names the folder.
        name: the dataset's name, by default the one in the description, else that of the folder.

    Raises:
        DataError: a description cannot be read.
    """
    file = place if place.is_file() else place / FILE_NAME
    description = read_description(file) if file.is_file() else MVTEC_LAYOUT
    root = file.parent / description.folder.expanduser() if description.folder else file.parent
    return root, description.model_copy(update={"name": name or description.name or root.resolve().name})


def index_own(place: Path, name: str = "") -> Dataset:
    """Return the dataset of a folder, by the description that it has, else in MVTec AD layout.

    Args:
        place: the folder, or a description that lies elsewhere.
        name: the dataset's name, by default the one in the description, else that of the folder.

    Raises:
        DataError: the folder does not fit; the message says what was looked for and how another layout is described.
    """
    root, description = own_description(place, name)
    if description.layout != MVTEC_LAYOUT.layout:
        remedy = (
            f"{place} has the layout: {'; '.join(' '.join(line.split()) for line in description.layout.splitlines())}."
        )
    else:
        remedy = f"It needs this layout: {' '.join(LAYOUT.split())}."
    return index_described(
        root, description, f"{remedy} `ltbench datasets describe {shlex.quote(str(root))}` looks at any other."
    )


def verify_own(place: Path, name: str = "") -> Verification:
    """Return what is unreadable in a folder, what fits nowhere, and which masks belong to no image."""
    root, description = own_description(place, name)
    return verify_described(root, description)


SOURCE = DatasetSource(
    name="folder",
    title="any folder of your own",
    licence="yours",
    citation="yours",
    homepage="your own images; name the folder's basename as the dataset",
    layout=f"{LAYOUT}\nor any other that `ltbench datasets describe FOLDER` recognises",
    aliases=(),
    categories=(),
    index=index_own,
    verify=verify_own,
)
