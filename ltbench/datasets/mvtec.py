"""MVTec AD: 15 categories, 5,354 images.

Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 129 (2021), doi:10.1007/s11263-020-01400-4.
"""

from __future__ import annotations

from pathlib import Path

from ltbench.core import Dataset
from ltbench.datasets.folder import LAYOUT, files_of, index_tree, numbered_listing
from ltbench.datasets.source import DatasetSource, require_folder, tell_unlisted
from ltbench.datasets.verify import Verification, compare

HOMEPAGE = "https://www.mvtec.com/company/research/datasets/mvtec-ad"

# The released archive, counted. Class order of the long tails: textures, then objects, each alphabetically
# (MVTec's own order, which fits the head scores that LTAD, Ho et al., CVPR 2024, publishes).
_TABLE = """
carpet      train 280 good 28 color 19 cut 17 hole 17 metal_contamination 17 thread 19
grid        train 264 good 21 bent 12 broken 12 glue 11 metal_contamination 11 thread 11
leather     train 245 good 32 color 19 cut 19 fold 17 glue 19 poke 18
tile        train 230 good 33 crack 17 glue_strip 18 gray_stroke 16 oil 18 rough 15
wood        train 247 good 19 color 8 combined 11 hole 10 liquid 10 scratch 21
bottle      train 209 good 20 broken_large 20 broken_small 22 contamination 21
cable       train 224 good 58 bent_wire 13 cable_swap 12 combined 11 cut_inner_insulation 14 cut_outer_insulation 10 \
missing_cable 12 missing_wire 10 poke_insulation 10
capsule     train 219 good 23 crack 23 faulty_imprint 22 poke 21 scratch 23 squeeze 20
hazelnut    train 391 good 40 crack 18 cut 17 hole 18 print 17
metal_nut   train 220 good 22 bent 25 color 22 flip 23 scratch 23
pill        train 267 good 26 color 25 combined 17 contamination 21 crack 26 faulty_imprint 19 pill_type 9 scratch 24
screw       train 320 good 41 manipulated_front 24 scratch_head 24 scratch_neck 25 thread_side 23 thread_top 23
toothbrush  train  60 good 12 defective 30
transistor  train 213 good 60 bent_lead 10 cut_lead 10 damaged_case 10 misplaced 10
zipper      train 240 good 32 broken_teeth 19 combined 16 fabric_border 17 fabric_interior 16 rough 17 split_teeth 18 \
squeezed_teeth 16
"""


def _read_table(table: str) -> dict[str, dict[str, int]]:
    rows = (line.split() for line in table.strip().splitlines())
    return {
        category: {folder: int(count) for folder, count in zip(cells[::2], cells[1::2], strict=True)}
        for category, *cells in rows
    }


COUNTS = _read_table(_TABLE)
"""Category -> images in train/good (`train`) and in each folder of test, in class order."""

CATEGORIES = tuple(COUNTS)
"""The 15 categories in class order."""


def listing() -> Dataset:
    """Return the published listing: no image is needed, since files are numbered 000.png upwards without a gap."""
    return numbered_listing("mvtec", COUNTS)


def index(root: Path) -> Dataset:
    """Return the dataset below a root; all 15 category folders are needed."""
    dataset = index_tree(root, "mvtec", CATEGORIES, f"Get MVTec AD from {HOMEPAGE} and unpack it there.")
    tell_unlisted(root, set(dataset.by_path) - set(listing().by_path), "MVTec AD's published listing")
    return dataset


def verify(root: Path) -> Verification:
    """Compare a tree with the published listing."""
    require_folder(root, "MVTec AD", f"Get it from {HOMEPAGE}.")
    return compare(root, CATEGORIES, files_of(listing()))


SOURCE = DatasetSource(
    name="mvtec",
    title="MVTec AD",
    licence="CC BY-NC-SA 4.0",
    citation="Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, doi:10.1007/s11263-020-01400-4",
    homepage=HOMEPAGE,
    layout=LAYOUT,
    aliases=("mvtec_anomaly_detection", "mvtec_ad", "MVTec-AD", "MVTecAD"),
    categories=CATEGORIES,
    index=index,
    verify=verify,
    listing=listing,
)
