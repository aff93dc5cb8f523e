"""Search, patches and maps on a device, on the CPU behind the switch, beside the CPU's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ltbench.blocks import device
from ltbench.blocks.device_memory import peak_bytes
from ltbench.blocks.features.patches import official, official_patches, pooled, pooled_patches
from ltbench.blocks.maps import tensor_maps, upsample_and_smooth
from ltbench.blocks.memory_bank import device_search
from ltbench.blocks.memory_bank.device_search import DeviceRows, search_bytes
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.projection import project, project_chosen
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from methods.patchcore.method import PatchCore
from methods.softpatch.method import SoftPatch
from tests.blocks.features.test_extractor import TINY, pixels

Array = NDArray[np.float32]


@pytest.fixture
def batched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    monkeypatch.setattr(device_search, "QUERIES", 256)
    monkeypatch.setattr(device_search, "ROWS", 300)
    monkeypatch.setenv(device.VARIABLE, "4")


def points(count: int, dimension: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.usefixtures("batched")
def test_the_nearest_rows_are_those_of_a_slow_search(k: int) -> None:
    memory, queries = points(1000, 24), points(700, 24, seed=1)
    distances, indices = DeviceRows(memory, "cpu").search(torch.from_numpy(queries), k)
    slow = ((queries[:, None].astype(np.float64) - memory) ** 2).sum(axis=2)
    np.testing.assert_array_equal(indices.numpy(), np.argsort(slow, axis=1, kind="stable")[:, :k])
    np.testing.assert_allclose(distances.numpy(), np.sort(slow, axis=1)[:, :k], rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.usefixtures("batched")
def test_no_neighbour_is_lost(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near-equal rows far from the origin, equal rows, and what is not finite or too large for squares."""
    monkeypatch.setattr(device_search, "_PAIRS", 4000)
    random = np.random.default_rng(0)
    centres = 100 * random.standard_normal((8, 24))
    memory = (centres[random.integers(0, 8, 800)] + 1e-3 * random.standard_normal((800, 24))).astype(np.float32)
    memory[::9] = memory[0]
    queries = (memory[:300] + 1e-3 * random.standard_normal((300, 24))).astype(np.float32)
    queries[7, 3], queries[8, 3], queries[9] = np.nan, np.inf, 1e30
    broken = memory.copy()
    broken[5, 5], broken[400, 1] = np.nan, 1e25
    for rows in (memory, broken):
        distances, indices = DeviceRows(rows, "cpu").search(torch.from_numpy(queries), k)
        with np.errstate(over="ignore", invalid="ignore"):
            slow = ((torch.from_numpy(rows) - torch.from_numpy(queries)[:, None]).square()).sum(dim=2).numpy()
        nearest = np.argsort(slow, axis=1, kind="stable")[:, :k]
        np.testing.assert_allclose(distances.numpy(), np.take_along_axis(slow, nearest, axis=1), rtol=1e-5)
        assert (indices.numpy() == nearest).mean() > 0.99  # torch may add in another order there
        out = np.arange(0, 800, 3)
        left = np.setdiff1d(np.arange(800), out)
        found = DeviceRows(rows, "cpu").without(out).search(torch.from_numpy(queries), k)
        wanted = DeviceRows(rows[left], "cpu").search(torch.from_numpy(queries), k)
        np.testing.assert_array_equal(found[0].numpy(), wanted[0].numpy())
        np.testing.assert_array_equal(found[1].numpy(), left[wanted[1].numpy()])


@pytest.mark.usefixtures("batched")
def test_what_is_found_does_not_depend_on_the_other_queries() -> None:
    search = DeviceRows(points(1000, 24), "cpu").search
    queries = torch.from_numpy(points(300, 24, seed=1))
    distances, indices = search(queries, 2)
    for part in (slice(0, 1), slice(7, 200), slice(299, 300)):
        some = search(queries[part], 2)
        np.testing.assert_array_equal(some[0].numpy(), distances[part].numpy())
        np.testing.assert_array_equal(some[1].numpy(), indices[part].numpy())


@pytest.mark.usefixtures("batched")
def test_equal_rows_are_ordered_by_index_and_at_distance_zero() -> None:
    memory = np.repeat(points(20, 8), 2, axis=0)
    distances, indices = DeviceRows(memory, "cpu").search(torch.from_numpy(memory), 1)
    assert not distances.any()
    np.testing.assert_array_equal(indices[:, 0].numpy(), np.arange(40) // 2 * 2)


def test_a_memory_of_fewer_rows_than_candidates(batched: None) -> None:
    distances, _ = DeviceRows(points(2, 8), "cpu").search(torch.from_numpy(points(3, 8, seed=2)), 2)
    assert distances.shape == (3, 2)
    empty = DeviceRows(points(2, 8), "cpu").search(torch.empty(0, 8), 2)
    assert [tuple(array.shape) for array in empty] == [(0, 2), (0, 2)]


@pytest.mark.usefixtures("batched")
def test_rows_are_left_out_there_too() -> None:
    memory, queries = points(1000, 24), points(300, 24, seed=1)
    queries[:50] = memory[:50]
    out = np.arange(0, 1000, 2)
    bank = DeviceRows(memory, "cpu")
    distances, indices = bank.without(out).search(torch.from_numpy(queries), 3)
    wanted = DeviceRows(memory[1::2], "cpu").search(torch.from_numpy(queries), 3)
    np.testing.assert_array_equal(distances.numpy(), wanted[0].numpy())
    np.testing.assert_array_equal(indices.numpy(), 2 * wanted[1].numpy() + 1)
    assert not bank.search(torch.from_numpy(queries[:50]), 1)[0].any(), "the bank itself is whole"
    few = DeviceRows(memory[:3], "cpu").without(np.array([0]))
    np.testing.assert_array_equal(few.search(torch.from_numpy(memory[:1]), 2)[1].numpy().min(), 1)
    there = NearestNeighbours(memory, origins=np.arange(1000) % 2)
    assert there.on_device is not None
    ((near, rows),) = there.search_without([queries], [there.rows_of([0])], 3)
    np.testing.assert_array_equal(near, distances.numpy())
    np.testing.assert_array_equal(rows, indices.numpy())


def test_the_memory_bank_searches_there_and_is_saved_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, queries = points(500, 16), points(900, 16, seed=1)
    here = NearestNeighbours(memory)
    wanted = here.search(queries, 2)
    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    there = NearestNeighbours(memory)
    assert there.on_device is not None
    found = list(there.search_each([queries[:100], queries[100:100], queries[100:]], 2))
    assert [len(distances) for distances, _ in found] == [100, 0, 800]
    np.testing.assert_allclose(np.concatenate([distances for distances, _ in found]), wanted[0], rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate([indices for _, indices in found]), wanted[1])
    np.testing.assert_array_equal(there.arrays()["memory"], here.arrays()["memory"])


def test_projections_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = points(300, 64)
    here = project(patches, 8, np.random.RandomState(3))
    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    there = project(patches, 8, np.random.RandomState(3))
    np.testing.assert_allclose(there[:], here[:], rtol=0, atol=1e-5)
    chosen = np.array([2, 50, 299])
    np.testing.assert_array_equal(project_chosen(patches, chosen, 8, np.random.RandomState(3)), there[chosen])


@pytest.mark.parametrize("kind", ["official", "unaligned", "pooled"])
def test_patches_of_a_batch_are_those_of_each_image(kind: str) -> None:
    levels = [torch.randn(3, 8, 6, 6), torch.randn(3, 16, 3, 3)]
    dimension = {"official": 8, "unaligned": 7, "pooled": 24}[kind]
    batch = pooled(levels) if kind == "pooled" else official(levels, dimension)
    for index, found in enumerate(batch):
        maps = [level[index].numpy() for level in levels]
        one, grid = pooled_patches(maps) if kind == "pooled" else official_patches(maps, dimension)
        assert found.shape == (*grid, dimension)
        np.testing.assert_allclose(found.reshape(-1, dimension).numpy(), one, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("sigma", "align"), [(0.0, True), (4.0, False)])
def test_maps_on_a_device_are_the_cpus(sigma: float, align: bool) -> None:
    grids = points(3, 5 * 7).reshape(3, 5, 7)
    found = tensor_maps(torch.from_numpy(grids), (40, 56), sigma, align_corners=align)
    wanted = upsample_and_smooth(grids, (40, 56), sigma, align_corners=align)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [PatchCore, SoftPatch])
def test_a_method_scores_in_batches_as_it_does_one_by_one(
    method: type[PatchCore | SoftPatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = ArrayImages(pixels(8)), pixels(14)[8:]

    def fitted() -> PatchCore | SoftPatch:
        return method(backbone=TINY, weights="random", layers=(1, 2), embed_dim=32, coreset_ratio=0.5).fit(
            train, Runtime(seed=1)
        )

    one_by_one = fitted().predict(ArrayImages(test))
    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    monkeypatch.setenv(device.VARIABLE, "4")
    batched = fitted()
    whole = batched.predict(ArrayImages(test))
    assert whole.maps is not None
    assert one_by_one.maps is not None
    np.testing.assert_allclose(whole.maps, one_by_one.maps, rtol=0, atol=1e-3 * one_by_one.maps.max())
    part = batched.predict(ArrayImages(test[4:5]))  # alone in a padded batch
    assert part.maps is not None
    np.testing.assert_array_equal(part.maps, whole.maps[4:5])
    np.testing.assert_array_equal(part.scores, whole.scores[4:5])


@pytest.mark.parametrize(
    ("rows", "columns", "queries", "k", "kind"),
    [
        (20_000, 64, 5000, 1, "drawn"),
        (20_000, 32, 5000, 3, "drawn"),
        (40_000, 64, 4096, 1, "some left out"),
        (20_000, 64, 200, 1, "equal"),  # so that candidates are never enough
        (500, 64, 4096, 3, "equal"),
    ],
)
def test_a_search_takes_less_than_estimated(rows: int, columns: int, queries: int, k: int, kind: str) -> None:
    memory = np.ones((rows, columns), np.float32) if kind == "equal" else points(rows, columns)
    asked = torch.from_numpy(memory[:queries].repeat(-(-queries // rows), axis=0)[:queries])

    def work() -> object:
        found = DeviceRows(memory, "cpu")
        left = found.without(np.arange(0, rows, 7)) if kind == "some left out" else found
        return found, left.search(asked, k)

    seen, estimated = peak_bytes(work, "cpu"), search_bytes(rows, columns, queries, k)
    assert seen <= estimated <= 4 * seen


def test_a_memory_bank_is_there_once_while_it_is_built() -> None:
    memory = points(50_000, 64)
    assert peak_bytes(lambda: DeviceRows(memory, "cpu"), "cpu") < 1.5 * memory.nbytes
