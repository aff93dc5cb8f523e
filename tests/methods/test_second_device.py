"""Every method keeps to its device: whatever it sends there, it meets nothing that was left on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.method import Method, Runtime
from tests.methods.small import NAMES, SMALLER, UNTRAINED, predicted, subject_of
from tests.second_device import SECOND, There, WrongDeviceError, second_device


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with second_device(monkeypatch, batch=3):
        yield SECOND


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mean_image"])
def test_a_method_keeps_to_its_device(name: str, second: str) -> None:
    subject = subject_of(name)
    found = predicted(subject, second)
    assert np.isfinite(found.scores).all()
    if name in UNTRAINED:
        expected = predicted(subject, "cpu")
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)


def test_what_is_left_out_is_left_out_on_the_device(second: str) -> None:
    subject = subject_of("softpatch")
    method: Any = subject.method(**subject.parameters | SMALLER).fit(subject.train, Runtime(device=second))
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

    subject = subject_of("uniad")
    runtime = Runtime(device=second, checkpoints=tmp_path, checkpoint_minutes=0)
    with pytest.raises(StoppedError):
        subject.method(**subject.parameters).fit(subject.train, replace(runtime, after_epoch=stop))
    found = subject.method(**subject.parameters).fit(subject.train, runtime).predict(subject.mixed)
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
