"""What lies on a device is estimated before a run; what does not fit is refused with what would."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from ltbench.blocks.device import VARIABLE
from ltbench.datasets.images import DiskImages
from ltbench.errors import SpecError
from ltbench.executors.cells import Settings
from ltbench.method import ImageCounts, MemoryEstimate
from ltbench.records.failures import read_failure
from ltbench.runs.device_memory import counted_for
from ltbench.runs.harness import Harness
from ltbench.runs.memory import plan_memory
from ltbench.runs.progress import ConsoleProgress
from ltbench.runs.runner import run_by_name
from ltbench.sweeps.grid import Request
from ltbench.sweeps.plan import make_plan
from methods.mean_image.method import MeanImage
from tests.runs.test_memory import GIB, PAPER, method

ON_DEVICE = [
    *("patchcore", "softpatch", "padim", "tailedcore", "tailedcore_oracle", "groupcore"),
    *("uniad", "rlr", "dinomaly", "hvqtrans", "ltad", "ltad_labelfree", "draem", "mkd", "cutpaste", "regad"),
    *("winclip", "anomalyclip", "anomalygpt"),
]
SMALL = ImageCounts((224, 224), (4, 8), (2, 3))
Free = Callable[[float], None]


@pytest.fixture(autouse=True)
def _known_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltbench.runs.memory.resident_memory", lambda: GIB)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Return what lets torch see a device with so many GiB free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)

    def has(size: float) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(size * GIB), 80 * GIB))

    return has


def on_device(found: Any, images: ImageCounts) -> dict[str, int]:
    return dict(found.memory_estimate(images, streamed=False).device)


@pytest.mark.parametrize("name", ON_DEVICE)
def test_methods_say_what_they_take_and_less_of_smaller_batches(name: str) -> None:
    found = method(name)
    peaks = [max(on_device(found, replace(SMALL, batch=batch)).values()) for batch in (2, 32)]
    assert GIB // 2 < peaks[0] <= peaks[1] < 8 * GIB
    assert on_device(found, SMALL) == {}, "on a CPU there is no device"


def test_a_memory_bank_lies_there() -> None:
    """A tenth of the patches of 1,715 images: 134,456 of 1,024 values, in batches of 32."""
    phases = on_device(method("patchcore", "paper"), replace(PAPER, batch=32))
    rows = int(0.1 * sum(PAPER.train) * 784)
    more = phases[f"search in {rows:,} patches, in batches of 32"] - phases["features of 1,715 images in batches of 32"]
    assert more > 4 * 1024 * rows
    assert "projection of 1,344,560 patches to 128 dimensions" in phases


@pytest.mark.parametrize(("name", "preset"), [("tailedcore", "paper_mvtec_step"), ("uniad", None)])
def test_what_fits_is_said_and_recorded(name: str, preset: str | None, free: Free) -> None:
    free(16)
    planned = plan_memory(method(name, preset), PAPER, device="cuda:1")
    plain = plan_memory(method(name, preset), PAPER)
    assert planned is not None
    assert plain is not None
    peak = max(planned.estimate.device.values())
    assert planned.text.startswith(f"{plain.text}, on cuda:1 at {peak / GIB:.1f} GiB (")
    assert planned.note == {
        **plain.note,
        "estimated_device_peak_mib": round(peak / 2**20, 1),
        "device_phase": max(planned.estimate.device, key=planned.estimate.device.__getitem__),
    }
    assert set(plain.note) == {"estimated_peak_mib", "phase", "limit_mib", "streamed"}, "as it is on a CPU"


def test_a_smaller_batch_is_offered_that_fits(free: Free, monkeypatch: pytest.MonkeyPatch) -> None:
    found = method("patchcore", "paper")
    free(1.9)
    message = (
        r"^Expected 2\.\d GiB free on cuda for search in 134,456 patches, in batches of 32, got 1\.9 GiB\. Set "
        rf"{VARIABLE}=(\d+), or pass --device cpu\. Or change the result with -p coreset_ratio=0\.01"
    )
    with pytest.raises(SpecError, match=message) as raised:
        plan_memory(found, PAPER, device="cuda")
    batch = int(str(raised.value).partition(f"{VARIABLE}=")[2].partition(",")[0])
    monkeypatch.setenv(VARIABLE, str(batch))
    assert plan_memory(found, PAPER, device="cuda") is not None
    monkeypatch.setenv(VARIABLE, str(2 * batch))
    with pytest.raises(SpecError):
        plan_memory(found, PAPER, device="cuda")


def test_smaller_steps_are_offered_where_the_training_is_too_large(free: Free) -> None:
    free(0.75)
    message = (
        r"^Expected [12]\.\d GiB free on cuda for .* images.*, got 0\.8 GiB\. Pass --device cpu\. "
        rf"Or change the result with -p batch_size=(\d+) and {VARIABLE}=(\d+)\.$"
    )
    with pytest.raises(SpecError, match=message) as raised:
        plan_memory(method("mkd", None), SMALL, device="cuda")
    size, batch = map(int, re.findall(r"=(\d+)", str(raised.value)))
    offered = replace(SMALL, batch=batch)
    assert max(on_device(method("mkd", None, batch_size=size), offered).values()) <= 0.75 * GIB
    assert max(on_device(method("mkd", None, batch_size=2 * size), offered).values()) > 0.75 * GIB


def test_where_nothing_fits_there_is_the_cpu(free: Free) -> None:
    free(0.1)
    with pytest.raises(SpecError, match=r"got 0\.1 GiB\. Pass --device cpu\.$"):
        plan_memory(method("winclip"), SMALL, device="cuda")
    assert plan_memory(method("winclip"), SMALL, device="cpu") is not None


def test_a_batch_is_a_whole_number_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "many")
    assert counted_for("cpu", SMALL) == SMALL
    with pytest.raises(SpecError, match=VARIABLE):
        counted_for("cuda", SMALL)
    monkeypatch.setenv(VARIABLE, "6")
    assert counted_for("cuda:0", SMALL).batch == 6


def test_a_device_that_is_not_there_is_told_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert plan_memory(method("uniad"), SMALL, device="cuda") is not None


def test_a_run_that_does_not_fit_computes_nothing(
    parts: Path, tmp_path: Path, free: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("an image is read")

    free(0.25)
    monkeypatch.setattr(DiskImages, "__getitem__", read)
    console = Console(file=io.StringIO(), width=200)
    harness = Harness(tmp_path, device="cuda", progress=ConsoleProgress(console))
    with pytest.raises(SpecError, match=r"free on cuda for .*, got 0\.2 GiB\. Pass --device cpu\."):
        run_by_name("patchcore", "parts_full", parts, harness, "offline")
    assert not list(tmp_path.glob("runs/*/record.json"))


def test_a_run_says_what_it_takes_on_its_device(
    parts: Path, tmp_path: Path, free: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(_: object, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        return MemoryEstimate({"mean": GIB}, device={"maps": GIB // 2 * images.batch} if images.batch else {})

    free(40)
    monkeypatch.setattr(MeanImage, "memory_estimate", estimate)
    monkeypatch.setattr("ltbench.runs.recording.environment", lambda _: {})
    console = Console(file=io.StringIO(), width=200)
    harness = Harness(tmp_path, device="cuda", progress=ConsoleProgress(console))
    record = run_by_name("mean_image", "parts_full", parts, harness).record
    assert "(mean), on cuda at 16.0 GiB (maps)" in console.file.getvalue()  # type: ignore[attr-defined]
    assert record.notes["memory"]["estimated_device_peak_mib"] == 16 * 1024
    assert record.notes["memory"]["device_phase"] == "maps"
    assert read_failure(tmp_path, record.spec.hash) is None


def test_a_sweeps_plan_asks_nothing_of_a_device(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("CUDA is asked")

    for name in ("is_available", "mem_get_info", "memory_reserved", "init"):
        monkeypatch.setattr(torch.cuda, name, touched)
    settings = Settings(tmp_path, parts, device="cuda", memory_limit="64GiB")
    [cell] = make_plan([Request("patchcore", "parts_full", "offline")], settings).cells
    assert cell.state == "waiting"
