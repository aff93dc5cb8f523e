"""The built-in descriptions, each on a small imitation of its release with the release's names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltbench.core import Dataset
from ltbench.datasets.description import shipped
from ltbench.datasets.digests import digests_of
from ltbench.datasets.index import SOURCES, load_dataset, verify_dataset
from ltbench.datasets.masks import kept_of, read_mask
from ltbench.errors import DataError, SpecError
from ltbench.protocols import PROTOCOLS
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name
from ltbench.splits.checking import check_split
from ltbench.splits.files import read_split
from ltbench.splits.generate import make_split
from ltbench.splits.recipe import parse_name
from tests.datasets.conftest import save_image, save_mask

Write = Callable[[Path], None]


def _mvtec_like(root: Path, name: str, train: str, test: str, mask: str, good: str, bad: Iterable[str]) -> None:
    """Write 6 training, 3 good and 3 defective test images a kind of each category; places have `{}` to be filled."""
    for category in SOURCES[name].categories:
        for n in range(6):
            save_image(root / train.format(c=category, n=f"{n:03}"), 90 + n)
        for n in range(3):
            save_image(root / test.format(c=category, d=good, n=f"{n:03}"), 100 + n)
            for kind in bad:
                save_image(root / test.format(c=category, d=kind, n=f"{n:03}"), 110 + n)
                save_mask(root / mask.format(c=category, d=kind, n=f"{n:03}"))


def write_btad(data: Path) -> None:
    """03 has .bmp images and masks, as its release may have."""
    root = data / "BTech_Dataset_transformed"
    _mvtec_like(
        root, "btad", "{c}/train/ok/{n}.bmp", "{c}/test/{d}/{n}.bmp", "{c}/ground_truth/{d}/{n}.png", "ok", ["ko"]
    )
    for mask in sorted((root / "03" / "ground_truth" / "ko").iterdir()):
        Image.open(mask).save(mask.with_suffix(".bmp"))
        mask.unlink()


def write_mpdd(data: Path) -> None:
    _mvtec_like(
        data / "MPDD", "mpdd", "{c}/train/good/{n}.png", "{c}/test/{d}/{n}.png", "{c}/ground_truth/{d}/{n}_mask.png",
        "good", ["hole", "scratches"],
    )  # fmt: skip


def write_loco(data: Path) -> None:
    """Two masks an image, in a folder of its own, with values that are not 255."""
    root = data / "mvtec_loco_anomaly_detection"
    kinds = ["logical_anomalies", "structural_anomalies"]
    _mvtec_like(
        root, "mvtec_loco", "{c}/train/good/{n}.png", "{c}/test/{d}/{n}.png", "{c}/ground_truth/{d}/{n}/000.png",
        "good", kinds,
    )  # fmt: skip
    for category in SOURCES["mvtec_loco"].categories:
        save_image(root / category / "validation" / "good" / "000.png")
        for kind in kinds:
            folder = root / category / "ground_truth" / kind / "001"
            for number, (corner, value) in enumerate((((0, 0), 236), ((5, 6), 255))):
                mask = np.zeros((10, 12), np.uint8)
                mask[corner[0] : corner[0] + 2, corner[1] : corner[1] + 2] = value
                Image.fromarray(mask).save(folder / f"{number:03}.png")


def write_ad2(data: Path) -> None:
    root = data / "mvtec_ad_2"
    _mvtec_like(
        root, "mvtec_ad_2", "{c}/train/good/{n}_regular.png", "{c}/test_public/{d}/{n}_overexposed.png",
        "{c}/test_public/ground_truth/{d}/{n}_overexposed_mask.png", "good", ["bad"],
    )  # fmt: skip
    for category in SOURCES["mvtec_ad_2"].categories:
        save_image(root / category / "validation" / "good" / "000_regular.png")
        for part in ("test_private", "test_private_mixed"):
            save_image(root / category / part / "000_mixed.png")


def write_kolektor(data: Path) -> None:
    """Every third item has a defective part."""
    for item in range(1, 51):
        for part in range(3):
            file = data / "KolektorSDD" / f"kos{item:02}" / f"Part{part}.jpg"
            save_image(file, 80 + item)
            save_mask(file.with_name(f"Part{part}_label.bmp"), label=255 if part == 1 and item % 3 == 0 else 0)


VIEWS = range(1, 6)


def _realiad_row(category: str, kind: str, number: int, view: int) -> dict[str, str | None]:
    folder = f"OK/S{number:04}" if kind == "OK" else f"NG/{kind}/S{number:04}"
    label = "OK" if kind == "OK" else "NG"
    stem = f"{folder}/{category}_{number:04}_{label}_C{view}_20230922101010"
    mask = None if kind == "OK" else f"{stem}.png"
    return {"category": category, "anomaly_class": kind, "image_path": f"{stem}.jpg", "mask_path": mask}


def write_realiad(data: Path, lists: str = "realiad_jsons") -> None:
    """Four good objects that train, two that test, two defective ones, five views each; three FUIAD lists of them."""
    root = data / "Real-IAD"
    for category in SOURCES["realiad"].categories:
        good = [[_realiad_row(category, "OK", n, view) for view in VIEWS] for n in range(1, 7)]
        bad = [[_realiad_row(category, "AK", n, view) for view in VIEWS] for n in range(1, 4)]
        for row in (row for rows in (*good, *bad) for row in rows):
            save_image(root / "realiad_256" / category / f"{row['image_path']}", 120)
            if row["mask_path"]:
                save_mask(root / "realiad_256" / category / row["mask_path"])
        parts = {"": (good[:4], [*good[4:], *bad]), "_fuiad_0.0": (good[:3], [*good[3:], *bad[2:]])}
        for percent in (1, 2, 4):
            parts[f"_fuiad_0.{percent}"] = ([*good[:2], bad[percent // 3]], [*good[3:], *bad[2:]])
        for suffix, (train, test) in parts.items():
            _write_list(root / f"{lists}{suffix}" / f"{category}.json", category, [*chain(*train)], [*chain(*test)])
        single = [[row for row in chain(*part) if "_C1_" in f"{row['image_path']}"] for part in parts[""]]
        _write_list(root / f"{lists}_sv" / f"{category}.json", category, *single)


def _write_list(
    file: Path, category: str, train: list[dict[str, str | None]], test: list[dict[str, str | None]]
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    meta = {"prefix": f"{category}/", "normal_class": "OK"}
    file.write_text(json.dumps({"meta": meta, "train": train, "test": test}))


RELEASES: dict[str, tuple[Write, tuple[int, int, int]]] = {
    "btad": (write_btad, (18, 9, 9)),
    "mpdd": (write_mpdd, (36, 18, 36)),
    "mvtec_loco": (write_loco, (30, 15, 30)),
    "mvtec_ad_2": (write_ad2, (48, 24, 24)),
    "kolektorsdd": (write_kolektor, (88, 46, 5)),
    "realiad": (write_realiad, (600, 300, 450)),
    "realiad_sv": (write_realiad, (120, 60, 90)),
}
"""Dataset -> what writes an imitation below a data root, and its good training, good test and defective test images."""


def _counts(dataset: Dataset) -> tuple[int, int, int]:
    bad = sum(sample.is_anomalous for sample in dataset.test)
    return len(dataset.train), len(dataset.test) - bad, bad


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_indexed_and_verified(name: str, tmp_path: Path) -> None:
    write, counts = RELEASES[name]
    write(tmp_path)
    dataset = load_dataset(name, tmp_path)
    assert dataset.categories == SOURCES[name].categories
    assert _counts(dataset) == counts
    for sample in dataset.test:
        assert dataset.file(sample.path).is_file()
        assert (sample.mask is not None) == sample.is_anomalous
        assert sample.mask is None or dataset.file(sample.mask).exists()
        assert read_mask(dataset, sample, PROTOCOLS["common"]).any() == sample.is_anomalous
    found = verify_dataset(name, tmp_path)
    assert not any((found.missing, found.extra, found.unreadable, found.graded, found.empty)), found
    assert len(found.miscounted) == len(shipped(name).totals)  # an imitation is small


@pytest.mark.parametrize("name", ["btad", "mpdd", "mvtec_loco", "mvtec_ad_2", "realiad_sv", "kolektorsdd"])
def test_every_recipe_can_be_made_of_it(name: str, tmp_path: Path) -> None:
    RELEASES[name][0](tmp_path)
    dataset = load_dataset(name, tmp_path)
    few = "03" if name == "kolektorsdd" else "20"
    for recipe in ("full", f"full_noisy{few}_disjoint", "exp2", "step2_noisy50", "pareto_seed1", "k1_noisy50_seed2"):
        if name == "kolektorsdd" and recipe.startswith(("exp", "step", "k")):
            with pytest.raises(SpecError, match="2 categories"):
                make_split(dataset, parse_name(f"{name}_{recipe}"))
            continue
        split = make_split(dataset, parse_name(f"{name}_{recipe}"))
        check_split(split, dataset)
        assert set(split.categories) == set(dataset.categories)
        assert any(images.contaminant for images in split.train.values()) == ("noisy" in recipe)


@pytest.mark.parametrize("name", ["btad", "mvtec_loco", "kolektorsdd"])
def test_it_runs_with_pixel_metrics(name: str, tmp_path: Path) -> None:
    RELEASES[name][0](tmp_path)
    record = run_by_name("mean_image", f"{name}_full", tmp_path, Harness(tmp_path / "results")).record
    assert set(record.metrics["pixel_aupro_30"]) == {*SOURCES[name].categories, "high", "low", "avg"} - (
        {"low"} if not record.low else set()
    )


def test_masks_of_one_image_are_merged(tmp_path: Path) -> None:
    write_loco(tmp_path)
    dataset = load_dataset("mvtec_loco", tmp_path)
    path = "screw_bag/test/logical_anomalies/001.png"
    assert dataset.by_path[path].mask == "screw_bag/ground_truth/logical_anomalies/001"
    protocol = replace(PROTOCOLS["common"], resize=12, resize_mode="exact", crop=None)
    mask = read_mask(dataset, dataset.by_path[path], protocol)
    assert mask[:2, :2].all() and mask[6:8, 6:8].all() and mask.sum() == pytest.approx(2 * 2 * 2 * 1.2, abs=2)


def test_a_changed_mask_of_several_is_noticed(tmp_path: Path) -> None:
    write_loco(tmp_path)
    dataset = load_dataset("mvtec_loco", tmp_path)
    sample = dataset.by_path["pushpins/test/structural_anomalies/001.png"]
    mask = dataset.file(str(sample.mask))
    before = digests_of([mask]), kept_of(dataset, [sample], PROTOCOLS["common"])
    save_mask(mask / "002.png")
    after = digests_of([mask]), kept_of(dataset, [sample], PROTOCOLS["common"])
    assert before[0] != after[0]
    assert before[1][sample.path].defect < after[1][sample.path].defect
    save_mask(mask / "003.png", size=(5, 5))
    with pytest.raises(DataError, match=r"masks of one size in .*001, got 12x10, 5x5"):
        kept_of(dataset, [sample], PROTOCOLS["common"])
    with pytest.raises(DataError, match=r"003\.png as large as its image .*12x10.*got 5x5"):
        read_mask(dataset, sample, PROTOCOLS["common"])


def test_kolektor_parts_whole_items_and_leaves_defects_that_train_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_kolektor(tmp_path)
    dataset = load_dataset("kolektorsdd", tmp_path)
    assert {sample.path[:5] for sample in dataset.train} == {f"kos{n:02}" for n in range(1, 34)}
    assert {sample.path[:5] for sample in dataset.test} == {f"kos{n:02}" for n in range(34, 51)}
    assert "that train take no part: 11." in caplog.text


def test_realiad_takes_its_largest_images_under_one_name(tmp_path: Path) -> None:
    write_realiad(tmp_path, "realiad_jsons/realiad_jsons")  # as some archives unpack
    small = load_dataset("realiad", tmp_path)
    assert small.file(small.train[0].path).parts[-5] == "realiad_256"
    (tmp_path / "Real-IAD" / "realiad_256").rename(tmp_path / "Real-IAD" / "realiad_512")
    large = load_dataset("realiad", tmp_path)
    assert (large.train, large.test) == (small.train, small.test)
    assert large.file(large.train[0].path).parts[-5] == "realiad_512"
    assert large.train[0].path.startswith("audiojack/OK/S0001/audiojack_0001_OK_C1_")
    assert {s.defect_type for s in large.test} == {"good", "AK"}


def test_what_a_list_names_has_to_be_there(tmp_path: Path) -> None:
    write_realiad(tmp_path)
    root = tmp_path / "Real-IAD"
    gone = next((root / "realiad_256" / "pcb").rglob("*.jpg"))
    gone.unlink()
    with pytest.raises(DataError, match=rf"1 too few, .*{gone.name} the first"):
        load_dataset("realiad", tmp_path)
    assert verify_dataset("realiad", tmp_path).missing == (gone.relative_to(root).as_posix(),)
    (root / "realiad_jsons" / "zipper.json").unlink()
    with pytest.raises(DataError, match=r"list .*realiad_jsons/zipper\.json"):
        load_dataset("realiad", tmp_path)
    (root / "realiad_jsons" / "zipper.json").write_text('{"train": [], "test": [{"image_path": "../x.jpg"}]}')
    with pytest.raises(DataError, match="zipper"):
        load_dataset("realiad", tmp_path)


def test_what_lies_below_a_base_is_told_by_its_path_below_the_root(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_realiad(tmp_path)
    root = tmp_path / "Real-IAD"
    stray = root / "realiad_256" / "pcb" / "OK" / "S0009" / "more.jpg"
    save_image(stray)
    load_dataset("realiad", tmp_path)
    assert "1, realiad_256/pcb/OK/S0009/more.jpg the first" in caplog.text
    file = root / "realiad_jsons" / "pcb.json"
    content = json.loads(file.read_text())
    bare = next(row for row in content["test"] if row["mask_path"])
    bare["mask_path"] = None
    file.write_text(json.dumps(content))
    mask = f"realiad_jsons/pcb.json, column 'mask_path', pcb/{bare['image_path']}"
    image = root / "realiad_256" / "pcb" / bare["image_path"]
    with pytest.raises(DataError, match=re.escape(f"the mask {mask} of the defective image {image}, got none")):
        load_dataset("realiad", tmp_path)
    good = content["train"][0]
    (root / "realiad_256" / "pcb" / good["image_path"]).unlink()
    found = verify_dataset("realiad", tmp_path)
    assert found.missing == (f"realiad_256/pcb/{good['image_path']}", mask)
    orphan = image.with_suffix(".png")  # the mask that its row no longer names
    assert found.extra == tuple(file.relative_to(root).as_posix() for file in (orphan, stray))
    assert not found.unreadable


def test_a_defect_without_its_mask_is_named(tmp_path: Path) -> None:
    write_ad2(tmp_path)
    mask = tmp_path / "mvtec_ad_2" / "rice" / "test_public" / "ground_truth" / "bad" / "001_overexposed_mask.png"
    mask.unlink()
    with pytest.raises(DataError, match=r"001_overexposed_mask\.png of the defective image"):
        load_dataset("mvtec_ad_2", tmp_path)
    assert verify_dataset("mvtec_ad_2", tmp_path).missing == (
        "rice/test_public/ground_truth/bad/001_overexposed_mask.png",
    )


def test_the_noisy_lists_of_realiad_are_official_splits(
    tmp_path: Path, ltbench: Callable[..., tuple[int, str, str]]
) -> None:
    write_realiad(tmp_path)
    code, out, err = ltbench("make-splits", "--official", "realiad", "--data-root", tmp_path)
    assert code == 0, err
    assert len(out.splitlines()) == 4
    dataset = load_dataset("realiad", tmp_path)
    for percent in (0, 10, 20, 40):
        split = read_split(tmp_path / "splits" / "realiad" / f"realiad_fuiad_noisy{percent:02}_official1.json")
        check_split(split, dataset)
        trained = {path for images in split.train.values() for path in images.contaminant}
        assert len(trained) == (0 if percent == 0 else 30 * 5)
        assert not trained & {path for paths in split.test.values() for path in paths}
        assert (split.recipe["noise_percent"], split.recipe["disjoint"]) == (percent, True)
    assert split.recipe["published_as"] == "realiad_jsons_fuiad_0.4"
    code, _, err = ltbench("make-splits", "--official", "realiad", "--disjoint", "--data-root", tmp_path)
    assert code == 2 and "Leave" in err
    (tmp_path / "Real-IAD" / "realiad_jsons_fuiad_0.2" / "tape.json").unlink()
    code, _, err = ltbench("make-splits", "--official", "realiad", "--data-root", tmp_path)
    assert code == 2 and "realiad_jsons_fuiad_0.2/tape.json" in err
