"""What must be true on a CUDA device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.blocks import device as blocks
from ltbench.blocks.features.extractor import FeatureExtractor
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.memory_bank.device_search import DeviceRows
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.switches import Precision
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import method_class, presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import ImageCounts, Method, Runtime
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name
from tests.blocks.features.test_extractor import assert_same

pytestmark = pytest.mark.cuda

ROUNDING = 0.002
"""Image AUROC on a CPU and on CUDA: 0.2 points."""

BANK = {"backbone": "test_resnet", "weights": "random", "layers": (1, 2)}
METHODS: dict[str, dict[str, Any]] = {
    "patchcore": BANK | {"embed_dim": 32, "coreset_ratio": 0.5},
    "softpatch": BANK | {"embed_dim": 32, "coreset_ratio": 0.5},
    "padim": BANK | {"dimensions": 20},
    **{name: {} for name in ("uniad", "rlr", "dinomaly", "draem", "mkd", "cutpaste", "regad")},
    **{name: {} for name in ("hvqtrans", "ltad", "ltad_labelfree", "winclip", "anomalygpt")},
}
"""Hyper-parameters; trained methods have a preset called `check`."""


def images(count: int, seed: int = 0, side: int = 64, places: slice = slice(None)) -> ArrayImages:
    """Return images of noise of two categories in turn, for methods that are told them."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return ArrayImages(drawn[places], ["ab"[index % 2] for index in range(count)[places]])


def fitted(name: str, runtime: Runtime) -> Method:
    cls = method_class(name)
    method: Any = cls(**resolve(cls, METHODS[name] or presets(cls)["check"].parameters))
    fit: Method = method.fit(images(9), runtime)
    return fit


def same(one: Prediction, other: Prediction) -> None:
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.maps, other.maps)


def at(prediction: Prediction, places: slice) -> Prediction:
    return Prediction(prediction.scores[places], prediction.maps[places])


@pytest.mark.parametrize("name", METHODS)
def test_one_seed_one_result_whatever_shares_the_batch(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blocks.VARIABLE, "4")
    method = fitted(name, Runtime(seed=3, device=device))
    whole = method.predict(images(10, seed=1))
    same(fitted(name, Runtime(seed=3, device=device)).predict(images(10, seed=1)), whole)
    for places in (slice(None, None, -1), slice(5, 6), slice(3, None)):
        same(method.predict(images(10, seed=1, places=places)), at(whole, places))


@pytest.mark.parametrize("name", METHODS)
def test_a_run_takes_less_than_estimated(name: str, device: str) -> None:
    if device == "cpu":
        pytest.skip("a CPU does not count what its tensors take")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    method: Any = fitted(name, Runtime(device=device))
    method.predict(images(10, seed=1))
    counts = ImageCounts((64, 64), (5, 4), (5, 5), batch=blocks.batch_of(torch.device(device)))
    estimated = max(method.memory_estimate(counts, streamed=False).device.values())
    assert torch.cuda.max_memory_reserved() <= estimated


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_b0"])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_features_do_not_depend_on_the_batch(backbone: str, precision: Precision, device: str) -> None:
    if device == "cpu" and precision == "tf32":
        pytest.skip("a CPU has no TF32")
    some = images(40, side=224 if device == "cuda" else 64)
    extractor = FeatureExtractor(backbone, (1, 2), "random", runtime=Runtime(device=device), precision=precision)
    whole = list(extractor.extract(some))
    assert_same(list(extractor.extract(ArrayImages(some.images[::-1])))[::-1], whole)
    assert_same(list(extractor.extract(ArrayImages(some.images[33:]))), whole[33:])


def test_stored_features_are_the_computed_ones(device: str, tmp_path: Path) -> None:
    runtime = Runtime(device=device, feature_store=DiskFeatureStore(tmp_path))
    extractor = FeatureExtractor("resnet18", (1, 2), "random", runtime=runtime)
    first = list(extractor.extract(images(35)))
    assert_same(list(extractor.extract(images(35))), first)


def test_the_nearest_rows_are_those_of_the_cpu(device: str) -> None:
    rng = np.random.default_rng(0)
    memory, queries = (rng.normal(size=(count, 256)).astype(np.float32) for count in (20000, 5000))
    distances, indices = DeviceRows(memory, device).search(torch.tensor(queries, device=device), 3)
    if device == "cuda":  # where batches are rehearsed on a CPU, its own search is this one
        wanted = NearestNeighbours(memory).search(queries, 3)
        np.testing.assert_array_equal(indices.cpu().numpy(), wanted[1])
        np.testing.assert_allclose(distances.cpu().numpy(), wanted[0], rtol=1e-5)
    again = DeviceRows(memory, device).search(torch.tensor(queries[7:9], device=device), 3)
    np.testing.assert_array_equal(again[0].cpu().numpy(), distances[7:9].cpu().numpy())


def test_rows_that_are_left_out_are_not_found(device: str) -> None:
    rng = np.random.default_rng(0)
    memory = rng.normal(size=(20000, 256)).astype(np.float32)
    queries = torch.tensor(memory[:500], device=device)
    distances, indices = DeviceRows(memory, device).without(np.arange(0, 20000, 2)).search(queries, 3)
    wanted = DeviceRows(memory[1::2], device).search(queries, 3)
    np.testing.assert_array_equal(indices.cpu().numpy(), 2 * wanted[1].cpu().numpy() + 1)
    np.testing.assert_array_equal(distances.cpu().numpy(), wanted[0].cpu().numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["patchcore", "uniad"])
def test_the_cpu_and_the_device_agree_on_shapes(
    name: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def auroc(where: str, batched: tuple[str, ...]) -> float:
        monkeypatch.setattr(blocks, "BATCHED", batched)
        harness = Harness(tmp_path / f"{where}{len(batched)}", device=where)
        outcome = run_by_name(name, "shapes_step20", tmp_path / "data", harness, "offline")
        return float(outcome.record.metrics["image_auroc"]["avg"])

    assert abs(auroc(device, blocks.BATCHED) - auroc("cpu", ())) <= ROUNDING


@pytest.mark.parametrize("name", ["uniad", "rlr", "dinomaly"])
def test_a_training_goes_on_from_a_checkpoint(name: str, device: str, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(epoch: int, method: Method) -> None:
        if epoch == 1:
            raise StoppedError

    whole = fitted(name, Runtime(seed=2, device=device)).predict(images(3, seed=1))
    runtime = Runtime(seed=2, device=device, checkpoints=tmp_path, checkpoint_minutes=0, after_epoch=stop)
    with pytest.raises(StoppedError):
        fitted(name, runtime)
    going_on = Runtime(seed=2, device=device, checkpoints=tmp_path, checkpoint_minutes=0)
    same(fitted(name, going_on).predict(images(3, seed=1)), whole)
