"""TailedCore's published splits, from a folder and from a server."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from ltbench.core import Dataset, Sample, Split
from ltbench.errors import DataError, UnknownNameError
from ltbench.splits import importers
from ltbench.splits.files import check_splits, read_split, write_split
from ltbench.splits.importers import TAILEDCORE_URL, import_official
from ltbench.splits.making import SplitRequest
from ltbench.splits.recipe import is_recipe_name

MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="module")
def manifest(shared: Path) -> Path:
    return shared / "splits" / "tailedcore" / "manifest"


@pytest.fixture(scope="module")
def official30(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "splits" / "official30.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def official(manifest: Path, mvtec_listing: Dataset, visa_listing: Dataset) -> dict[str, Split]:
    return {split.name: split for data in (mvtec_listing, visa_listing) for split in import_official(data, manifest)}


def imported_name(published: str) -> str:
    """Return our name for `mvtec_step_random_nr10_tk4_tr60_seed101`."""
    parts = published.split("_")
    profile = "pareto" if parts[1] == "pareto" else parts[4].replace("tk", "k")
    return f"{parts[0]}_{profile}_noisy{parts[3][2:]}_official{int(parts[-1][4:]) - 100}"


def file_of(path: str) -> str:
    return PurePosixPath(path).name


def test_all_30_published_splits_file_for_file(
    official: dict[str, Split], official30: dict[str, Any], mvtec_listing: Dataset, visa_listing: Dataset
) -> None:
    assert set(official) == {imported_name(name) for name in official30}
    for published, expected in official30.items():
        split = official[imported_name(published)]
        dataset = mvtec_listing if split.dataset == "mvtec" else visa_listing
        for category, images in split.train.items():
            good = expected["train_good"][category]
            everything = [file_of(sample.path) for sample in dataset.train_of(category)]
            assert sorted(map(file_of, images.normal)) == sorted(everything if good == "ALL" else good)
            injected = [f"{dataset.by_path[p].defect_type}/{file_of(p)}" for p in images.contaminant]
            assert sorted(injected) == sorted(expected["train_noise"].get(category, []))
            size = expected["sizes"][category]
            assert split.counts[category] == {"normal": size["good"], "contaminant": size["noise"]}
        assert set(split.high) == set(expected["head"])
        assert set(split.low) == set(expected["tail"])
        assert split.seed == int(split.name[-1])


TOTALS = {
    "mvtec_pareto_noisy10": "737+74 599+60 589+59 890+89 782+78",
    "mvtec_k1_noisy10": "1715+170 1491+148 1313+130 1358+134 1694+168",
    "mvtec_k4_noisy10": "1480+144 1390+136 1518+148 1742+170 1638+159",
    "visa_pareto_noisy05": "2071+104 1064+53 1056+53 2079+104 2071+104",
    "visa_k1_noisy05": "4067+202 4062+202 3250+161 4071+202 3258+161",
    "visa_k4_noisy05": "4088+202 3629+179 4092+202 3185+157 3635+180",
}


@pytest.mark.parametrize("prefix", TOTALS)
def test_published_totals_and_untouched_test_sets(official: dict[str, Split], prefix: str) -> None:
    for seed, total in enumerate(TOTALS[prefix].split(), start=1):
        split = official[f"{prefix}_official{seed}"]
        normal = sum(count["normal"] for count in split.counts.values())
        contaminants = sum(count["contaminant"] for count in split.counts.values())
        assert f"{normal}+{contaminants}" == total
        assert sum(map(len, split.test.values())) == (1725 if split.dataset == "mvtec" else 2162)
        if "pareto" in prefix:
            assert contaminants == round(normal * (0.1 if split.dataset == "mvtec" else 0.05))


def test_an_official_split_is_written_read_and_never_made_anew(official: dict[str, Split], tmp_path: Path) -> None:
    split = official["mvtec_k4_noisy10_official1"]
    assert read_split(write_split(split, tmp_path)) == split
    assert not is_recipe_name(split.name)
    assert check_splits(tmp_path, pytest.fail, [split.name]) == []
    assert split.recipe["source"] == "github.com/jungyg/TailedCore"
    assert split.recipe["commit"] == "7240f04b489fb3d068919e3953cef0ced919a3f8"


def test_the_known_hashes_are_the_published_ones(shared: Path) -> None:
    words = (shared / "splits" / "tailedcore_manifests.sha256").read_text().split()
    published = dict(zip(words[1::2], words[::2], strict=True))
    assert len(published) == 60
    assert {f"manifest/{file}": digest for file, digest in importers._PINNED["sha256"].items()} == published


def test_contaminants_can_leave_the_test_set(
    manifest: Path, official: dict[str, Split], mvtec_listing: Dataset
) -> None:
    for split in import_official(mvtec_listing, manifest, reading="disjoint"):
        overlap = official[split.name.removesuffix("_disjoint")]
        assert split.name != overlap.name
        assert split.recipe == {**overlap.recipe, "disjoint": True}
        assert split.train == overlap.train
        for category, images in split.train.items():
            assert set(overlap.test[category]) - set(split.test[category]) == set(images.contaminant)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(manifest))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_the_network_gives_the_same(server: str, mvtec_listing: Dataset, official: dict[str, Split]) -> None:
    fetched = import_official(mvtec_listing, f"{server}/")
    assert {split.name: split for split in fetched} == {n: s for n, s in official.items() if s.dataset == "mvtec"}


def test_a_server_without_the_file_or_no_server_is_refused(server: str, mvtec_listing: Dataset) -> None:
    for source in (f"{server}/elsewhere", "http://127.0.0.1:1", "http://"):
        with pytest.raises(DataError, match=r"Expected to fetch http.*--source") as caught:
            import_official(mvtec_listing, source)
        assert "prune_good.txt" in str(caught.value)


def test_the_default_is_the_pinned_commit() -> None:
    assert TAILEDCORE_URL == (
        "https://raw.githubusercontent.com/jungyg/TailedCore/7240f04b489fb3d068919e3953cef0ced919a3f8/manifest"
    )


def test_a_checkout_of_the_repository_will_do(manifest: Path, mvtec_listing: Dataset, tmp_path: Path) -> None:
    (tmp_path / "TailedCore").mkdir()
    (tmp_path / "TailedCore" / "manifest").symlink_to(manifest)
    assert import_official(mvtec_listing, tmp_path / "TailedCore") == import_official(mvtec_listing, manifest)


def test_nothing_is_made_where_a_dataset_is_missing(manifest: Path, mvtec_listing: Dataset) -> None:
    def load(name: str) -> Dataset:
        if name == "visa":
            raise DataError("Expected the folder of VisA, got none. Pass --data-root DIR.")
        return mvtec_listing

    made = SplitRequest(official="tailedcore", source=str(manifest)).splits(load)
    with pytest.raises(DataError, match=r"Pass --data-root DIR\. .*--dataset mvtec\.$"):
        next(made)
    alone = SplitRequest(official="tailedcore", dataset="mvtec", source=str(manifest)).splits(load)
    assert len(list(alone)) == 15


def test_another_file_than_the_published_one_is_refused(manifest: Path, tmp_path: Path, mvtec_listing: Dataset) -> None:
    shutil.copytree(manifest, tmp_path / "copy", copy_function=shutil.copyfile)
    for folder in (tmp_path / "copy").rglob("*"):
        folder.chmod(0o755)
    file = tmp_path / "copy" / "mvtecad-nlt" / "step_k4" / "seed03" / "inject_defects.txt"
    file.write_bytes(file.read_bytes().replace(b"000.png", b"001.png", 1))
    with pytest.raises(DataError, match=r"step_k4/seed03/inject_defects.txt with sha256 .* commit 7240f04b"):
        import_official(mvtec_listing, tmp_path / "copy")


def test_a_folder_without_manifests_is_refused(tmp_path: Path, mvtec_listing: Dataset) -> None:
    with pytest.raises(DataError, match=r"Expected TailedCore's manifest .*--source"):
        import_official(mvtec_listing, tmp_path)


def test_a_dataset_that_lacks_the_images_is_refused(manifest: Path, make_dataset: MakeDataset) -> None:
    with pytest.raises(DataError, match="Expected every image of mvtecad-nlt/pareto/seed01"):
        import_official(make_dataset({"bottle": (9, 2, 2)}, name="mvtec"), manifest)
    with pytest.raises(UnknownNameError, match="dataset with published splits"):
        import_official(make_dataset({"bottle": (9, 2, 2)}, name="dagm"), manifest)


def test_the_longest_defect_type_claims_an_injected_name() -> None:
    test = (
        Sample("a/test/cut/deep_000.png", "a", "cut"),
        Sample("a/test/cut_deep/000.png", "a", "cut_deep"),
        Sample("a/test/cut/001.png", "a", "cut"),
    )
    names = importers._injected_names(Dataset("x", ("a",), (), test))
    assert names == {"a/cut_deep_000.png": test[1], "a/cut_001.png": test[2]}
