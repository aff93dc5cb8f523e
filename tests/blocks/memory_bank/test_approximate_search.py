"""The approximate search of FAISS: what it finds, keeps, leaves out and cannot hold."""

from __future__ import annotations

import logging
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.errors import SpecError
from tests.blocks.memory_bank.test_neighbours import brute_force, points


@pytest.fixture(scope="module")
def grouped() -> NDArray[np.float32]:
    """Rows in seven groups, far apart."""
    memory = points(700, 64)
    memory[:, 0] += np.arange(700) % 7 * 30
    return memory


@pytest.fixture(scope="module")
def neighbours(grouped: NDArray[np.float32]) -> NearestNeighbours:
    return NearestNeighbours(grouped, approximate=True)


def test_finds_near_rows(grouped: NDArray[np.float32], neighbours: NearestNeighbours) -> None:
    queries = grouped[::5] + np.float32(0.01)
    distances, indices = neighbours.search(queries)
    true = brute_force(grouped, queries)[np.arange(len(queries)), indices[:, 0]]
    assert np.median(true) < 20  # two unrelated rows are 128 apart within their group
    assert np.median(np.abs(distances[:, 0] - true)) < 20


def test_is_trained_the_same_each_time(
    grouped: NDArray[np.float32], neighbours: NearestNeighbours, tmp_path: Path
) -> None:
    save_file(neighbours.arrays(), tmp_path / "state.safetensors")
    loaded = NearestNeighbours.from_arrays(load_file(tmp_path / "state.safetensors"))
    again = NearestNeighbours(grouped, approximate=True)
    assert len(loaded) == len(again) == 700
    queries = points(100, 64, seed=1)
    for other in (loaded, again):
        for one, two in zip(neighbours.search(queries), other.search(queries), strict=True):
            np.testing.assert_array_equal(one, two)


def test_rows_are_left_out_of_their_cell(grouped: NDArray[np.float32], neighbours: NearestNeighbours) -> None:
    queries = grouped[:70]
    before = neighbours.search(queries)
    ((distances, indices),) = neighbours.search_without([queries], [np.array([700 - 1])])
    np.testing.assert_array_equal(indices, before[1])
    np.testing.assert_array_equal(distances, before[0])
    cell = neighbours.search(queries[:1], 1)[1][0]
    try:
        ((_, others),) = neighbours.search_without([queries[:1]], [cell])
    except SpecError as error:
        assert "Search exactly" in str(error)
    else:
        assert others[0, 0] != cell[0]


@pytest.mark.parametrize("shape", [(600, 100), (511, 64)])
def test_what_it_cannot_hold(shape: tuple[int, int]) -> None:
    with pytest.raises(SpecError, match="approximate"):
        NearestNeighbours(points(*shape), approximate=True)


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="needs a FAISS without GPU")
def test_cuda_without_a_gpu_build_says_so(caplog: pytest.LogCaptureFixture) -> None:
    memory, queries = points(600, 64), points(2, 64)
    with caplog.at_level(logging.WARNING):
        found = NearestNeighbours(memory, approximate=True, device="cuda").search(queries)
    assert "docs/runs.md" in caplog.text
    np.testing.assert_array_equal(found[0], NearestNeighbours(memory, approximate=True).search(queries)[0])
