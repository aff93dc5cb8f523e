"""`shapes`: twelve drawn categories, built in, so that the suite runs without a download.

It is written once, to the cache folder. Every picture has its own seed, so any subset of it comes out the same.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from PIL import Image

from ltbench.core import GOOD, Dataset
from ltbench.datasets.cache import cache_folder
from ltbench.datasets.drawing import objects, textures
from ltbench.datasets.drawing.canvas import Surface, developed, lit
from ltbench.datasets.drawing.flaws import Flaw
from ltbench.datasets.folder import LAYOUT, index_tree
from ltbench.datasets.listing import Counts, files_of, numbered_listing
from ltbench.datasets.source import DatasetSource, require_folder
from ltbench.datasets.verify import Verification, compare
from ltbench.system import writing

VERSION = 1
"""Raise it with every change to the drawings: the folder in the cache is named after it."""

SEED = 0

MASK_STEP = 10.0
"""A pixel is defective when the flaw changes any channel by at least this much, of 255, before the grain."""


COMPRESSION = 2
"""zlib's level: five times faster than Pillow's 6, for files a tenth larger."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A category: the function that draws it and its defect types."""

    draw: Callable[[RandomState, Flaw | None], Surface]
    defect_types: tuple[str, ...]


DRAWINGS: Mapping[str, Drawing] = {
    "brushed_steel": Drawing(textures.brushed_steel, ("dent", "rust", "scratch")),
    "button_four": Drawing(objects.button_four, ("chip", "crack", "missing_hole")),
    "button_two": Drawing(objects.button_two, ("chip", "missing_hole", "scratch")),
    "gear": Drawing(objects.gear, ("missing_tooth", "rust", "scratch")),
    "hex_bolt": Drawing(objects.hex_bolt, ("chip", "missing_mark", "scratch")),
    "hex_nut": Drawing(objects.hex_nut, ("chip", "rust", "scratch")),
    "lock_washer": Drawing(objects.lock_washer, ("closed", "rust", "scratch")),
    "perforated_plate": Drawing(textures.perforated_plate, ("blocked_hole", "scratch", "stain")),
    "plain_weave": Drawing(textures.plain_weave, ("hole", "stain", "thread")),
    "twill_weave": Drawing(textures.twill_weave, ("hole", "stain", "thread")),
    "washer": Drawing(objects.washer, ("chip", "scratch", "split")),
    "wood": Drawing(textures.wood, ("crack", "hole", "stain")),
}
"""Every category, in class order (alphabetical)."""

CATEGORIES = tuple(DRAWINGS)

COUNTS: Counts = {
    category: {"train": 50, GOOD: 10, **dict.fromkeys(drawing.defect_types, 6)}
    for category, drawing in DRAWINGS.items()
}
"""Category -> images in train/good (`train`) and in each folder of test."""


def render(category: str, folder: str, number: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one picture.

    Args:
        category: one of `CATEGORIES`.
        folder: `train`, `good` (of test) or a defect type.
        number: of the file in its folder.

    Returns:
        The image, (256, 256, 3), and its defect pixels, (256, 256): those where it differs from the same picture
        drawn whole.
    """
    seed = zlib.crc32(f"{SEED}/{category}/{folder}/{number}".encode())
    drawing = DRAWINGS[category]
    rng = RandomState(seed)
    whole = lit(drawing.draw(rng, None), rng)
    if folder in ("train", GOOD):
        return developed(whole, rng), np.zeros(whole.shape[1:], dtype=np.bool_)
    rng = RandomState(seed)
    flawed = lit(drawing.draw(rng, Flaw(folder, RandomState(seed ^ 0x5EED))), rng)
    return developed(flawed, rng), np.abs(flawed - whole).max(axis=0) >= MASK_STEP


def write(root: Path, counts: Counts) -> None:
    """Draw the folders that `counts` names, each up to its count, into a new folder in MVTec AD layout."""
    for category, folders in counts.items():
        for folder, count in folders.items():
            part = f"{category}/train/good" if folder == "train" else f"{category}/test/{folder}"
            truth = root / category / "ground_truth" / folder
            (root / part).mkdir(parents=True)
            is_defect = folder not in ("train", GOOD)
            if is_defect:
                truth.mkdir(parents=True)
            for number in range(count):
                image, mask = render(category, folder, number)
                Image.fromarray(image).save(root / part / f"{number:03}.png", compress_level=COMPRESSION)
                if is_defect:
                    Image.fromarray(mask).save(truth / f"{number:03}_mask.png")


def cached_root() -> Path:
    """Return where in the cache the dataset is kept, whether or not it has been drawn yet."""
    return cache_folder() / f"shapes-v{VERSION}-seed{SEED}"


def write_once() -> Path:
    """Return the root of the dataset in the cache, drawing it first if it is not there.

    It is drawn into a folder beside and renamed when complete, under a lock: an interrupted call leaves nothing that
    could be taken for the dataset, and several processes wait for one.

    Raises:
        FullDiskError, DataError: the cache cannot be written to.
    """
    root = cached_root()
    if root.is_dir():
        return root
    partial = root.with_name(f".{root.name}.partial")
    with writing(root, "Free some space there, or set LTBENCH_CACHE to another folder."):
        root.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root.with_name(f".{root.name}.lock")):
            if root.is_dir():
                return root
            shutil.rmtree(partial, ignore_errors=True)
            try:
                write(partial, COUNTS)
                partial.rename(root)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return root


def listing() -> Dataset:
    """Return the listing: no image is needed, since counts and names are fixed."""
    return numbered_listing("shapes", COUNTS)


def index(root: Path) -> Dataset:
    """Return the dataset below a root; the one in the cache is drawn first when it is not there."""
    if root == cached_root():
        write_once()
    return index_tree(root, "shapes", CATEGORIES, f"Remove {root}, so that it is drawn anew.")


def verify(root: Path) -> Verification:
    """Compare a tree with the listing; the one in the cache is drawn first when it is not there."""
    if root == cached_root():
        write_once()
    require_folder(root, "shapes", f"It is drawn in {cached_root()} only.")
    return compare(root, CATEGORIES, files_of(listing()))


SOURCE = DatasetSource(
    name="shapes",
    title="Shapes",
    licence="Apache-2.0",
    citation="drawn by ltbench itself",
    homepage="built in: drawn on first use, kept in the cache (LTBENCH_CACHE)",
    layout=LAYOUT,
    aliases=(),
    categories=CATEGORIES,
    index=index,
    verify=verify,
    listing=listing,
)
