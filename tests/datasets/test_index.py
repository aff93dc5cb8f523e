from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ltbench.datasets.index import SOURCES, load_dataset, locate, source_named
from ltbench.errors import DataError

Make = Callable[..., None]


def test_every_source_is_described() -> None:
    assert {"mvtec", "visa", "dagm", "shapes"} <= set(SOURCES)
    for name, source in SOURCES.items():
        assert source.name == name
        assert all((source.title, source.licence, source.citation, source.homepage, source.layout))
        assert len(set(source.categories)) == len(source.categories) >= 1


def test_a_listing_has_the_name_and_the_categories_of_its_dataset() -> None:
    listed = {name: listing for name, source in SOURCES.items() if (listing := source.listing()) is not None}
    assert {"mvtec", "shapes"} <= set(listed)
    for name, listing in listed.items():
        assert (listing.name, listing.categories, listing.root) == (name, SOURCES[name].categories, None)


@pytest.mark.parametrize("name", ["mvtec", "parts"])
def test_a_missing_data_root_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*--data-root"):
        load_dataset(name, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no data root.*--data-root DIR"):
        load_dataset(name, None)


def test_what_was_looked_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"VisA in .*visa, VisA_20220922, .*1cls and none of its categories.*github"):
        locate("visa", tmp_path)


def test_an_unknown_name_offers_the_nearest_and_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{', '.join(sorted(SOURCES))}.*mvtecc, or a .*Did you mean 'mvtec'\?"):
        locate("mvtecc", tmp_path)


def test_folders_are_matched_whatever_their_case(mvtec_tree: Path) -> None:
    root = mvtec_tree / "mvtec_anomaly_detection"
    assert locate("mvtec", mvtec_tree) == root
    for other in ("MVTec_Anomaly_Detection", "MVTEC", "MVTec-AD"):
        root = root.rename(mvtec_tree / other)
        assert locate("mvtec", mvtec_tree) == root
        assert locate("mvtec", root) == root


def test_a_subfolder_with_categories_wins_over_an_empty_one(mvtec_tree: Path) -> None:
    (mvtec_tree / "mvtec").mkdir()
    assert locate("mvtec", mvtec_tree) == mvtec_tree / "mvtec_anomaly_detection"


def test_a_dataset_whose_categories_are_no_folders_is_found_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = replace(SOURCES["dagm"], name="items", aliases=(), categories=("commutator",), folders=("item01",))
    monkeypatch.setitem(SOURCES, "items", items)
    (tmp_path / "download").mkdir()
    with pytest.raises(DataError, match=r"none of its folders \(item01, \.\.\.\)"):
        locate("items", tmp_path / "download")
    (tmp_path / "download" / "item01").mkdir()
    assert locate("items", tmp_path / "download") == tmp_path / "download"


def test_an_empty_folder_of_the_right_name_lacks_its_first_category(tmp_path: Path) -> None:
    (tmp_path / "mvtec").mkdir()
    for data_root in (tmp_path, tmp_path / "mvtec"):
        with pytest.raises(DataError, match="mvtec/carpet"):
            load_dataset("mvtec", data_root)


def test_any_other_name_is_a_folder(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "parts", "bolt")
    for data_root in (tmp_path, tmp_path / "parts"):
        dataset = load_dataset("parts", data_root)
        assert (dataset.name, dataset.root) == ("parts", tmp_path / "parts")
    assert source_named("parts").name == "parts"
    assert source_named("parts").index(tmp_path / "parts") == dataset


@pytest.mark.parametrize("name", ["..", ".", "", "parts/..", "a/b", "/etc", "c:parts", "a\\b"])
def test_a_name_cannot_lead_out_of_the_data_root(name: str, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    with pytest.raises(DataError, match="basename"):
        locate(name, tmp_path)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "bolt/../../x.png"])
def test_a_path_cannot_lead_out_of_the_root(path: str, tmp_path: Path, make: Make) -> None:
    make(tmp_path / "parts", "bolt")
    with pytest.raises(DataError, match="relative to the dataset root"):
        load_dataset("parts", tmp_path).file(path)


def test_importing_the_datasets_imports_no_torch() -> None:
    code = "import sys, ltbench.datasets.index, ltbench.datasets.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
