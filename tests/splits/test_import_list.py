"""Splits from a list of images."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.core import Dataset, Sample
from ltbench.datasets.folder import index_tree
from ltbench.errors import DataError, SpecError
from ltbench.splits.importers import import_list

MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="module")
def parts_listing(make_dataset: MakeDataset) -> Dataset:
    return make_dataset({"bolt": (30, 3, 6), "nut": (20, 2, 4), "ring": (10, 2, 2)})


@pytest.mark.parametrize("name", ["industrial7_k4_noisy10_ref0", "industrial8_k4_noisy10_ref1"])
def test_reference_lists(shared: Path, name: str) -> None:
    file = shared / "reference" / f"{name}.csv"
    dataset = index_tree(shared / "data" / "industrial8", "industrial8")
    split = import_list(file, dataset, name)
    with file.open() as stream:
        rows = list(csv.DictReader(stream))
    for role in ("normal", "contaminant"):
        listed = {row["path"] for row in rows if row["role"] == role}
        assert {path for images in split.train.values() for path in getattr(images, role)} == listed
    assert len(split.train) == int(name[10])
    assert ("deeppcb" in split.train) == (name[10] == "8")
    assert all(split.counts[category] == {"normal": 4, "contaminant": 0} for category in split.low)
    assert all(split.counts[category]["normal"] >= 20 for category in split.high)
    assert split.high
    for category, paths in split.test.items():
        assert list(paths) == [sample.path for sample in dataset.test_of(category)]
        assert set(split.train[category].contaminant) <= set(paths)


def write(folder: Path, text: str) -> Path:
    file = folder / "list.csv"
    file.write_bytes(text.encode())
    return file


def test_a_list_with_roles(tmp_path: Path, parts_listing: Dataset) -> None:
    file = write(
        tmp_path,
        "\ufeffrole,path\r\nnormal,nut/train/good/0003.png\r\n\r\nnormal,./nut/train/good/0001.png\r\n"
        "contaminant,nut/test/crack/0001.png\r\ntest,nut/test/good/0001.png\r\ntest,nut/test/crack/0001.png\r\n",
    )
    split = import_list(file, parts_listing, "mine")
    assert split.train["nut"].normal == ("nut/train/good/0001.png", "nut/train/good/0003.png")
    assert split.train["nut"].contaminant == ("nut/test/crack/0001.png",)
    assert split.test == {"nut": ("nut/test/crack/0001.png", "nut/test/good/0001.png")}
    assert (split.high, split.low) == (("nut",), ())
    assert split.recipe["profile"] == "list"
    assert split.recipe["source"] == "list.csv"


def test_a_list_of_paths(tmp_path: Path, parts_listing: Dataset) -> None:
    paths = [f"bolt/train/good/{n:04}.png" for n in range(20)]
    paths += ["ring/train/good/0000.png", "bolt/test/crack/0002.png"]
    split = import_list(write(tmp_path, "\n".join(paths)), parts_listing, "mine")
    assert split.counts == {"bolt": {"normal": 20, "contaminant": 1}, "ring": {"normal": 1, "contaminant": 0}}
    assert (split.high, split.low) == (("bolt",), ("ring",))
    assert len(split.test["bolt"]) == 9
    again = import_list(write(tmp_path, "\n".join(reversed(paths))), parts_listing, "mine")
    assert (again.train, again.test) == (split.train, split.test)


def test_a_list_without_its_contaminants_in_the_test_set(tmp_path: Path, parts_listing: Dataset) -> None:
    file = write(tmp_path, "nut/train/good/0000.png\nnut/test/crack/0000.png")
    split = import_list(file, parts_listing, "mine", reading="disjoint")
    assert split.recipe["disjoint"] is True
    expected = [s.path for s in parts_listing.test_of("nut") if s.path != "nut/test/crack/0000.png"]
    assert list(split.test["nut"]) == expected
    file = write(tmp_path, "\n".join(["nut/train/good/0000.png", *(f"nut/test/crack/{n:04}.png" for n in range(4))]))
    with pytest.raises(SpecError, match="beside its 4 contaminants"):
        import_list(file, parts_listing, "mine", reading="disjoint")


def test_a_list_may_use_the_names_of_a_converted_tree(tmp_path: Path) -> None:
    sample, tested = Sample("a/Data/1.JPG", "a"), Sample("a/Data/2.JPG", "a")
    dataset = Dataset("visa", ("a",), (sample,), (tested,), files={sample.path: "a/train/good/1.JPG"})
    split = import_list(write(tmp_path, "a/train/good/1.JPG\n"), dataset, "mine")
    assert split.train["a"].normal == ("a/Data/1.JPG",)


N0, G0, D0 = "nut/train/good/0000.png", "nut/test/good/0000.png", "nut/test/crack/0000.png"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expected normal training images"),
        ("role,path\n", "Expected normal training images"),
        (f"role,path\ncontaminant,{D0}\n", "Expected normal training images"),
        (f"{N0}\nnut/train/good/9999.png\n", "line 2, got 'nut/train/good/9999.png'"),
        (f"{N0}\n../secret.png\n", "line 2, got '../secret.png'"),
        (f"{N0}\n\n{N0}\n", "again in"),
        (f"{N0}\n{G0}\n", "Expected a training image in"),
        (f"role,path\nnormal,{N0}\nnormal,{D0}\n", "Expected a training image in"),
        (f"role,path\nnormal,{N0}\ncontaminant,{G0}\n", "Expected a defective test image in"),
        (f"role,path\nnormal,{N0}\ntest,{N0}\n", "Expected a test image in"),
        (f"role,path\nnormal,{N0}\ngood,{G0}\n", "Roles are normal, contaminant, test"),
        (f"role,path\nnormal,{N0},3\n", "line 2"),
        (f"role,path\nnormal,{N0}\nnormal,bolt/train/good/0000.png\ntest,{G0}\n", "Expected test images of 'bolt'"),
        (f"role,path\nnormal,{N0}\ntest,bolt/test/good/0000.png\n", "Expected test images of 'nut'"),
        (f"role,path\nnormal,{N0}\ncontaminant,bolt/test/crack/0000.png\n", "Expected normal images of 'bolt'"),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, parts_listing: Dataset, text: str, says: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        import_list(file, parts_listing, "mine")
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, parts_listing: Dataset) -> None:
    with pytest.raises(DataError, match="No such file"):
        import_list(tmp_path / "none.csv", parts_listing, "mine")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        import_list(tmp_path / "binary.csv", parts_listing, "mine")
    with pytest.raises(DataError, match="no csv"):
        import_list(write(tmp_path, "role,path\nnormal," + "x" * 200_000), parts_listing, "mine")


@pytest.mark.parametrize(("name", "says"), [("parts_exp100", "parts_exp100_imported"), ("../x", "Choose another")])
def test_the_name_of_an_imported_split_is_its_own(tmp_path: Path, parts_listing: Dataset, name: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        import_list(write(tmp_path, N0), parts_listing, name)
    assert says in str(caught.value)
