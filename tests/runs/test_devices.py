"""Devices that cannot serve, or fail in the middle: one line with the remedy."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from ltbench.blocks.device import VARIABLE
from ltbench.errors import LtbenchError, SpecError
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


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), device_faults("cuda", lambda: ""):
        raise RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="CUDA error"), device_faults("cpu", lambda: ""):
        raise RuntimeError("CUDA error: on a CPU?")
