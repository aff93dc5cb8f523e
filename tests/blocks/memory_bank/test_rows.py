"""Rows in a file are the rows of an array, whatever the windows, and nothing is left of the file."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltbench.blocks.memory_bank import rows as module
from ltbench.blocks.memory_bank.rows import StoredRows, every, in_memory, new_rows, select, windows
from ltbench.errors import LtbenchError

COUNT, COLUMNS = 60, 700  # 2,800 bytes a row: no row begins where a page does


@pytest.fixture(params=["file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "scratch" if request.param == "file" else None


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW_BYTES", 7 * COLUMNS * 4)


def values(count: int = COUNT) -> NDArray[np.float32]:
    return np.random.RandomState(0).randn(count, COLUMNS).astype(np.float32)


def filled(folder: Path | None, stored: Any = None) -> StoredRows[np.float32]:
    rows = StoredRows((COUNT, COLUMNS), np.float32, stored, folder)
    for first in range(0, COUNT, 13):
        rows[first : first + 13] = values()[first : first + 13]
    return rows


def test_windows_and_indices(folder: Path | None) -> None:
    rows, array = filled(folder), values()
    assert (len(rows), rows.shape) == (COUNT, array.shape)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[:], array)
    np.testing.assert_array_equal(rows[11:58], array[11:58])
    np.testing.assert_array_equal(rows[60:], array[60:])
    chosen = np.array([59, 0, 7, 7, 31, 6])
    np.testing.assert_array_equal(rows[chosen], array[chosen])
    np.testing.assert_array_equal(in_memory(select(rows, chosen)), array[chosen])
    np.testing.assert_array_equal(np.concatenate([window for _, window in windows(rows)]), array)
    assert [place.stop - place.start for place, _ in windows(rows)] == [7] * 8 + [4]
    np.testing.assert_array_equal(every(rows, 6, 2, 5), every(array, 6, 2, 5))


@given(indices=st.lists(st.integers(0, COUNT - 1)), first=st.integers(0, COUNT), count=st.integers(0, COUNT))
@settings(deadline=None, max_examples=30)
def test_any_choice_is_that_of_an_array(
    tmp_path_factory: pytest.TempPathFactory, indices: list[int], first: int, count: int
) -> None:
    rows, array = filled(tmp_path_factory.getbasetemp()), values()
    chosen = np.array(indices, np.int64)
    np.testing.assert_array_equal(rows[chosen], array[chosen])
    np.testing.assert_array_equal(rows[first : first + count], array[first : first + count])


def test_half_precision_rounds_once(folder: Path | None) -> None:
    rounded = values().astype(np.float16).astype(np.float32)
    rows = filled(folder, "float16")
    np.testing.assert_array_equal(rows[:], rounded)
    assert rows[3:5].dtype == np.float32
    np.testing.assert_array_equal(every(rows, 6, 0, 6), every(rounded, 6, 0, 6))
    np.testing.assert_array_equal(select(rows, np.array([4, 2]))[:], rounded[[4, 2]])
    with pytest.raises(LtbenchError, match="float16's range"):
        rows[0:1] = np.full((1, COLUMNS), 1e5, np.float32)


def test_a_window_can_be_worked_on_in_place(folder: Path | None) -> None:
    rows = StoredRows((COUNT, 5), np.float64, folder=folder)
    assert not rows[:].any()
    block = rows[10:20]
    block += np.pi
    rows[10:20] = block
    assert (rows[10:20] == np.pi).all()
    assert not rows[:10].any()
    assert not rows[20:].any()


def test_the_file_has_no_name_and_ends_with_its_rows(tmp_path: Path) -> None:
    rows = filled(tmp_path)
    window = rows[5:9]
    assert list(tmp_path.iterdir()) == []
    del rows
    gc.collect()
    np.testing.assert_array_equal(window, values()[5:9])  # what is looked at stays


def test_plain_rows_are_an_array() -> None:
    assert isinstance(new_rows((2, 3)), np.ndarray)
    assert isinstance(new_rows((2, 3), "float16"), StoredRows)


def test_a_full_disk_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(LtbenchError, match=r"room for 1\.0 GiB in .*No space left.*LTBENCH_CACHE"):
        StoredRows((2**18, 2**10), np.float32, folder=tmp_path)
