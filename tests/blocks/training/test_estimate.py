"""What a step of a training takes on a device, where a batch is one shard, beside what is estimated."""

from __future__ import annotations

from typing import Any

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel

from ltbench.blocks.device_memory import WORKSPACE, Allocated, Room
from ltbench.blocks.training import loop
from ltbench.blocks.training.estimate import Training, device_phases
from ltbench.contract.registry import method_class, presets
from ltbench.contract.subject import Subject
from ltbench.method import ImageCounts

METHODS = ["cutpaste", "dinomaly", "draem", "hvqtrans", "ltad", "mkd", "regad", "rlr", "uniad"]


@pytest.mark.parametrize("name", METHODS)
def test_a_step_takes_less_than_estimated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    estimated: list[int] = []
    shard, step = loop._Loop._shard, Training.device_step

    def counted(self: Any, *args: Any) -> Any:
        with Allocated() as allocated:
            found = shard(self, *args)
        seen.append(allocated.peak)
        return found

    def noted(self: Training) -> int:
        estimated.append(step(self) - self.held())
        return step(self)

    monkeypatch.setattr(loop, "SHARD", 1000)  # a batch is one shard, as on a device
    monkeypatch.setattr(loop._Loop, "_shard", counted)
    monkeypatch.setattr(Training, "device_step", noted)
    subject = Subject(method_class(name), presets(method_class(name)))
    with sdpa_kernel(SDPBackend.MATH):  # as on CUDA, where kernels add up gradients in any order
        method: Any = subject.reference
    method.memory_estimate(ImageCounts(subject.train.size, (6, 6), (4,), batch=4), streamed=False)
    assert max(seen) <= max(estimated) <= 4 * max(seen)


def test_phases_have_what_lies_there_all_the_time() -> None:
    images = ImageCounts((8, 8), (5,), (3, 4), batch=2)
    kept = {"steps": 1000}

    class Fixed(Training):
        """Of known bytes."""

        def device_step(self) -> int:
            return kept["steps"]

        def held(self) -> int:
            return 300

    trained = Fixed([], [], 8)
    found = device_phases(trained, images, Room(10_000, 50), beside=7, score=lambda _: None)
    base = WORKSPACE + 10_000
    assert found == {
        "features of 5 images in batches of 2": base + 100,
        "training in steps of 8 images": base + 7 + 1000,
        "maps of 4 images in batches of 2": base + 300 + 100,
    }
    assert device_phases(trained, ImageCounts((8, 8), (5,), (3,)), Room(1, 1)) == {}
