"""DAGM 2007: 10 synthetic textures, 16,100 images.

Wieler and Hahn, Weakly Supervised Learning for Industrial Optical Inspection, competition at the DAGM symposium 2007.
Each of `ClassN/Train` and `ClassN/Test` holds 575 images (1,150 from Class7 on); `Label/Labels.txt` says which are
defective. Good images of Train train, defective images of Train are left out, all images of Test test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from ltbench.core import Dataset, Sample, check_relative
from ltbench.datasets.source import DatasetSource, require_folder, tell_unlisted
from ltbench.datasets.tree import image_names
from ltbench.datasets.verify import Verification, compare, images_below
from ltbench.errors import DataError

HOMEPAGE = "https://hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection"
REMEDY = f"Get DAGM 2007 from {HOMEPAGE} and unpack it there."
DEFECT_TYPE = "defect"

CATEGORIES = tuple(f"Class{n}" for n in range(1, 11))
PARTS = ("Train", "Test")

IMAGE_COUNTS = {category: 575 if n < 6 else 1150 for n, category in enumerate(CATEGORIES)}
"""Category -> images in each of Train and Test."""

DEFECTIVE_COUNTS = {
    category: {"Train": train, "Test": test}
    for category, train, test in zip(
        CATEGORIES,
        (79, 66, 66, 82, 70, 83, 150, 150, 150, 150),
        (71, 84, 84, 68, 80, 67, 150, 150, 150, 150),
        strict=True,
    )
}
"""Category -> defective images in each part. Source: the table that the public pre-processing script of
github.com/DEKHTIARJonathan/DAGM2007_TF_Utils checks against."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of a Labels.txt: an image and, when it is defective, its mask, both as bare file names."""

    image: str
    mask: str | None


def read_labels(file: Path) -> list[LabelRow]:
    """Return the rows of a `Labels.txt`.

    The first line holds a single number; each other line has five fields: number, 1 if defective, image, 0, and the
    mask (0 when there is none).

    Raises:
        DataError: the file is missing or a line has another form.
    """
    if not file.is_file():
        raise DataError(f"Expected the labels {file}, got no such file. {REMEDY}")
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        fields = line.split()
        if not fields or (number == 1 and len(fields) == 1):
            continue
        if len(fields) != 5 or fields[1] not in ("0", "1") or (fields[1] == "1") != (fields[4] != "0"):
            raise DataError(f"Expected 'n flag image 0 mask' in {file}, line {number}, got {line!r}. {REMEDY}")
        for name in (fields[2], fields[4]):
            check_relative(name)
            if "/" in name:
                raise DataError(f"Expected a bare file name in {file}, line {number}, got {name!r}. {REMEDY}")
        rows.append(LabelRow(fields[2], fields[4] if fields[1] == "1" else None))
    return sorted(rows, key=lambda row: row.image)


def _prefix(root: Path, category: str) -> str:
    """Return where a category lies: some archives unpack to `Class1/Class1/Train`."""
    return f"{category}/{category}" if (root / category / category / "Train").is_dir() else category


def index(root: Path) -> Dataset:
    """Return the dataset below a root.

    Raises:
        DataError: a folder or labels file is missing, or a labelled image or mask is not there.
    """
    require_folder(root, "DAGM 2007", REMEDY)
    train: list[Sample] = []
    test: list[Sample] = []
    files: dict[str, str] = {}
    for category in CATEGORIES:
        require_folder(root / category, f"category {category!r} of dagm", REMEDY)
        for part, samples in (("Train", train), ("Test", test)):
            found = _samples(root, category, part, files)
            kept = [sample for sample in found if part == "Test" or not sample.is_anomalous]
            if not kept:
                raise DataError(f"Expected images of category {category!r} in its {part}, got none. {REMEDY}")
            samples += kept
    return Dataset("dagm", CATEGORIES, tuple(train), tuple(test), root, files)


def _samples(root: Path, category: str, part: str, files: dict[str, str]) -> list[Sample]:
    """Return every sample of a part, and enter into `files` where a nested archive keeps it."""
    prefix = _prefix(root, category)
    folder = require_folder(root / prefix / part, f"part {part} of {category} of dagm", REMEDY)
    present = {*image_names(folder), *(f"Label/{name}" for name in image_names(folder / "Label"))}
    samples = []
    rows = read_labels(folder / "Label" / "Labels.txt")
    images = {path for path in images_below(folder, [""]) if not path.startswith("Label/")}
    tell_unlisted(folder, images - {row.image for row in rows}, "Label/Labels.txt")
    for row in rows:
        names = [row.image] if row.mask is None else [row.image, f"Label/{row.mask}"]
        for name in names:
            if name not in present:
                raise DataError(
                    f"Expected {folder / name}, which {folder / 'Label' / 'Labels.txt'} names, got no such file. "
                    "List what is missing with `ltbench datasets verify dagm`."
                )
            if prefix != category:
                files[f"{category}/{part}/{name}"] = f"{prefix}/{part}/{name}"
        mask = None if row.mask is None else f"{category}/{part}/Label/{row.mask}"
        defect_type = {} if mask is None else {"defect_type": DEFECT_TYPE}
        samples.append(Sample(f"{category}/{part}/{row.image}", category, mask=mask, **defect_type))
    return samples


def verify(root: Path) -> Verification:
    """Compare a tree with its own labels files, and those with the published counts."""
    require_folder(root, "DAGM 2007", REMEDY)
    expected: set[str] = set()
    folders, unlabelled, miscounted = [], [], []
    for category, part in product(CATEGORIES, PARTS):
        folder = f"{_prefix(root, category)}/{part}"
        labels = f"{folder}/Label/Labels.txt"
        if not (root / labels).is_file():
            unlabelled.append(labels)
            continue
        folders.append(folder)
        rows = read_labels(root / labels)
        expected |= {f"{folder}/{row.image}" for row in rows}
        expected |= {f"{folder}/Label/{row.mask}" for row in rows if row.mask is not None}
        for what, published, count in (
            ("images", IMAGE_COUNTS[category], len(rows)),
            ("defective images", DEFECTIVE_COUNTS[category][part], sum(row.mask is not None for row in rows)),
        ):
            if count != published:
                miscounted.append(f"{folder}: {count} {what}, published {published}")
    found = compare(root, folders, expected, miscounted)
    return replace(found, missing=(*unlabelled, *found.missing))


SOURCE = DatasetSource(
    name="dagm",
    title="DAGM 2007",
    licence="not stated by the organisers; ask them before any other use than research",
    citation="Wieler and Hahn, Weakly Supervised Learning for Industrial Optical Inspection, DAGM symposium 2007",
    homepage=HOMEPAGE,
    layout="""\
Class<1-10>/{Train,Test}/<number>.PNG
Class<1-10>/{Train,Test}/Label/Labels.txt
Class<1-10>/{Train,Test}/Label/<number>_label.PNG   (also nested, Class1/Class1/Train, as some archives unpack)""",
    aliases=("DAGM2007", "DAGM_2007", "DAGM-2007", "DAGM_KaggleUpload"),
    categories=CATEGORIES,
    index=index,
    verify=verify,
)
