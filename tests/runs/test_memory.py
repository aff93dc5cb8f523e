"""Memory is estimated before a run, bounded without changing a digit, and refused with a way out."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console

from ltbench.blocks.features.pyramids import feature_network
from ltbench.blocks.features.store import scratch_folder
from ltbench.blocks.memory_bank.rows import StoredRows
from ltbench.blocks.training.estimate import kept_bytes
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, method_class, presets
from ltbench.contract.subject import Subject
from ltbench.core import Dataset
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import EstimatesMemory, ImageCounts, MemoryEstimate, Method, Runtime
from ltbench.protocols import protocol_named
from ltbench.records.record import read_records
from ltbench.runs import environment, memory
from ltbench.runs.harness import Harness
from ltbench.runs.memory import image_counts, plan_memory
from ltbench.runs.progress import ConsoleProgress
from ltbench.runs.runner import run_by_name
from ltbench.splits.files import find_split
from methods.mkd.net import Student

BANKS = ["padim", "patchcore", "softpatch", "tailedcore", "tailedcore_oracle"]
GIB, MIB = 2**30, 2**20
PAPER = ImageCounts((224, 224), (4,) * 9 + (230, 241, 242, 264, 272, 430), (83, 167))


def method(name: str, preset: str | None = "offline", split: str = "", **values: Any) -> Any:
    cls = method_class(name)
    return cls(**resolve(cls, choose_preset(cls, preset, split).parameters, values))


def peak(found: Any, images: ImageCounts, *, streamed: bool) -> int:
    phases: dict[str, int] = found.memory_estimate(images, streamed=streamed).phases
    return max(phases.values())


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltbench.blocks.memory_bank.estimate.get_num_threads", lambda: 1)
    monkeypatch.setattr("ltbench.blocks.memory_bank.estimate.usable_cores", lambda: 2)
    monkeypatch.setattr(memory, "resident_memory", lambda: GIB - memory.RESERVE)
    monkeypatch.setattr(memory, "available_memory", lambda: 64 * GIB)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("padim", {"dimensions": 20}),
        ("patchcore", {}),
        ("patchcore", {"coreset": "approximate"}),
        ("softpatch", {}),
        ("softpatch", {"filtering": "weighted", "weight_method": "nearest"}),
        ("tailedcore", {}),
        ("tailedcore", {"patch_precision": "float16"}),
        ("tailedcore_oracle", {"projection_dim": 152}),
    ],
)
def test_a_file_changes_no_digit(
    name: str, changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(method_class(name), presets(method_class(name)))
    values = subject.parameters | changed
    held = subject.method(**values).fit(subject.train, Runtime())
    monkeypatch.setattr("ltbench.blocks.memory_bank.rows.WINDOW_BYTES", 5000)
    monkeypatch.setattr("ltbench.blocks.memory_bank.denoising.POSITIONS", 3)
    streamed = subject.method(**values).fit(subject.train, Runtime(scratch=tmp_path))
    for found, wanted in zip(_arrays(streamed, subject), _arrays(held, subject), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "saved").mkdir()
    streamed.save(tmp_path / "saved")
    again = subject.method.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict(subject.mixed).maps, held.predict(subject.mixed).maps)


def _arrays(fitted: Method, subject: Subject) -> tuple[Any, Any]:
    prediction = fitted.predict(subject.defective)
    return prediction.scores, prediction.maps


def test_half_precision_is_a_hyper_parameter_of_its_own() -> None:
    subject = Subject(method_class("patchcore"), presets(method_class("patchcore")))
    rounded = subject.fitted(patch_precision="float16").predict(subject.defective).maps
    exact = subject.expected.maps
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, rtol=0.05, atol=0.05 * exact.max())


@pytest.mark.parametrize("name", BANKS)
def test_the_papers_settings(name: str) -> None:
    """The patches of 1,715 images, 5.1 GiB, are what a file saves; PaDiM's triangles are 3.5 GiB."""
    paper = method(name, None, "mvtec_k4_noisy10_seed1")
    held, streamed = (peak(paper, PAPER, streamed=where) for where in (False, True))
    arrays = 3136 * 8 * 550 * 551 // 2 if name == "padim" else sum(PAPER.train) * 784 * 1024 * 4
    assert held > arrays
    assert streamed < held / 2.5
    assert paper.memory_estimate(PAPER, streamed=False).disk == 0
    assert paper.memory_estimate(PAPER, streamed=True).disk >= arrays


@pytest.mark.parametrize("name", BANKS)
def test_estimates_grow_with_what_they_are_of(name: str) -> None:
    found = method(name)
    more = replace(PAPER, train=(*PAPER.train, 900), test=(*PAPER.test, 900))
    for streamed in (False, True):
        assert peak(found, more, streamed=streamed) > peak(found, PAPER, streamed=streamed)


def test_tails_and_views_are_what_the_tail_memory_takes() -> None:
    """36 images in 9 categories of 4, twice as many for TailSampler's mistakes, 48 views of 784 patches."""
    phases = method("tailedcore", "paper_mvtec_step").memory_estimate(PAPER, streamed=True).phases
    assert f"coreset of {72 * 48 * 784:,} patches of 72 tail images in 128 dimensions" in phases
    phases = method("tailedcore_oracle", "paper_visa").memory_estimate(PAPER, streamed=True).phases
    assert f"coreset of {36 * 8 * 784:,} patches of 36 tail images in 128 dimensions" in phases
    phases = method("tailedcore_oracle", "paper_visa", memories="clean").memory_estimate(PAPER, streamed=True).phases
    assert not any("tail images" in phase for phase in phases)


def test_no_image_and_no_weights_are_needed() -> None:
    """The committed split of a dataset that is not there, and a backbone whose weights are not there."""

    def no_listing(name: str) -> Dataset:
        raise AssertionError(name)

    split = find_split("mvtec_k4_noisy10_seed1", no_listing)
    counts = image_counts(split, protocol_named("tailedcore"))
    assert counts.size == (224, 224)
    assert sorted(counts.train)[:9] == [4] * 9
    assert sum(counts.test) == 1725
    plan = plan_memory(method("tailedcore", None, split.name), counts)
    assert plan is not None
    assert not plan.streamed
    assert 7 * GIB < plan.peak < 12 * GIB


def test_below_the_limit_nothing_changes() -> None:
    plan = plan_memory(method("patchcore", "paper"), PAPER, 16 * GIB)
    assert plan is not None
    assert (plan.streamed, plan.estimate.disk) == (False, 0)
    assert plan.text.startswith("peak memory estimated at 7.")
    assert "free" not in plan.text


def test_above_the_limit_a_file_takes_over(tmp_path: Path) -> None:
    plan = plan_memory(method("patchcore", "paper"), PAPER, 3 * GIB, tmp_path)
    assert plan is not None
    assert plan.streamed
    assert plan.peak < 3 * GIB
    assert plan.allowance == 2 * GIB
    assert "in a temporary file to stay below 3.0 GiB" in plan.text
    assert plan.note["streamed"] is True
    assert plan.note["limit_mib"] == 3072


def test_more_than_is_free_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * GIB)
    plan = plan_memory(method("patchcore", "paper"), PAPER)
    assert plan is not None
    safe = 0.9 * (GIB - memory.RESERVE + 2 * GIB) / GIB  # of what the process has and what is free
    assert f"2.0 GiB are free: --memory-limit {safe:.1f}GiB keeps it below that" in plan.text


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    message = (
        r"Expected 1,715 training images to fit in 2\.7 GiB \(--memory-limit\), got an estimate of 3\.\d GiB even with "
        r"large arrays in files, 1\.0 GiB of them for the process itself; it is the search in 385,237 patches that "
        r"takes most\. Pass --memory-limit 3\.\dGiB or more\. Or change the result with -p augmentation=rot30flip, or "
        r"-p augmentation=rotflip\."
    )
    with pytest.raises(SpecError, match=message):
        plan_memory(method("tailedcore", "paper_mvtec_step"), PAPER, int(2.7 * GIB))
    with pytest.raises(SpecError, match=r"Pass --memory-limit \d\.\dGiB or more\.$"):
        plan_memory(method("tailedcore", "paper_mvtec_step"), PAPER, GIB)


def test_what_the_message_offers_fits() -> None:
    found = method("tailedcore", "paper_mvtec_step", augmentation="rot30flip")
    plan = plan_memory(found, PAPER, int(2.7 * GIB))
    assert plan is not None
    assert plan.peak <= 2.7 * GIB


@pytest.mark.parametrize("name", ["tailedcore", "groupcore"])
def test_a_process_stays_below_the_estimate(parts: Path, tmp_path: Path, name: str) -> None:
    """In a process of its own, since libraries come with the first network and the first search of one."""
    command = [sys.executable, "-m", "ltbench.cli", "run", "-m", name, "-s", "parts_full", "--preset", "offline"]
    folders = ["--data-root", str(parts), "--results", str(tmp_path)]
    subprocess.run([*command, *folders], check=True, capture_output=True, timeout=300)
    [record] = read_records(tmp_path)[0]
    assert max(record.peak_memory_mib.values()) <= record.notes["memory"]["estimated_peak_mib"]


def test_a_disk_without_room_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free_disk", lambda _: GIB)
    with pytest.raises(SpecError, match=r"5\.\d GiB free for a temporary file in .*got 1\.0 GiB.*LTBENCH_CACHE"):
        plan_memory(method("patchcore", "paper"), PAPER, 3 * GIB, tmp_path / "not yet")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the mean image say nothing; Python keeps what `isinstance` once answered about a class."""
    monkeypatch.setattr(method_class("mean_image"), "memory_estimate", None)
    forget = cast(Any, EstimatesMemory)._abc_caches_clear
    forget()
    yield
    forget()


@pytest.mark.usefixtures("silent")
def test_methods_may_say_nothing() -> None:
    assert not isinstance(method("mean_image", None), EstimatesMemory)
    assert plan_memory(method("mean_image", None), PAPER, GIB) is None


def test_more_tails_than_expected_are_refused_when_they_are_known(tmp_path: Path) -> None:
    """All images are alike, so all are tail: more than the estimate could expect."""
    images = np.random.RandomState(0).randint(0, 255, (1, 64, 64, 3), np.uint8).repeat(60, axis=0)
    found = method("tailedcore", memories="tail")
    runtime = Runtime(scratch=tmp_path, memory_limit=30 * MIB)
    with pytest.raises(SpecError, match=r"the views of the tail images to fit in 0\.0 GiB, got .* for 60 images"):
        found.fit(ArrayImages(images), runtime)


def test_the_system_says_what_there_is() -> None:
    assert 10 * MIB < environment.resident_memory() < 64 * GIB
    available = environment.available_memory()
    assert available is None or available > 0


def test_a_limited_run_keeps_its_promise_and_its_numbers(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "resident_memory", lambda: 0)
    monkeypatch.setattr(memory, "RESERVE", 0)

    def estimate(_: Method, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        assert (sum(images.train), sum(images.test)) == (16, 16)
        return MemoryEstimate({"so many patches": MIB if streamed else 2 * MIB}, disk=streamed * MIB)

    monkeypatch.setattr(method_class("patchcore"), "memory_estimate", estimate)
    free = Harness(tmp_path / "free")
    outcome = run_by_name("patchcore", "parts_full", parts, free, "offline")
    note = {"estimated_peak_mib": 2.0, "phase": "so many patches", "limit_mib": None, "streamed": False}
    assert outcome.record.notes["memory"] == note
    used: list[Path | None] = []
    build = StoredRows.__init__

    def noted(self: Any, *args: Any, **options: Any) -> None:
        build(self, *args, **options)
        used.append(self._folder)

    monkeypatch.setattr(StoredRows, "__init__", noted)
    bounded = Harness(tmp_path / "limited", memory_limit=3 * MIB // 2)
    limited = run_by_name("patchcore", "parts_full", parts, bounded, "offline")
    assert limited.record.notes["memory"]["streamed"] is True
    assert used
    assert set(used) == {scratch_folder()}
    assert list(scratch_folder().iterdir()) == []
    assert limited.record.spec == outcome.record.spec
    assert limited.record.scores == outcome.record.scores
    assert limited.record.metrics == outcome.record.metrics
    small = Harness(tmp_path / "free", memory_limit=MIB // 2)
    assert run_by_name("patchcore", "parts_full", parts, small, "offline").reused, "a finished run needs no memory"
    with pytest.raises(SpecError, match="--memory-limit"):
        run_by_name("patchcore", "parts_full", parts, replace(small, force=True), "offline")


@pytest.mark.usefixtures("silent")
def test_the_estimate_is_said_before_the_run(parts: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    harness = Harness(tmp_path, progress=ConsoleProgress(console), memory_limit=64 * GIB)
    run_by_name("padim", "parts_full", parts, harness, "offline", {"dimensions": 20})
    run_by_name("mean_image", "parts_full", parts, harness)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "peak memory estimated at 1." in said
    assert "Gaussians of 20 channels at 4,096 positions)" in said
    assert "Mean image does not say what memory it takes: it runs without a limit" in said


@pytest.mark.parametrize(("text", "size"), [("8GB", 8 * 10**9), ("1.5GiB", 3 * 2**29), ("0", None), (None, None)])
def test_limits_as_the_command_line_takes_them(text: str | None, size: int | None, tmp_path: Path) -> None:
    harness = Harness.of(tmp_path, "cpu", "0", force=False, save_maps=False, quiet=True, memory_limit=text)
    assert harness.memory_limit == size


def test_a_limit_that_is_no_size(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"got 'much'\. Pass --memory-limit 20GB"):
        Harness.of(tmp_path, "cpu", "0", force=False, save_maps=False, quiet=True, memory_limit="much")


TRAINED = ["cutpaste", "dinomaly", "draem", "hvqtrans", "mkd", "regad", "rlr", "uniad"]
TRAINED += ["anomalyclip", "anomalygpt", "ltad", "ltad_labelfree"]
SMALL = ImageCounts((224, 224), (4, 8), (2, 3))


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_grows_with_its_batch(name: str) -> None:
    few, more = (peak(method(name, batch_size=size), SMALL, streamed=False) for size in (2, 8))
    assert 2**20 < few < more


@pytest.mark.parametrize("name", [*TRAINED, "winclip"])
def test_a_training_that_does_not_fit_is_refused_before_it_starts(name: str) -> None:
    with pytest.raises(
        SpecError, match=r"12 training images to fit in 1\.0 GiB .*Pass --memory-limit [1-4]\.\dGiB or more"
    ):
        plan_memory(method(name), SMALL, GIB)
    assert plan_memory(method(name), SMALL, 8 * GIB) is not None


def test_a_live_backbone_is_there_twice_and_takes_the_whole_batch() -> None:
    def features_and_step(**values: Any) -> tuple[int, int]:
        features, step, _ = method("hvqtrans", **values).memory_estimate(SMALL, streamed=False).phases.values()
        return features, step - features

    found = method("hvqtrans")
    network = feature_network(found.backbone, found.layers, seed=0)
    learnt = sum(own.numel() for own in network.parameters())
    for size in (2, 8):
        still = features_and_step(batch_size=size)
        live = features_and_step(batch_size=size, backbone_statistics="train")
        assert live[0] - still[0] == 2 * 4 * learnt, "as it is read and as it is used"
        largest = kept_bytes(lambda size=size: network(torch.zeros(size, 3, 224, 224)), "cpu")  # type: ignore[misc]
        assert live[1] - still[1] > MIB * size
        assert live[1] - still[1] < largest, "its modules' outputs are not kept"


def test_what_autograd_keeps_is_counted_once() -> None:
    """Of y = relu(x W'): x for W, y for relu; W is a parameter. x and what is made are one each, however often read."""
    with torch.device("meta"):
        layer = torch.nn.Linear(3, 5, bias=False)

    def forward() -> list[torch.Tensor]:
        x = torch.empty(7, 3)
        y = layer(x).relu()
        return [y, y.square()]

    assert kept_bytes(forward) == 4 * (7 * 3 + 7 * 5 + 7 * 5)


@pytest.mark.parametrize(("name", "size"), [("draem", 96), ("mkd", 128)])
def test_what_is_kept_on_meta_is_what_is_kept(name: str, size: int) -> None:
    """The same bytes as a real forward pass keeps: the device "meta" leaves nothing out."""
    found = method(name)
    network = found._network() if name == "draem" else Student((24, 40, 112, 320), found.width)
    counted = [_kept(network, size, device) for device in ("meta", "cpu")]
    assert counted[0] == counted[1] > MIB


def _kept(network: torch.nn.Module, size: int, device: str) -> int:
    network = network.to_empty(device=device).train()
    return kept_bytes(lambda: network(torch.zeros(2, 3, size, size)), device)
