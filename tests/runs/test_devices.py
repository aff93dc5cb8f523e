"""Devices that cannot serve, or fail in the middle: one line with the remedy."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ltbench.blocks.device import VARIABLE
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.loop import train
from ltbench.errors import LtbenchError, SpecError
from ltbench.method import ImageSet, Runtime
from ltbench.records.failures import read_failure
from ltbench.runs import devices
from ltbench.runs.devices import check_faiss, device_faults, resolve_device
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name
from methods.mean_image.method import MeanImage


def pretend(monkeypatch: pytest.MonkeyPatch, count: int, warning: str = "") -> None:
    """Let torch see so many devices, and warn."""

    def is_available() -> bool:
        if warning:
            warnings.warn(warning, stacklevel=1)
        return count > 0

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_a_driver_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(
        monkeypatch,
        0,
        "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Update.",
    )
    with pytest.raises(SpecError, match=r"too old \(found version 11040\).*Update the driver .* or pass --device cpu"):
        resolve_device("cuda")
    with pytest.warns(UserWarning, match=r"running on the CPU: .* too old"):
        assert resolve_device("auto") == "cpu"


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 2)
    monkeypatch.setattr(devices, "installed_version", lambda build: "1" if build == "faiss-cpu" else None)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(SpecError, match=r"Expected cuda:2, got 2 CUDA devices. Pass --device cpu"):
        resolve_device("cuda:2")


def test_two_builds_of_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "installed_version", lambda build: "1.9" if build.startswith("faiss-") else None)
    with pytest.raises(SpecError, match=r"pip uninstall -y faiss-cpu faiss-gpu-cu12 .* && pip install faiss-cpu"):
        check_faiss()
    pretend(monkeypatch, 1)
    with pytest.raises(SpecError, match="one build of FAISS"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has"), VARIABLE),
        (RuntimeError("CUDA error: unspecified launch failure\nmore"), "nvidia-smi"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), "--device cpu"),
    ],
)
def test_a_device_that_fails_in_the_middle_leaves_nothing_and_the_next_call_starts_clean(
    error: RuntimeError, message: str, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(*_: object) -> None:
        raise error

    harness = Harness(tmp_path / "results", device="cuda")
    monkeypatch.setattr("ltbench.runs.recording.environment", lambda _: {})
    with monkeypatch.context() as broken:
        broken.setattr(MeanImage, "predict", predict)
        with pytest.raises(LtbenchError, match=message) as raised:
            run_by_name("mean_image", "parts_step2_noisy25", parts, harness)
    assert "predict" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "results").glob("runs/*/record.json"))
    outcome = run_by_name("mean_image", "parts_step2_noisy25", parts, harness)
    assert not outcome.reused
    assert read_failure(harness.results, outcome.record.spec.hash) is None


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has")


def failing_training(images: ImageSet, runtime: Runtime) -> None:
    """Train a network whose second step finds no room."""
    network, steps = torch.nn.Linear(1, 1), iter((False, True))

    def loss(shard: Shard) -> torch.Tensor:
        if next(steps):
            raise OUT_OF_MEMORY
        made: torch.Tensor = network(torch.ones(len(shard.indices), 1))
        return made.mean()

    learner = Learner("net", network, loss, torch.optim.SGD(network.parameters(), 0.1), shards="one")
    train([learner], len(images), Schedule(1, 4), replace(runtime, device="cpu"), phase="detection")


def failing_search(images: ImageSet, runtime: Runtime) -> None:
    """Search a memory bank for the images' patches, where the estimates find no room."""
    memory = NearestNeighbours(np.ones((10, 4), np.float32))
    tracked = runtime.progress.track((np.ones((9, 4), np.float32) for _ in images), "search", len(images))
    list(memory.search_each(tracked))


@pytest.mark.parametrize(("where", "phase"), [("training", "fit: detection"), ("search", "predict .*: search")])
def test_no_memory_in_the_middle_names_the_phase_and_the_settings(
    where: str, phase: str, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, runtimes = MeanImage.fit, list[Runtime]()

    def lent(method: MeanImage, images: ImageSet, runtime: Runtime) -> MeanImage:
        runtimes.append(runtime)
        if where == "training":
            failing_training(images, runtime)
        return fit(method, images, runtime)

    def found(*_: object) -> None:
        raise OUT_OF_MEMORY

    monkeypatch.setattr(MeanImage, "fit", lent)
    monkeypatch.setattr(MeanImage, "predict", lambda _, images: failing_search(images, runtimes[0]))
    monkeypatch.setattr(NearestNeighbours, "_search", found)
    harness = Harness(tmp_path / "results", device="cuda")
    message = rf"Expected room on cuda for {phase}, got none \(CUDA out of memory\)\. Lower {VARIABLE}, or batch_size"
    with pytest.raises(LtbenchError, match=message):
        run_by_name("mean_image", "parts_step2_noisy25", parts, harness)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), device_faults("cuda", lambda: ""):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="CUDA error"), device_faults("cpu", lambda: ""):
        raise RuntimeError("CUDA error: on a CPU?")
