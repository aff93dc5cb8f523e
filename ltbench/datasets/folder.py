"""Any tree in the MVTec AD layout: `<category>/{train/good,test/<defect_type>,ground_truth/<defect_type>}`."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from ltbench.core import GOOD, Dataset, Sample
from ltbench.datasets.decode import is_image_name
from ltbench.datasets.source import DatasetSource, require_folder, tell, tell_unlisted
from ltbench.datasets.verify import Verification, images_below, unreadable_of
from ltbench.errors import DataError

Counts = Mapping[str, Mapping[str, int]]
"""Category -> images of each folder: `train` for train/good, and each defect type of test (`good` among them)."""

LAYOUT = """\
<category>/train/good/<image>
<category>/test/good/<image>
<category>/test/<defect_type>/<image>
<category>/ground_truth/<defect_type>/<stem>_mask.png   (or <stem>.png; leave ground_truth out: image metrics only)"""


def numbered_listing(name: str, counts: Counts, digits: int = 3) -> Dataset:
    """Return the listing of a release whose files are numbered 000.png upwards in every folder.

    Args:
        name: the dataset's name.
        counts: how many images each folder has; its order is the class order.
        digits: width of the numbers.
    """
    train: list[Sample] = []
    test: list[Sample] = []
    for category, folders in counts.items():
        train += [Sample(f"{category}/train/good/{n:0{digits}}.png", category) for n in range(folders["train"])]
        for defect_type in sorted(folder for folder in folders if folder != "train"):
            for number in (f"{n:0{digits}}" for n in range(folders[defect_type])):
                path = f"{category}/test/{defect_type}/{number}.png"
                mask = f"{category}/ground_truth/{defect_type}/{number}_mask.png"
                test.append(Sample(path, category, defect_type, None if defect_type == GOOD else mask))
    return Dataset(name, tuple(counts), tuple(train), tuple(test))


def files_of(dataset: Dataset) -> set[str]:
    """Return the file of every image and mask, relative to the root."""
    samples = dataset.by_path.values()
    paths = (*dataset.by_path, *(sample.mask for sample in samples if sample.mask is not None))
    return {dataset.files.get(path, path) for path in paths}


def index_tree(root: Path, name: str, categories: Sequence[str] | None = None, remedy: str = "") -> Dataset:
    """Return the dataset that a tree in MVTec AD layout holds.

    Args:
        root: the folder of the category folders.
        name: the dataset's name.
        categories: the categories to expect, in class order; by default every subfolder, sorted by name.
        remedy: what to do when a folder is missing.

    Raises:
        DataError: a category folder is missing or has no training or no test image, a defective image has no mask
            although its category has a `ground_truth` folder, defective images lie in `train`, or images lie in train
            or test where none is read.
    """
    remedy = remedy or f"It needs this layout: {' '.join(LAYOUT.split())}."
    require_folder(root, f"dataset {name!r}", remedy)
    if categories is None:
        categories = _categories(root)
        if not categories:
            raise DataError(f"Expected category folders in {root}, got none. {remedy}")
    tell_unlisted(root, image_names(root), "the folders of categories")
    train: list[Sample] = []
    test: list[Sample] = []
    for category in categories:
        require_folder(root / category, f"category {category!r} of {name}", remedy)
        own = _train_samples(root, category), _test_samples(root, category)
        _refuse_strays(root, category, {sample.path for part in own for sample in part})
        train += own[0]
        test += own[1]
    return Dataset(name, tuple(categories), tuple(train), tuple(test), root=root)


def _categories(root: Path) -> list[str]:
    """Return the folders of a root that hold images; the others, `__MACOSX` among them, are passed over with a word."""
    found = []
    for name in _subfolders(root):
        if name != "__MACOSX" and any(images_below(root, [name])):
            found.append(name)
        else:
            tell(f"The folder {root / name} holds no images of a category and is passed over.")
    return found


def _refuse_strays(root: Path, category: str, taken: Container[str]) -> None:
    """Raise `DataError` where images lie in train or test of a category that are none of those taken.

    Those beside train, test and ground_truth are passed over with a word.
    """
    parts = tuple(f"{category}/{part}/" for part in ("train", "test", "ground_truth"))
    found = list(images_below(root, [category]))
    tell_unlisted(
        root, [path for path in found if not path.startswith(parts)], f"train, test or ground_truth of {category}"
    )
    strays = [path for path in found if path.startswith(parts[:2]) and path not in taken]
    if strays:
        raise DataError(
            f"Expected the images of category {category!r} in train/good and test/<defect type> themselves, got "
            f"{len(strays)} elsewhere in train or test, {root / strays[0]} the first. Move them up, or out of there."
        )


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files of a folder, sorted; none when there is no such folder."""
    if not folder.is_dir():
        return []
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and is_image_name(entry.name))
    return sorted(entry.name for entry in entries if not entry.is_dir())


def _train_samples(root: Path, category: str) -> list[Sample]:
    train = root / category / "train"
    others = [name for name in _subfolders(train) if name != GOOD] if train.is_dir() else []
    if others:
        raise DataError(f"Expected only {train / GOOD}, got {train / others[0]} too. Move defective images to test.")
    names = image_names(train / GOOD)
    if not names:
        raise DataError(
            f"Expected good training images of category {category!r} in {train / GOOD}, got none. "
            f"Add some, or move {root / category} out of the dataset."
        )
    return [Sample(f"{category}/train/good/{name}", category) for name in names]


def _test_samples(root: Path, category: str) -> list[Sample]:
    test = root / category / "test"
    samples: list[Sample] = []
    for defect_type in _subfolders(test) if test.is_dir() else []:
        names = image_names(test / defect_type)
        masks = {} if defect_type == GOOD else _masks_of(root, category, defect_type, names)
        samples += [
            Sample(f"{category}/test/{defect_type}/{name}", category, defect_type, masks.get(name)) for name in names
        ]
    if not samples:
        raise DataError(f"Expected test images of category {category!r} in {test}, got none. Add some.")
    return samples


def _masks_of(root: Path, category: str, defect_type: str, names: Iterable[str]) -> dict[str, str]:
    """Return image name -> mask path; empty when the category has no masks at all."""
    if not (root / category / "ground_truth").is_dir():
        return {}
    folder = f"{category}/ground_truth/{defect_type}"
    by_stem = {Path(mask).stem: mask for mask in image_names(root / folder)}
    masks = {}
    for name in names:
        mask = by_stem.get(f"{Path(name).stem}_mask", by_stem.get(Path(name).stem))
        if mask is None:
            image = root / category / "test" / defect_type / name
            expected = root / folder / f"{Path(name).stem}_mask.png"
            raise DataError(
                f"Expected the mask {expected} of the defective image {image}, got none. "
                f"Add it, or remove {root / category / 'ground_truth'} to be scored by image only."
            )
        masks[name] = f"{folder}/{mask}"
    return masks


def verify_tree(root: Path) -> Verification:
    """Return what is unreadable in a folder and which masks belong to no image; there is no published listing."""
    dataset = index_tree(root, root.name)
    files = files_of(dataset)
    extra = sorted(set(images_below(root, dataset.categories)) - files)
    return Verification(extra=tuple(extra), unreadable=unreadable_of(root, files))


def index(root: Path) -> Dataset:
    """Return the dataset of a folder, named after it."""
    return index_tree(root, root.name)


SOURCE = DatasetSource(
    name="folder",
    title="any folder in MVTec AD layout",
    licence="yours",
    citation="yours",
    homepage="your own images; name the folder's basename as the dataset",
    layout=LAYOUT,
    aliases=(),
    categories=(),
    index=index,
    verify=verify_tree,
)
