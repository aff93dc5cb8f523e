from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState
from numpy.typing import NDArray
from PIL import Image

from ltbench.core import Dataset, Protocol, Sample
from ltbench.datasets import facts
from ltbench.datasets import images as images_module
from ltbench.datasets.decode import decode, to_rgb
from ltbench.datasets.facts import check_depth, facts_of
from ltbench.datasets.images import DiskImages, center_crop, resize
from ltbench.datasets.masks import read_mask
from ltbench.errors import ContractError, DataError
from ltbench.protocols import PROTOCOLS, protocol_named

if TYPE_CHECKING:
    from ltbench.method import ImageSet

COMMON = PROTOCOLS["common"]
EXACT = Protocol("exact", resize=24)
CROPPED = Protocol("cropped", resize=32, resize_mode="short_side", crop=27)
SIZES = [(24, 24), (32, 32), (33, 47), (47, 33), (100, 31), (31, 100), (27, 27), (7, 5)]


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8))


def same(ours: Image.Image, theirs: Image.Image | NDArray[np.uint8]) -> bool:
    return np.array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.fixture
def tree(tmp_path: Path) -> Dataset:
    """A dataset of two images, one with a mask whose label is 2."""
    photo(50, 40, 1).save(tmp_path / "good.png")
    photo(50, 40, 2).save(tmp_path / "bad.png")
    mask = np.zeros((40, 50), np.uint8)
    mask[10:30, 5:25] = 2
    Image.fromarray(mask).save(tmp_path / "mask.png")
    good, bad = Sample("good.png", "bolt"), Sample("bad.png", "bolt", "crack", "mask.png")
    return Dataset("parts", ("bolt",), (), (good, bad), tmp_path)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("protocol", [EXACT, CROPPED, COMMON, PROTOCOLS["tailedcore"]], ids=lambda p: p.name)
def test_geometry_is_torchvisions(size: tuple[int, int], protocol: Protocol) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="the reference is torchvision")
    image = photo(*size)
    side = protocol.resize if protocol.resize_mode == "short_side" else (protocol.resize, protocol.resize)
    for ours, theirs in (
        (Image.Resampling.BILINEAR, transforms.InterpolationMode.BILINEAR),
        (Image.Resampling.NEAREST, transforms.InterpolationMode.NEAREST),
    ):
        steps = [transforms.Resize(side, theirs)]
        steps += [transforms.CenterCrop(protocol.crop)] if protocol.crop else []
        expected = transforms.Compose(steps)(image)
        assert same(center_crop(resize(image, protocol, ours), protocol), expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.data())
def test_every_image_gets_the_protocols_size(width: int, height: int, side: int, data: st.DataObject) -> None:
    crop = data.draw(st.integers(1, side))
    for mode in ("exact", "short_side"):
        protocol = Protocol("any", resize=side, crop=crop, resize_mode=mode)
        cut = center_crop(resize(photo(width, height), protocol, Image.Resampling.BILINEAR), protocol)
        assert (cut.height, cut.width) == protocol.size


def test_an_image_that_fits_is_left_alone() -> None:
    image = photo(24, 24)
    assert resize(image, EXACT, Image.Resampling.BILINEAR) is image
    assert center_crop(image, EXACT) is image


def test_it_is_an_image_set_without_labels(tree: Dataset) -> None:
    images = DiskImages(tree, ["bad.png", "good.png"], EXACT)
    contract: ImageSet = images
    assert (len(contract), contract.size) == (2, (24, 24))
    first, second = list(contract), list(contract)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(image.shape == (24, 24, 3) and image.dtype == np.uint8 for image in first)
    assert np.array_equal(contract[0], np.asarray(photo(50, 40, 2).resize((24, 24), Image.Resampling.BILINEAR)))
    contract[0][:] = 0
    assert np.array_equal(contract[0], first[0])
    with pytest.raises(ContractError, match="uses_categories"):
        _ = images.categories
    assert DiskImages(tree, ["bad.png"], EXACT, categories_visible=True).categories == ("bolt",)


def test_uncropped_holds_what_the_crop_cuts_off(tree: Dataset) -> None:
    images = DiskImages(tree, ["good.png"], CROPPED)
    whole = images.uncropped(0)
    assert whole.shape == (32, 40, 3)
    assert np.array_equal(whole[2:29, 6:33], images[0])  # round(2.5) is 2, round(6.5) is 6


def test_fingerprints_change_with_pixels_and_geometry_only(tree: Dataset) -> None:
    keys = DiskImages(tree, ["good.png", "bad.png"], EXACT).fingerprints
    assert len(set(keys)) == 2
    assert (
        keys
        == DiskImages(tree, ["good.png", "bad.png"], replace(EXACT, mask_rule="full", aupro_limit=0.1)).fingerprints
    )
    for other in (
        replace(EXACT, resize=25),
        replace(EXACT, crop=20),
        replace(EXACT, crop=24, resize_mode="short_side"),
    ):
        assert not set(keys) & set(DiskImages(tree, ["good.png", "bad.png"], other).fingerprints)
    assert tree.root is not None
    (tree.root / "twin.png").write_bytes((tree.root / "good.png").read_bytes())
    twin = Dataset("parts", ("bolt",), (), (*tree.test, Sample("twin.png", "bolt")), tree.root)
    assert DiskImages(twin, ["twin.png"], EXACT).fingerprints == keys[:1]


def test_a_path_of_another_dataset_is_refused(tree: Dataset) -> None:
    with pytest.raises(DataError, match=r"images of parts, got 'other\.png'"):
        DiskImages(tree, ["other.png"], EXACT)


def test_a_listing_has_no_images(tree: Dataset) -> None:
    with pytest.raises(DataError, match="--data-root"):
        DiskImages(replace(tree, root=None), ["good.png"], EXACT)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_truncated_image_is_named(tree: Dataset, suffix: str) -> None:
    assert tree.root is not None
    file = tree.root / f"cut.{suffix}"
    photo(50, 40).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    dataset = Dataset("parts", ("bolt",), (), (Sample(file.name, "bolt"),), tree.root)
    with pytest.raises(DataError, match=rf"cut\.{suffix}.*[Cc]opy"):
        _ = DiskImages(dataset, [file.name], EXACT)[0]


def test_an_image_that_vanished_is_named(tree: Dataset) -> None:
    images = DiskImages(tree, ["good.png"], EXACT)
    tree.file("good.png").unlink()
    with pytest.raises(DataError, match=r"good\.png, got no such file"):
        _ = images[0]
    with pytest.raises(DataError, match=r"good\.png"):
        _ = images.fingerprints


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    rgb = photo(9, 7)
    grey = np.asarray(rgb.convert("L"))
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK"):
        assert to_rgb(rgb.convert(mode), tmp_path).mode == "RGB"
    assert same(to_rgb(rgb.convert("L"), tmp_path), np.stack([grey] * 3, axis=2))
    assert same(to_rgb(rgb.convert("RGBA"), tmp_path), rgb)
    palette = rgb.quantize(16)
    palette.info["transparency"] = bytes([0] * 16)
    assert same(to_rgb(palette, tmp_path), rgb.quantize(16).convert("RGB"))


def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    values[-1, -1] = 65535
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(values).save(tmp_path / name)
        image = to_rgb(decode(tmp_path / name), tmp_path / name)
        expected = np.rint(values * 255.0 / 65535)
        assert np.array_equal(np.asarray(image)[:, :, 0], expected)


def test_pixels_without_a_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="floating-point"):
        to_rgb(Image.fromarray(np.zeros((4, 4), np.float32)), tmp_path / "depth.tif")
    with pytest.raises(DataError, match="0-65535"):
        to_rgb(Image.fromarray(np.full((4, 4), 70000, np.int32)), tmp_path / "wide.tif")


def test_a_mask_of_label_ids_is_binarised_before_it_is_resized(tree: Dataset) -> None:
    good, bad = tree.test
    mask = read_mask(tree, bad, EXACT)
    assert mask.shape == (24, 24)
    assert mask.dtype == np.bool_
    raw = np.zeros((40, 50), np.uint8)
    raw[10:30, 5:25] = 255
    assert np.array_equal(mask, np.asarray(Image.fromarray(raw).resize((24, 24), Image.Resampling.NEAREST)) > 0)
    assert not read_mask(tree, good, EXACT).any()


def test_the_full_rule_is_tailedcores_path(tree: Dataset) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="the reference is torchvision")
    steps = [transforms.Resize(32), transforms.CenterCrop(27), transforms.ToTensor()]
    raw = Image.fromarray((np.asarray(decode(tree.file("mask.png"))) > 0).astype(np.uint8) * 255)
    theirs = transforms.Compose(steps)(raw)[0].numpy().astype(int)
    full = replace(CROPPED, mask_interpolation="bilinear", mask_rule="full")
    ours = read_mask(tree, tree.test[1], full)
    assert np.array_equal(ours, theirs == 1)
    loose = read_mask(tree, tree.test[1], replace(full, mask_rule="positive"))
    assert loose.sum() > ours.sum() > 0
    assert not (ours & ~loose).any()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_masks_of_any_mode_agree(tree: Dataset, mode: str) -> None:
    assert tree.root is not None
    expected = read_mask(tree, tree.test[1], EXACT)
    values = (np.asarray(decode(tree.file("mask.png"))) > 0).astype(np.uint8)
    image = Image.fromarray(values if mode in ("P", "L") else values * 255)
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 10, 10])
    elif mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    elif mode != "L":
        image = image.convert(mode)
    image.save(tree.root / "mask.png")
    assert np.array_equal(read_mask(tree, tree.test[1], EXACT), expected)


def test_a_mask_of_another_size_is_named_with_its_image(tree: Dataset) -> None:
    Image.new("L", (40, 50)).save(tree.file("mask.png"))
    with pytest.raises(DataError, match=r"mask\.png as large as its image .*bad\.png \(50x40\), got 40x50"):
        read_mask(tree, tree.test[1], EXACT)


def test_a_missing_mask_is_an_error(tree: Dataset) -> None:
    with pytest.raises(DataError, match=r"a mask of .*bad\.png, got none"):
        read_mask(tree, replace(tree.test[1], mask=None), EXACT)
    tree.file("mask.png").unlink()
    with pytest.raises(DataError, match=r"mask\.png, got no such file"):
        read_mask(tree, tree.test[1], EXACT)


def test_converted_and_raw_masks_need_no_special_case(visa_release: Path, convert: Callable[..., None]) -> None:
    from ltbench.datasets import visa

    raw = visa.index(visa_release)
    bad = raw.by_path["candle/Data/Images/Anomaly/000.JPG"]
    assert read_mask(raw, bad, COMMON).mean() == pytest.approx(0.25, abs=0.01)


def test_twelve_of_sixteen_bits(tmp_path: Path) -> None:
    dim = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(dim).save(tmp_path / "0.png")
    dataset = Dataset("d", ("a",), (Sample("0.png", "a"),), (), tmp_path)
    assert facts_of([tmp_path / "0.png"])[tmp_path / "0.png"].is_dark
    dark, bright = (DiskImages(dataset, ["0.png"], protocol_named(name)) for name in ("common", "common+depth12"))
    assert (dark[0].max(), bright[0].max()) == (16, 255)
    assert dark.fingerprints != bright.fingerprints
    Image.fromarray(dim * 16).save(tmp_path / "0.png")
    assert not facts_of([tmp_path / "0.png"])[tmp_path / "0.png"].is_dark
    with pytest.raises(DataError, match=r"12-bit pixels .* leave \+depth12 out"):
        DiskImages(dataset, ["0.png"], protocol_named("common+depth12"))[0]


def _colours(file: Path, values: NDArray[np.uint16]) -> None:
    """Write a PNG of 16-bit colours, which Pillow reads and does not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))


def test_colours_of_sixteen_bits_are_known_and_not_scaled(tmp_path: Path) -> None:
    for highest, is_dark in ((4095, True), (4096, False), (65535, False)):
        file = tmp_path / f"{highest}.png"
        _colours(file, np.full((4, 5, 3), highest, np.uint16))
        (found,) = facts_of([file]).values()
        assert (found.is_deep, found.is_colour, found.is_dark) == (True, True, is_dark)
        check_depth(file, found, 16)
        with pytest.raises(DataError, match=r"got colours of 16 bit\. Leave \+depth12 out"):
            check_depth(file, found, 12)
    photo(9, 7).save(tmp_path / "8.png")
    (found,) = facts_of([tmp_path / "8.png"]).values()
    assert not found.is_deep and not found.is_dark


def test_facts_are_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "0.png"
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(file)
    before = facts_of([file])
    monkeypatch.setattr(facts, "decode", lambda _: pytest.fail("it was read again"))
    assert facts_of([file]) == before
    monkeypatch.undo()
    Image.fromarray(np.full((4, 5), 4096, np.uint16)).save(file)
    assert facts_of([file])[file].highest == 4096
    file.unlink()
    with pytest.raises(DataError, match=r"0\.png, got no file"):
        facts_of([file])


class TestDecodingAhead:
    def tree(self, folder: Path, count: int) -> Dataset:
        for index in range(count):
            photo(30, 30, index).save(folder / f"{index}.png")
        return Dataset("parts", ("bolt",), (), tuple(Sample(f"{index}.png", "bolt") for index in range(count)), folder)

    def test_images_come_in_order_from_other_threads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset, threads = self.tree(tmp_path, 30), set[str]()

        def noting(file: Path) -> Image.Image:
            threads.add(threading.current_thread().name)
            time.sleep(0.001 * (int(file.stem) % 3))
            return decode(file)

        monkeypatch.setattr(images_module, "decode", noting)
        paths = [f"{index}.png" for index in range(30)]
        images = DiskImages(dataset, paths, COMMON)
        found = list(images)
        assert threading.current_thread().name not in threads
        np.testing.assert_array_equal(found, [images[index] for index in range(30)])

    def test_a_broken_file_is_an_error_when_its_turn_has_come(self, tmp_path: Path) -> None:
        dataset = self.tree(tmp_path, 6)
        (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:200])
        images = iter(DiskImages(dataset, [f"{index}.png" for index in range(6)], COMMON))
        assert [next(images).shape for _ in range(3)] == [(256, 256, 3)] * 3
        with pytest.raises(DataError, match=r"3\.png"):
            next(images)

    def test_who_stops_early_leaves_most_undecoded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset, decoded = self.tree(tmp_path, 40), list[Path]()

        def noting(file: Path) -> Image.Image:
            decoded.append(file)
            return decode(file)

        monkeypatch.setattr(images_module, "decode", noting)
        monkeypatch.setattr(images_module, "usable_cores", lambda: 2)
        for _ in DiskImages(dataset, [f"{index}.png" for index in range(40)], COMMON):
            break
        assert len(decoded) <= 6
