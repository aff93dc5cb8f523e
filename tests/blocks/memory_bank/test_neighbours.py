"""Nearest neighbours against brute force, in any batches and on any number of threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ltbench.blocks.memory_bank import neighbours as neighbours_module
from ltbench.blocks.memory_bank.neighbours import CHUNK, NearestNeighbours
from ltbench.errors import SpecError


def points(count: int, dimension: int, seed: int = 0) -> NDArray[np.float32]:
    """Rows far from the origin in relation to their distances, which matrix products measure badly."""
    random = np.random.default_rng(seed)
    return (5 + random.standard_normal((count, dimension))).astype(np.float32)


def brute_force(memory: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    difference = queries[:, None].astype(np.float64) - memory[None].astype(np.float64)
    distances: NDArray[np.float64] = (difference**2).sum(axis=2)
    return distances


def test_distances_are_squared() -> None:
    memory = np.array([[0, 0], [3, 4]], dtype=np.float32)
    queries = np.array([[3, 0], [3, 3], [0, 0.5]], dtype=np.float32)
    distances, indices = NearestNeighbours(memory).search(queries)
    np.testing.assert_array_equal(distances, [[9], [1], [0.25]])
    np.testing.assert_array_equal(indices, [[0], [1], [0]])
    assert distances.dtype == np.float32
    assert indices.dtype == np.int64


@given(
    rows=st.integers(1, 60),
    dimension=st.integers(1, 40),
    count=st.integers(1, 30),
    k=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_equals_brute_force(rows: int, dimension: int, count: int, k: int, seed: int) -> None:
    k = min(k, rows)
    memory, queries = points(rows, dimension, seed), points(count, dimension, seed + 1)
    distances, indices = NearestNeighbours(memory).search(queries, k)
    expected = brute_force(memory, queries)
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :k], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(expected, indices, axis=1), distances, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
def test_many_queries_equal_brute_force(k: int) -> None:
    memory, queries = points(300, 20), points(2 * CHUNK + 100, 20, seed=1)
    distances, indices = NearestNeighbours(memory).search(queries, k)
    expected = brute_force(memory, queries)
    order = np.argsort(expected, axis=1)[:, :k]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(distances, np.take_along_axis(expected, order, axis=1), rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
def test_no_neighbour_is_lost_among_near_equal_rows_far_from_the_origin(k: int) -> None:
    """There FAISS's exact search, by which this one once chose what to measure, finds nearly none of the nearest."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((8, 256))
    near = [
        centres[random.integers(0, 8, count)] + 1e-3 * random.standard_normal((count, 256)) for count in (2000, 500)
    ]
    memory, queries = (points.astype(np.float32) for points in near)
    distances, indices = NearestNeighbours(memory).search(queries, k)
    expected = np.stack([((memory - query) ** 2).sum(axis=1) for query in queries])
    order = np.argsort(expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, np.take_along_axis(expected, order, axis=1))
    true = brute_force(memory[:200], queries[:50])
    np.testing.assert_array_equal(NearestNeighbours(memory[:200]).search(queries[:50])[1][:, 0], true.argmin(axis=1))


def test_a_row_of_the_memory_is_at_distance_zero() -> None:
    memory = points(2000, 152)
    distances, indices = NearestNeighbours(memory).search(memory)
    np.testing.assert_array_equal(distances, 0)
    np.testing.assert_array_equal(indices[:, 0], np.arange(2000))


def test_equally_near_rows_are_taken_by_index() -> None:
    memory = np.repeat(points(40, 16), 2, axis=0)
    distances, indices = NearestNeighbours(memory).search(points(1500, 16, seed=3), k=1)
    assert (indices % 2 == 0).all()
    assert np.isfinite(distances).all()


@pytest.mark.parametrize("batch", [1, 19, 196, 784, 1000, 1025])
def test_a_result_does_not_depend_on_the_batch(batch: int) -> None:
    memory, queries = points(1500, 152), points(2 * CHUNK + 77, 152, seed=1)
    neighbours = NearestNeighbours(memory)
    whole = neighbours.search(queries, k=2)
    some = queries if batch > 100 else queries[:200]
    parts = [neighbours.search(some[start : start + batch], k=2) for start in range(0, len(some), batch)]
    streamed = list(neighbours.search_each((some[start : start + batch] for start in range(0, len(some), batch)), k=2))
    for found in (parts, streamed):
        np.testing.assert_array_equal(np.concatenate([a for a, _ in found]), whole[0][: len(some)])
        np.testing.assert_array_equal(np.concatenate([b for _, b in found]), whole[1][: len(some)])


def test_nor_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, queries = points(1500, 100), points(3000, 100, seed=1)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(neighbours_module, "usable_cores", lambda threads=threads: threads)
        found.append(NearestNeighbours(memory).search(queries))
        assert torch.get_num_threads() == before
    for distances, indices in found[1:]:
        np.testing.assert_array_equal(distances, found[0][0])
        np.testing.assert_array_equal(indices, found[0][1])


def test_images_of_different_sizes_and_none_at_all() -> None:
    memory = points(50, 8)
    neighbours = NearestNeighbours(memory)
    counts = [0, 5, CHUNK, 0, 3 * CHUNK + 1, 1, 0, 0]
    images = [points(count, 8, seed=index) for index, count in enumerate(counts)]
    found = list(neighbours.search_each(images))
    assert [len(distances) for distances, _ in found] == counts
    for image, (distances, _) in zip(images, found, strict=True):
        np.testing.assert_array_equal(distances, neighbours.search(image)[0])
    assert list(neighbours.search_each([])) == []


@given(
    rows=st.integers(2, 80),
    out=st.integers(1, 79),
    k=st.integers(1, 4),
    images=st.lists(st.integers(0, 12), max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_without_rows_it_finds_what_a_memory_bank_that_lacks_them_does(
    rows: int, out: int, k: int, images: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    out = min(out, rows - 1)
    k = min(k, rows - out)
    memory = points(rows, 8, seed)
    queries = [np.concatenate([memory[:count], points(count, 8, seed + 1)]) for count in images]
    without = [np.sort(random.choice(rows, out, replace=False)) for _ in images]
    found = list(NearestNeighbours(memory).search_without(queries, without, k))
    assert len(found) == len(images)
    for own, left_out, (distances, indices) in zip(queries, without, found, strict=True):
        left = np.setdiff1d(np.arange(rows), left_out)
        wanted = NearestNeighbours(memory[left]).search(own, k)
        np.testing.assert_array_equal(distances, wanted[0])
        np.testing.assert_array_equal(indices, left[wanted[1]])


def test_many_queries_without_many_rows() -> None:
    """Enough queries for rows rounded to int8, more than a chunk of them, and every other row left out."""
    memory, queries = points(1500, 20), points(CHUNK + 100, 20, seed=1)
    queries[:600] = memory[:600]
    out = np.arange(0, 1500, 2)
    ((distances, indices),) = NearestNeighbours(memory).search_without([queries], [out], k=3)
    wanted = NearestNeighbours(memory[1::2]).search(queries, 3)
    np.testing.assert_array_equal(distances, wanted[0])
    np.testing.assert_array_equal(indices, 2 * wanted[1] + 1)


def test_rows_of_images_saved_and_loaded(tmp_path: Path) -> None:
    origins = np.array([4, 0, 4, 2, 0])
    neighbours = NearestNeighbours(points(2, 3), points(3, 3), origins=origins)
    save_file(neighbours.arrays(), tmp_path / "state.safetensors")
    loaded = NearestNeighbours.from_arrays(load_file(tmp_path / "state.safetensors"))
    for bank in (neighbours, loaded):
        assert [bank.rows_of(own).tolist() for own in ([4], [0, 2], [1], [7], [])] == [[0, 2], [1, 3, 4], [], [], []]


def test_what_cannot_be_left_out() -> None:
    bank = NearestNeighbours(points(3, 3), origins=np.array([0, 0, 1]))
    with pytest.raises(SpecError, match="1 to 1 neighbours"):
        list(bank.search_without([points(1, 3)], [bank.rows_of([0])], 2))
    with pytest.raises(SpecError, match=r"1 to 0 neighbours .* keep more rows of other images"):
        list(bank.search_without([points(1, 3)], [bank.rows_of([0, 1])]))
    with pytest.raises(SpecError, match="image of each of 3 rows"):
        NearestNeighbours(points(3, 3), origins=np.arange(2))
    unknown = NearestNeighbours(points(3, 3))
    assert len(unknown.rows_of([])) == 0
    with pytest.raises(SpecError, match="Fit anew"):
        unknown.rows_of([0])


def test_saved_and_loaded_it_finds_the_same(tmp_path: Path) -> None:
    memory, queries = points(700, 64), points(100, 64, seed=1)
    neighbours = NearestNeighbours(memory)
    save_file(neighbours.arrays(), tmp_path / "state.safetensors")
    loaded = NearestNeighbours.from_arrays(load_file(tmp_path / "state.safetensors"))
    for one, other in zip(neighbours.search(queries), loaded.search(queries), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(loaded) == 700


def test_refusals() -> None:
    for memory in (np.zeros((0, 3), np.float32), np.zeros((3, 0), np.float32), np.zeros(3, np.float32)):
        with pytest.raises(SpecError, match="memory bank"):
            NearestNeighbours(memory)
    with pytest.raises(SpecError, match="memory bank"):
        NearestNeighbours(np.zeros((2, 3)))  # type: ignore[arg-type]
    for k in (0, 3):
        with pytest.raises(SpecError, match="1 to 2 neighbours"):
            NearestNeighbours(points(2, 3)).search(points(1, 3), k)
    for columns in (1, 4):
        with pytest.raises(SpecError, match="Expected patches of 3 values"):
            NearestNeighbours(points(2, 3)).search(points(1, columns))


def test_the_three_libraries_work_in_one_process() -> None:
    """Each brings OpenMP; the other tests import them in another order."""
    script = """
import faiss, numba, torch
import numpy as np
@numba.njit(parallel=True)
def double(x):
    out = np.empty_like(x)
    for i in numba.prange(len(x)):
        out[i] = 2 * x[i]
    return out
x = np.random.default_rng(0).standard_normal((3000, 64), dtype=np.float32)
index = faiss.IndexFlatL2(64)
index.add(double(x))
assert (index.search(2 * x, 1)[1][:, 0] == np.arange(3000)).all()
assert np.allclose((torch.tensor(x) @ torch.tensor(x).T).numpy(), x @ x.T, atol=1e-3)
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
