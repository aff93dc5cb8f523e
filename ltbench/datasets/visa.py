"""VisA: 12 categories, 10,821 images, as released or converted to the MVTec AD layout.

Zou et al., SPot-the-Difference Self-Supervised Pre-training, ECCV 2022, arXiv:2207.14315. The conversion is that of
github.com/amazon-science/spot-diff (`good` and `bad`, names kept), or an older one (`anomaly`, `.png` names).
A sample is identified by its path in the release in both cases, so one split serves both trees.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from ltbench.core import Dataset, Sample
from ltbench.datasets.listing import files_of
from ltbench.datasets.source import DatasetSource, require_folder, tell_unlisted
from ltbench.datasets.verify import Verification, compare, images_below
from ltbench.errors import DataError

HOMEPAGE = "https://github.com/amazon-science/spot-diff"
REMEDY = f"Get VisA from {HOMEPAGE} and unpack it there."
DEFECT_TYPE = "bad"
"""The one defect type that the partition tells apart (the release's csv says `anomaly`)."""

PARTS = ("train", "test")
SPLIT_CSV = "split_csv/1cls.csv"
COLUMNS = ["object", "split", "label", "image", "mask"]

COUNTS = {
    "candle": (900, 100),
    "capsules": (542, 60),
    "cashew": (450, 50),
    "chewinggum": (453, 50),
    "fryum": (450, 50),
    "macaroni1": (900, 100),
    "macaroni2": (900, 100),
    "pcb1": (904, 100),
    "pcb2": (901, 100),
    "pcb3": (905, 101),
    "pcb4": (904, 101),
    "pipe_fryum": (450, 50),
}
"""Category -> good images in (train, test); each category has 100 defective images in test besides. Source: the
release's csv. Good images are numbered from 0 over both parts, defective ones 000 to 099."""

DEFECTIVE_COUNT = 100
CATEGORIES = tuple(COUNTS)

_CONVERTED = re.compile(
    r"(?P<category>[^/]+)/(?P<part>train|test|ground_truth)/(?P<label>good|bad|anomaly)/(?P<stem>[^/]+)\.\w+"
)


def _normal(category: str, stem: str) -> str:
    return f"{category}/Data/Images/Normal/{stem}.JPG"


def _anomalous(category: str, stem: str) -> Sample:
    mask = f"{category}/Data/Masks/Anomaly/{stem}.png"
    return Sample(f"{category}/Data/Images/Anomaly/{stem}.JPG", category, DEFECT_TYPE, mask)


def _dataset(train: list[Sample], test: list[Sample], root: Path | None, files: dict[str, str]) -> Dataset:
    def order(sample: Sample) -> tuple[int, str]:
        return CATEGORIES.index(sample.category), sample.path

    return Dataset("visa", CATEGORIES, tuple(sorted(train, key=order)), tuple(sorted(test, key=order)), root, files)


def read_listing(file: Path) -> Dataset:
    """Return the partition that a `1cls.csv` lists; the images themselves are not needed.

    Raises:
        DataError: the file is missing or is not the release's csv.
    """
    if not file.is_file():
        raise DataError(f"Expected VisA's partition in {file}, got no such file. {REMEDY}")
    train: list[Sample] = []
    test: list[Sample] = []
    for number, row in enumerate(_rows(file), start=2):
        category, part, label, image, mask = (row[column] for column in COLUMNS)
        is_known = category in COUNTS and part in PARTS and label in ("normal", "anomaly")
        if not is_known or not image or bool(mask) != (label == "anomaly"):
            raise DataError(f"Expected a row of VisA's partition in {file}, line {number}, got {row}. {REMEDY}")
        sample = Sample(image, category, DEFECT_TYPE, mask) if mask else Sample(image, category)
        (train if part == "train" else test).append(sample)
    return _dataset(train, test, None, {})


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != COLUMNS:
            raise DataError(f"Expected the columns {','.join(COLUMNS)} in {file}, got {reader.fieldnames}. {REMEDY}")
        yield from reader


def is_converted(root: Path) -> bool:
    """Return whether a tree is a conversion to the MVTec AD layout rather than the release."""
    return any((root / category / "train").is_dir() for category in CATEGORIES)


def index(root: Path) -> Dataset:
    """Return the dataset below a root, whichever of the two layouts it has.

    Raises:
        DataError: a category folder, the csv, an image or a mask is missing.
    """
    require_folder(root, "VisA", REMEDY)
    for category in CATEGORIES:
        require_folder(root / category, f"category {category!r} of visa", REMEDY)
    return _index_converted(root) if is_converted(root) else _index_release(root)


def partition(root: Path) -> Dataset | None:
    """Return what the release's csv lists, or None where a converted tree came without it."""
    return read_listing(root / SPLIT_CSV) if (root / SPLIT_CSV).is_file() else None


def _index_release(root: Path) -> Dataset:
    listed = read_listing(root / SPLIT_CSV)
    present = set(images_below(root, CATEGORIES))
    missing = sorted(files_of(listed) - present)
    if missing:
        raise DataError(
            f"Expected every file of {root / SPLIT_CSV}, got {len(missing)} too few, {root / missing[0]} the first. "
            "List them with `ltbench datasets verify visa`."
        )
    tell_unlisted(root, present - files_of(listed), SPLIT_CSV)
    return Dataset(listed.name, listed.categories, listed.train, listed.test, root)


def _index_converted(root: Path) -> Dataset:
    parts: dict[str, list[Sample]] = {"train": [], "test": []}
    files: dict[str, str] = {}
    strays: list[str] = []
    for category in CATEGORIES:
        for file in images_below(root, [category]):
            place = _CONVERTED.fullmatch(file)
            if place is None:
                strays.append(file)
                continue
            identity = _identity(place)
            files[identity] = file
            if place["part"] in ("train", "test"):
                defective = place["label"] != "good"
                sample = _anomalous(category, place["stem"]) if defective else Sample(identity, category)
                parts[place["part"]].append(sample)
    tell_unlisted(root, strays, "the layout of a conversion")
    dataset = _dataset(parts["train"], parts["test"], root, files)
    _check_converted(dataset)
    return dataset


def _identity(place: re.Match[str]) -> str:
    """Return the path in the release of a file of a conversion."""
    category, stem = place["category"], place["stem"]
    if place["label"] == "good":
        return _normal(category, stem)
    sample = _anomalous(category, stem.removesuffix("_mask"))
    return f"{sample.mask}" if place["part"] == "ground_truth" else sample.path


def _check_converted(dataset: Dataset) -> None:
    """Raise `DataError` unless each category has good images in both parts, and each defective one its mask."""
    for category in CATEGORIES:
        for part, samples in (("train", dataset.train_of(category)), ("test", dataset.test_of(category))):
            if all(sample.is_anomalous for sample in samples):
                folder = f"{dataset.root}/{category}/{part}/good"
                raise DataError(f"Expected good images of category {category!r} in {folder}, got none. {REMEDY}")
    for sample in dataset.test:
        if sample.mask is not None and sample.mask not in dataset.files:
            image = dataset.file(sample.path)
            raise DataError(f"Expected a mask of {image} in {sample.category}/ground_truth, got none. {REMEDY}")


def verify(root: Path) -> Verification:
    """Compare a tree with the release: by its csv, or by the numbering of its files when it is converted."""
    require_folder(root, "VisA", REMEDY)
    if not is_converted(root):
        listed = read_listing(root / SPLIT_CSV)
        tally = Counter(f"{s.category}/train/good" for s in listed.train)
        tally.update(f"{s.category}/test/good" for s in listed.test if not s.is_anomalous)
        return compare(root, CATEGORIES, files_of(listed), _miscounted(tally))
    return _verify_converted(root)


def _verify_converted(root: Path) -> Verification:
    official = dict(_official_places())
    found: dict[str, str] = {}
    tally = Counter[str]()
    for file in images_below(root, CATEGORIES):
        place = _CONVERTED.fullmatch(file)
        if place is not None and _identity(place) in official:
            found[_identity(place)] = file
            tally[f"{place['category']}/{place['part']}/good"] += place["label"] == "good"
    checked = compare(root, CATEGORIES, found.values())
    missing = sorted(place for identity, place in official.items() if identity not in found)
    return Verification(tuple(missing), checked.extra, checked.unreadable, tuple(_miscounted(tally)))


def _official_places() -> Iterator[tuple[str, str]]:
    """Yield (identity, place in a conversion) of every file; only the csv tells train from test, hence the `*`."""
    for category, (train, test) in COUNTS.items():
        digits = 4 if train + test >= 1000 else 3
        for stem in (f"{n:0{digits}}" for n in range(train + test)):
            yield _normal(category, stem), f"{category}/*/good/{stem}.JPG"
        for stem in (f"{n:03}" for n in range(DEFECTIVE_COUNT)):
            sample = _anomalous(category, stem)
            yield sample.path, f"{category}/test/{DEFECT_TYPE}/{stem}.JPG"
            yield f"{sample.mask}", f"{category}/ground_truth/{DEFECT_TYPE}/{stem}.png"


def _miscounted(tally: Mapping[str, int]) -> list[str]:
    """Return a sentence for each folder of good images whose count differs from the published one."""
    published = {f"{c}/{part}/good": n for c, counts in COUNTS.items() for part, n in zip(PARTS, counts, strict=True)}
    return [f"{folder}: {tally[folder]} images, published {n}" for folder, n in published.items() if tally[folder] != n]


SOURCE = DatasetSource(
    name="visa",
    title="VisA",
    licence="CC BY 4.0",
    citation="Zou et al., SPot-the-Difference Self-Supervised Pre-training, ECCV 2022, arXiv:2207.14315",
    homepage=HOMEPAGE,
    layout=f"""\
{SPLIT_CSV}
<category>/Data/Images/{{Normal,Anomaly}}/<image>.JPG
<category>/Data/Masks/Anomaly/<image>.png
or converted by its authors' script: <category>/{{train/good,test/good,test/bad,ground_truth/bad}}""",
    aliases=("VisA_20220922", "VisA_pytorch/1cls", "visa_pytorch", "1cls"),
    categories=CATEGORIES,
    index=index,
    verify=verify,
    partition=partition,
)
