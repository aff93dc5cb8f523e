from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from ltbench.datasets.archives.unpack import unpack
from ltbench.errors import DataError, FullDiskError
from tests.datasets.archives.conftest import Told

FILES = {"./bottle/train/good/000.png": b"image", "bottle/readme.txt": b"terms", "bottle/empty.txt": b""}


def _tar(file: Path, files: dict[str, bytes], *links: tarfile.TarInfo) -> Path:
    kinds: dict[str, Literal["w:gz", "w:xz"]] = {".gz": "w:gz", ".xz": "w:xz"}
    with tarfile.open(file, kinds[file.suffix]) if file.suffix in kinds else tarfile.open(file, "w") as archive:
        for link in links:
            archive.addfile(link)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file


def _zip(file: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = kind, target
    return link


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_every_kind_of_archive_is_unpacked(tmp_path: Path, told: Told, name: str) -> None:
    archive = (_zip if name.endswith("zip") else _tar)(tmp_path / name, FILES)
    unpack(archive, tmp_path / "tree", told)
    found = {
        path.relative_to(tmp_path / "tree").as_posix(): path.read_bytes()
        for path in (tmp_path / "tree").rglob("*")
        if path.is_file()
    }
    assert found == {name.removeprefix("./"): content for name, content in FILES.items()}
    ((title, done, total, advanced),) = told.tasks
    assert (title, done) == (f"unpack {name}", 0)
    assert total == advanced == archive.stat().st_size


@pytest.mark.parametrize("make", [_tar, _zip])
@pytest.mark.parametrize("name", ["../out.png", "bottle/../../out.png", "/tmp/out.png", "c:/out.png"])
def test_no_path_leaves_the_folder(
    tmp_path: Path, told: Told, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    archive = make(tmp_path / ("a.tar" if make is _tar else "a.zip"), {name: b"x"})
    with pytest.raises(DataError, match="Expected a path relative"):
        unpack(archive, tmp_path / "tree", told)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]


def test_links_and_devices_of_a_tar_are_left_out_and_told(tmp_path: Path, told: Told) -> None:
    links = [
        _link("bottle", "/etc"),
        _link("inner", "bottle"),
        _link("hard", "/etc/passwd", tarfile.LNKTYPE),
        _link("pipe", "", tarfile.FIFOTYPE),
    ]
    unpack(_tar(tmp_path / "a.tar", FILES, *links), tmp_path / "tree", told)
    assert not [path for path in (tmp_path / "tree").rglob("*") if path.is_symlink()]
    assert (tmp_path / "tree/bottle/readme.txt").read_bytes() == b"terms"
    assert [line.split("'")[1] for line in told.lines] == ["bottle", "inner", "hard", "pipe"]


def test_links_of_a_zip_are_left_out_and_told(tmp_path: Path, told: Told) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc")
        archive.writestr("link/passwd", b"mine")
        archive.writestr("__MACOSX/link/._passwd", b"junk")
    unpack(tmp_path / "a.zip", tmp_path / "tree", told)
    assert "'link'" in told.lines[0]
    assert [path.name for path in (tmp_path / "tree").rglob("*") if path.is_file()] == ["passwd"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_a_damaged_archive_is_told(tmp_path: Path, told: Told, name: str) -> None:
    archive = (_zip if name.endswith("zip") else _tar)(tmp_path / name, {"a.png": os.urandom(50_000)})
    whole = archive.read_bytes()
    archive.write_bytes(whole[:20_000])
    with pytest.raises(DataError, match=r"Expected the archive .*Remove it"):
        unpack(archive, tmp_path / "tree", told)
    archive.write_bytes(b"no archive at all")
    with pytest.raises(DataError, match=r"Expected the archive .*Remove it"):
        unpack(archive, tmp_path / "tree", told)


def test_an_archive_that_grows_beyond_the_disk_is_refused(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = {"a.png": bytes(2_000_000)}
    free = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    for archive in (_zip(tmp_path / "a.zip", zeros), _tar(tmp_path / "a.tar.gz", zeros)):
        with pytest.raises(FullDiskError, match="GB free"):
            unpack(archive, tmp_path / "tree", told)
        assert not [path for path in (tmp_path / "tree").rglob("*") if path.is_file()]
