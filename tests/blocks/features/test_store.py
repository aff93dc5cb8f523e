"""The feature store: bit for bit, whole files only, several processes, a bound, and no run lost to it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from safetensors.numpy import save

from ltbench.blocks.features import store as feature_store
from ltbench.blocks.features.store import DiskFeatureStore, default_folder

SPACE = "0123456789abcdef"


def key(index: int) -> str:
    return f"{index * 2654435761 % 2**32:08x}"


def maps_of(index: int, values: int = 2500) -> dict[str, NDArray[np.float32]]:
    return {"map": np.full((values,), index, dtype=np.float32)}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in files(folder))


@given(
    stored=st.dictionaries(
        st.sampled_from(["map", "2", "3"]),
        arrays(np.float32, array_shapes(max_dims=3, max_side=5), elements=st.floats(width=32, allow_nan=True)),
        min_size=1,
    )
)
@settings(max_examples=40, deadline=None)
def test_what_comes_out_is_what_went_in(stored: dict[str, NDArray[np.float32]], tmp_path_factory: object) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    store = DiskFeatureStore(tmp_path_factory.mktemp("features"))
    store.put(SPACE, "key", stored)
    found = store.get(SPACE, "key")
    assert found is not None
    assert found.keys() == stored.keys()
    for name, array in stored.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        found[name][...] = 0  # callers may write to it
    again = store.get(SPACE, "key")
    assert again is not None
    assert all(again[name].tobytes() == array.tobytes() for name, array in stored.items())


def test_arrays_that_are_not_contiguous(tmp_path: Path) -> None:
    store = DiskFeatureStore(tmp_path)
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    store.put(SPACE, "key", {"map": array})
    found = store.get(SPACE, "key")
    assert found is not None
    np.testing.assert_array_equal(found["map"], array)


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    store = DiskFeatureStore(tmp_path / "none")
    assert store.get(SPACE, "key") is None
    store.put(SPACE, "key", maps_of(1))
    assert store.get("another-space", "key") is None
    assert files(tmp_path / "none") == [tmp_path / "none" / SPACE / "ke" / "key.safetensors"]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "x" * 200])
def test_names_that_would_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="Hash it"):
        DiskFeatureStore(tmp_path).get(SPACE, name)
    with pytest.raises(ValueError, match="Hash it"):
        DiskFeatureStore(tmp_path).put(name, "key", maps_of(1))


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "text", "no checksum"])
def test_a_damaged_file_is_a_miss_and_is_written_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskFeatureStore(tmp_path)
    store.put(SPACE, "key", maps_of(7))
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        del content[-100:]
    elif damage == "empty":
        content.clear()
    elif damage == "flipped":
        content[-5] ^= 1
    elif damage == "text":
        content[:] = b"not features"
    else:
        content[:] = save(maps_of(7))
    file.write_bytes(bytes(content))
    assert store.get(SPACE, "key") is None
    assert str(file) in caplog.text
    assert not file.exists()
    store.put(SPACE, "key", maps_of(7))
    found = store.get(SPACE, "key")
    assert found is not None
    np.testing.assert_array_equal(found["map"], maps_of(7)["map"])


class TestBound:
    def test_one_process_never_exceeds_it(self, tmp_path: Path) -> None:
        store = DiskFeatureStore(tmp_path, max_bytes=105_000)
        for index in range(60):
            store.put(SPACE, key(index), maps_of(index))
            assert size(tmp_path) <= 105_000
            assert store.get(SPACE, key(index)) is not None
        assert len(files(tmp_path)) >= 9

    def test_what_was_used_last_stays(self, tmp_path: Path) -> None:
        store = DiskFeatureStore(tmp_path, max_bytes=105_000)
        for index in range(10):
            store.put(SPACE, key(index), maps_of(index))
        for index in range(5):
            assert store.get(SPACE, key(index)) is not None
        for index in range(10, 14):
            store.put(SPACE, key(index), maps_of(index))
        kept = [
            index for index in range(14) if (tmp_path / SPACE / key(index)[:2] / f"{key(index)}.safetensors").exists()
        ]
        assert kept[:5] == [0, 1, 2, 3, 4]
        assert kept[-4:] == [10, 11, 12, 13]

    def test_an_earlier_run_counts(self, tmp_path: Path) -> None:
        for start in (0, 100):
            store = DiskFeatureStore(tmp_path, max_bytes=55_000)
            for index in range(start, start + 5):
                store.put(SPACE, key(index), maps_of(index))
        assert size(tmp_path) <= 55_000
        assert store.get(SPACE, key(104)) is not None

    @pytest.mark.parametrize("max_bytes", [0, 9_999])
    def test_what_is_larger_than_it_is_not_stored(self, tmp_path: Path, max_bytes: int) -> None:
        store = DiskFeatureStore(tmp_path, max_bytes=max_bytes)
        store.put(SPACE, "key", maps_of(1))
        assert store.get(SPACE, "key") is None
        assert not files(tmp_path)

    def test_what_a_killed_process_left_is_cleared(self, tmp_path: Path) -> None:
        folder = tmp_path / SPACE / "ab"
        folder.mkdir(parents=True)
        old, new = folder / "old.tmp", folder / "new.tmp"
        for file in (old, new):
            file.write_bytes(b"half")
        os.utime(old, (time.time() - 7200, time.time() - 7200))
        DiskFeatureStore(tmp_path).put(SPACE, "key", maps_of(1))
        assert not old.exists()
        assert new.exists()


def write_and_read(folder: Path, max_bytes: int, seed: int) -> tuple[int, int]:
    """Put and get the same keys as other processes do; return how many were found, and how many were wrong."""
    store = DiskFeatureStore(folder, max_bytes)
    order = np.random.default_rng(seed).integers(0, 30, 400)
    hits = wrong = 0
    for index in order.tolist():
        found = store.get(SPACE, key(index))
        if found is None:
            store.put(SPACE, key(index), maps_of(index))
        else:
            hits += 1
            wrong += not np.array_equal(found["map"], maps_of(index)["map"])
    return hits, wrong


@pytest.mark.parametrize("max_bytes", [10**9, 60_000])
def test_several_processes_share_a_folder(tmp_path: Path, max_bytes: int, capfd: pytest.CaptureFixture[str]) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        results = pool.starmap(write_and_read, [(tmp_path, max_bytes, seed) for seed in range(3)])
    assert all(hits > 0 and wrong == 0 for hits, wrong in results)
    assert size(tmp_path) <= max_bytes + 2 * 10_200  # a file for each other process that made room at the same time
    assert not list(tmp_path.rglob("*.tmp"))
    assert "cannot be read" not in capfd.readouterr().err


def test_a_full_disk_ends_storing_but_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskFeatureStore(tmp_path)
    store.put(SPACE, key(0), maps_of(0))
    tries = 0

    def full(self: Path, target: Path) -> Path:
        nonlocal tries
        tries += 1
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(Path, "replace", full)
        for index in range(1, 4):
            store.put(SPACE, key(index), maps_of(index))
    assert tries == 1
    assert caplog.text.count("No space left on device") == 1
    assert len(files(tmp_path)) == 1
    assert not list(tmp_path.rglob("*.tmp"))
    assert store.get(SPACE, key(0)) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")
def test_a_write_that_the_system_cuts_short(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
import numpy as np
from ltbench.blocks.features.store import DiskFeatureStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
store = DiskFeatureStore(Path({str(tmp_path)!r}))
store.put("space", "key", {{"map": np.zeros(2500, np.float32)}})
print(store.get("space", "key"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
    assert "Features are no longer stored" in done.stderr
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["trim.lock"]


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "features"
    monkeypatch.delenv("LTBENCH_CACHE")
    assert default_folder().name == "features"
    assert "ltbench" in default_folder().parts
    assert feature_store.DEFAULT_MAX_BYTES > 10**9
