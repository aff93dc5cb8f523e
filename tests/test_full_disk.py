"""A full disk, a real one where that can be made: one error with the path and the remedy, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from ltbench import atomic
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.state import save_state
from ltbench.blocks.training.checkpoints import read_checkpoint, write_checkpoint
from ltbench.contract.registry import method_class
from ltbench.errors import DataError, FullDiskError, LtbenchError
from ltbench.executors.cells import Cell, Settings, run_cell
from ltbench.records.failures import failed_runs
from ltbench.records.maps import write_maps
from ltbench.system import as_ours
from tests.conftest import Run

BLOCK = 1 << 12
RUN = ["run", "-m", "mean_image", "-s", "parts_full", "--save-maps", "--save-model"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs to be root, and allowed to mount a file system in memory")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(disk: Path, left: int = 0) -> None:
    """Leave room for `left` bytes, in blocks."""
    status = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(status.f_bavail * status.f_frsize - left))


def _left(folder: Path) -> list[str]:
    """Return every file below a folder but the filler and what claims keep."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        str(path.relative_to(folder)) for path in files if path.name != "filler" and ".claims" not in str(path)
    )


@pytest.mark.parametrize("left", [0, BLOCK, 4 * BLOCK, 20 * BLOCK, 60 * BLOCK])
def test_a_run_on_a_full_disk(ltbench: Run, parts: Path, disk: Path, left: int) -> None:
    """Wherever in a run the disk is full: its claim, its maps, its record."""
    results = disk / "results"
    _fill(disk, left)
    code, out, err = ltbench(*RUN, "--data-root", parts, "--results", results, "--json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "No space left on device" in err and str(disk) in err
    assert "Free space or pass another --results" in err
    assert [name for name in _left(results) if not name.startswith("digests/")] == []
    for claim in results.glob(".claims/*"):
        json.loads(claim.read_text())
    (disk / "filler").unlink()
    assert ltbench(*RUN, "--data-root", parts, "--results", results, "--json")[0] == 0, "the same command goes on"


def test_a_sweep_stops_at_the_first_full_disk(ltbench: Run, parts: Path, disk: Path) -> None:
    _fill(disk, 8 * BLOCK)
    grid = ["-m", "mean_image", "-s", "parts_full,parts_step2", "--seeds", "0-3", "--save-maps"]
    code, _, err = ltbench("sweep", *grid, "--data-root", parts, "--results", disk / "results")
    assert code == 2
    assert "The sweep stopped there; the same command goes on" in err
    assert err.count("No space left on device") == 1
    assert failed_runs(disk / "results") == []
    (disk / "filler").unlink()
    code, _, err = ltbench("status", "--results", disk / "results", "--json")
    assert code == 0, err


OUT: list[list[str]] = [
    ["figure", "profiles", "-s", "mvtec_step100", "--out", "{disk}/x.pdf"],
    ["figure", "categories", "--out", "{disk}/x.svg"],
    ["runs", "export", "--out", "{disk}/x.csv"],
    ["runs", "export", "--scores", "--out", "{disk}/x.parquet"],
    ["runs", "bundle", "--by", "me", "--out", "{disk}/x.tar.zst"],
    ["report", "--out", "{disk}"],
    ["make-splits", "mvtec_step100", "--out", "{disk}"],
    ["heatmaps", "--run", "{run}", "--out", "{disk}/maps.png", "--data-root", "{parts}"],
    ["heatmaps", "--run", "{run}", "--out", "{disk}/maps", "--data-root", "{parts}"],
]


@pytest.mark.parametrize("arguments", OUT, ids=lambda arguments: " ".join(arguments[:2]))
def test_every_out_on_a_full_disk(ltbench: Run, parts: Path, disk: Path, arguments: list[str]) -> None:
    assert ltbench(*RUN, "--data-root", parts)[0] == 0
    (run,) = Path("results/runs").iterdir()
    _fill(disk)
    given = [text.format(disk=disk, run=run, parts=parts) for text in arguments]
    code, out, err = ltbench(*given)
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1 and "No space left on device. Choose another --out." in err and str(disk) in err
    assert _left(disk) == []


@pytest.mark.parametrize("left", [0, 8 * BLOCK])
def test_runs_of_others_on_a_full_disk(ltbench: Run, parts: Path, disk: Path, left: int) -> None:
    assert ltbench(*RUN, "--data-root", parts)[0] == 0
    assert ltbench("runs", "bundle", "--by", "me", "--out", "all.tar.zst")[0] == 0
    _fill(disk, left)
    for arguments in (["merge", "results"], ["import", "all.tar.zst"]):
        code, out, err = ltbench("runs", *arguments, "--results", disk / "here")
        if arguments[0] == "merge" or not left:
            assert (code, out) == (2, "")
            assert "No space left on device. Free space or pass another --results." in err and str(disk) in err
            assert _left(disk) == []


def test_a_full_cache(ltbench: Run, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTBENCH_CACHE", str(disk / "cache"))
    _fill(disk, 30 * BLOCK)
    code, _, err = ltbench("run", "-m", "mean_image", "-s", "shapes_step20", "--json")
    assert code == 2
    assert "No space left on device. Free some space there, or set LTBENCH_CACHE" in err
    assert [name for name in _left(disk / "cache") if not name.endswith(".lock")] == []


def test_the_doctor_sees_a_full_disk(ltbench: Run, disk: Path) -> None:
    _fill(disk)
    code, out, _ = ltbench("doctor", "--results", disk / "results", "--json")
    assert code == 1
    assert "No space left on device" in out


def _full(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_rust(tensors: object, file: object, **options: object) -> None:
    Path(str(file)).write_bytes(b"half")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


WRITERS: dict[str, Callable[[Path], object]] = {
    "state": lambda folder: save_state(folder, method_class("mean_image")(), {"a": np.zeros(3)}),
    "checkpoint": lambda folder: write_checkpoint(folder / "a.safetensors", {"a": torch.zeros(3)}, {}),
    "output": lambda folder: atomic.write_output(folder / "a.csv", b"content"),
}


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_writer_says_so_and_leaves_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Injected, so that it is seen everywhere; by Python and by safetensors, whose error is no `OSError`."""
    monkeypatch.setattr("safetensors.numpy.save_file", _full_rust)
    monkeypatch.setattr("ltbench.blocks.training.checkpoints.save_file", _full_rust)
    monkeypatch.setattr(Path, "write_bytes", _full) if name == "output" else None
    with pytest.raises((FullDiskError, OSError)) as caught:
        WRITERS[name](tmp_path)
    assert isinstance(ours := as_ours(caught.value), FullDiskError)
    assert str(tmp_path) in str(ours) and "No space left on device" in str(ours)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_as_readable_as_any_file(tmp_path: Path) -> None:
    """safetensors and `tempfile` give files to their owner alone, whatever the umask says."""
    (tmp_path / "maps").mkdir()
    (tmp_path / "any").touch()
    write_maps(tmp_path / "maps", "bolt", np.zeros((1, 2, 2), np.float32))
    for write in WRITERS.values():
        write(tmp_path)
    DiskFeatureStore(tmp_path / "store").put("space", "key", {"a": np.zeros(3, np.float32)})
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert len(files) == 7
    assert {path.stat().st_mode for path in files} == {(tmp_path / "any").stat().st_mode}


def test_maps_that_do_not_fit_are_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetensors.numpy.save_file", _full_rust)
    with pytest.raises(OSError, match="No space left") as caught:
        write_maps(tmp_path, "bolt", np.zeros((1, 2, 2), np.float32))
    assert isinstance(as_ours(caught.value), FullDiskError)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.safetensors"
    write_checkpoint(file, {"a": torch.zeros(3)}, {"n": 1})
    monkeypatch.setattr("ltbench.blocks.training.checkpoints.save_file", _full_rust)
    with pytest.raises(FullDiskError):
        write_checkpoint(file, {"a": torch.ones(3)}, {"n": 2})
    found = read_checkpoint(file)
    assert found is not None and found[1] == {"n": 1}


def test_a_cell_that_finds_no_room_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltbench.executors.cells._run", _full)
    report = run_cell(Cell("0" * 16, "mean_image", "parts_full"), Settings(tmp_path))
    assert report.state == "full"
    assert failed_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a"), "Expected to use a, got Permission denied. Mend its"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 9999), "aa..., got File name too long"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a"), "this is a folder"),
        (OSError(errno.ENODEV, "No such device", "a"), "there is no such device"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), r"got 'a\udcff'. Rename"),
        (ValueError("embedded null byte"), "null byte"),
    ],
)
def test_what_the_system_refuses_is_ours(error: Exception, message: str) -> None:
    ours = as_ours(error)
    assert isinstance(ours, DataError)
    assert message in str(ours)
    assert len(str(ours)) < 400


def test_a_defect_is_none_of_ours() -> None:
    assert as_ours(ValueError("a defect")) is None
    assert as_ours(ConnectionResetError("by peer")) is None
    error = LtbenchError("ours")
    assert as_ours(error) is error


def test_an_out_that_is_a_link_or_a_device_is_written_through(ltbench: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "file.svg", tmp_path / "link.svg"
    file.write_text("an older and longer file " * 10_000)
    inode = file.stat().st_ino
    link.symlink_to(file)
    assert ltbench("figure", "profiles", "-s", "mvtec_step100", "--out", link)[0] == 0
    assert link.is_symlink() and file.stat().st_ino == inode
    assert file.read_text().startswith("<?xml") and file.read_text().rstrip().endswith("</svg>")
    null = tmp_path / "null.svg"
    null.symlink_to("/dev/null")
    assert ltbench("figure", "profiles", "-s", "mvtec_step100", "--out", null)[0] == 0
    assert null.is_symlink() and Path("/dev/null").is_char_device()
    atomic.write_output(Path("/dev/null"), b"content")
    assert Path("/dev/null").is_char_device()
    (tmp_path / "full.svg").symlink_to("/dev/full")
    code, _, err = ltbench("figure", "profiles", "-s", "mvtec_step100", "--out", tmp_path / "full.svg")
    assert code == 2 and "No space left on device" in err


def test_a_link_to_a_disk_without_room_keeps_its_file(disk: Path, tmp_path: Path) -> None:
    file, link = disk / "file.csv", tmp_path / "link.csv"
    file.write_bytes(b"old")
    link.symlink_to(file)
    _fill(disk)
    with pytest.raises(FullDiskError):
        atomic.write_output(link, bytes(1 << 22))
    assert file.read_bytes() == b"old"
