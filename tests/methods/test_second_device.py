"""Every method keeps to its device: whatever it sends there, it meets nothing that was left on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.contract.registry import method_class, method_names, presets
from ltbench.contract.subject import Subject
from ltbench.core import Prediction
from ltbench.method import Method, Runtime
from tests.second_device import SECOND, There, WrongDeviceError, second_device

BANKS = ("groupcore", "padim", "patchcore", "softpatch", "tailedcore", "tailedcore_oracle")
UNTRAINED = (*BANKS, "winclip")
"""What is learnt depends on no random numbers that a device draws, so that a device finds what the CPU does."""

SMALLER = {"backbone": "test_resnet", "weights": "random", "layers": (1, 2)}
OWN: dict[str, dict[str, Any]] = {
    "anomalyclip": {"epochs": 1},
    "draem": {"iterations": 2},
    **dict.fromkeys(BANKS, SMALLER),
    "padim": SMALLER | {"dimensions": 20},
}
"""Hyper-parameters other than those of the contract checks, whose numbers mean something."""


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with second_device(monkeypatch, batch=3):
        yield SECOND


def predicted(subject: Subject, device: str) -> Prediction:
    method = subject.method(**subject.parameters | OWN.get(subject.method.info.name, {}))
    return method.fit(subject.train, replace(subject.runtime(), device=device)).predict(subject.mixed)


@pytest.mark.parametrize("name", [name for name in method_names() if name not in ("anomalib", "mean_image")])
def test_a_method_keeps_to_its_device(name: str, second: str) -> None:
    cls = method_class(name)
    subject = Subject(cls, presets(cls))
    found = predicted(subject, second)
    assert np.isfinite(found.scores).all()
    if name in UNTRAINED:
        expected = predicted(subject, "cpu")
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)


def test_what_is_left_out_is_left_out_on_the_device(second: str) -> None:
    cls: Any = method_class("softpatch")
    subject = Subject(cls, presets(cls))
    method = cls(**subject.parameters | SMALLER).fit(subject.train, Runtime(device=second))
    whole = method.predict(subject.seen)
    found = method.predict_without(subject.seen, [[0], [], [2], []])
    assert (found.scores != whole.scores).tolist() == [True, False, True, False]


@pytest.mark.filterwarnings(
    "ignore:for .* copying from a non-meta parameter"
)  # by its name torch takes it for no device
def test_a_training_goes_on_on_its_device(second: str, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(epoch: int, method: Method) -> None:
        raise StoppedError

    cls = method_class("uniad")
    subject = Subject(cls, presets(cls))
    runtime = Runtime(device=second, checkpoints=tmp_path, checkpoint_minutes=0)
    with pytest.raises(StoppedError):
        cls(**subject.parameters).fit(subject.train, replace(runtime, after_epoch=stop))
    found = cls(**subject.parameters).fit(subject.train, runtime).predict(subject.mixed)
    np.testing.assert_array_equal(found.scores, predicted(subject, second).scores)


def test_tensors_of_two_devices_do_not_meet(second: str) -> None:
    here, there = torch.ones(3), torch.ones(3, device=second)
    assert isinstance(there, There)
    with pytest.raises(WrongDeviceError, match="on one device"):
        there + here
    with pytest.raises((RuntimeError, TypeError)):
        np.asarray(there)
    here[:2] = there[:2] * 2
    assert (there + here.to(second) + here[0])[[0, 2]].cpu().tolist() == [5.0, 4.0]
    layer = torch.nn.Linear(3, 1).to(second)
    (gradient,) = torch.autograd.grad(layer(there).sum(), [layer.weight])
    assert gradient.cpu().tolist() == [[1.0, 1.0, 1.0]]
