"""HVQ-Trans as a method: privileges, categories, the live backbone, threads, an interruption by a kill, the score."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.features.tokens import aligned
from ltbench.blocks.training.draws import Draws
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError, SpecError
from ltbench.method import Runtime
from methods.hvqtrans.live import DropConnect, LiveBackbone
from methods.hvqtrans.method import HVQTrans, map_and_score
from tests.methods.hvqtrans.training_run import CHECK, images, trained

SCRIPT = Path(__file__).with_name("training_run.py")


def _state(method: HVQTrans) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.network_.state_dict().items()}


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def _same(one: Prediction, other: Prediction) -> bool:
    return np.array_equal(one.maps, other.maps) and np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize("statistics", ["eval", "train"])
def test_threads_do_not_change_a_bit(statistics: str) -> None:
    """Shards of two images take turns at the quantisers, however many threads there are."""
    usual, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            method = trained(Runtime(seed=3), backbone_statistics=statistics, epochs=2)
            found.append((_state(method), method.predict(images(3, 1))))
    finally:
        torch.set_num_threads(usual)
    assert all(_equal(found[0][0], state) and _same(found[0][1], prediction) for state, prediction in found[1:])


@pytest.mark.parametrize("statistics", ["eval", pytest.param("train", marks=pytest.mark.slow)])
def test_kill_and_run_again(tmp_path: Path, statistics: str) -> None:
    """A process killed (-9) between checkpoints goes on: the same weights, codebooks and statistics, bit for bit."""
    rng = random.Random(0)
    root = str(Path(__file__).resolve().parents[3])
    command = [sys.executable, str(SCRIPT), str(tmp_path), statistics]
    env = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "2"}
    file = tmp_path / "checkpoints" / "train.safetensors"
    process = subprocess.Popen(command, env=env)
    while process.poll() is None and not file.exists():
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.02))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "killed on the way"
    assert not list((tmp_path / "result").iterdir())
    subprocess.run(command, env=env, check=True)
    whole = tmp_path / "whole"
    whole.mkdir()
    trained(Runtime(seed=3), backbone_statistics=statistics).save(whole)
    resumed, expected = (load_file(folder / "state.safetensors") for folder in (tmp_path / "result", whole))
    assert {"network.lower.codes", "network.top.counts"} <= expected.keys()
    assert _equal(resumed, expected)


def test_privileges_follow_the_categories() -> None:
    told = {name: HVQTrans(categories=name).run_info for name in ("given", "nearest", "one")}
    assert HVQTrans.info.uses_categories
    asked = {name: (info.uses_categories, info.uses_training_categories) for name, info in told.items()}
    assert asked == {"given": (True, False), "nearest": (False, True), "one": (False, False)}


def test_one_set_of_codebooks_asks_for_no_category() -> None:
    unlabelled = ArrayImages(images(6, 0).images)
    with pytest.raises(ContractError):
        _ = unlabelled.categories
    method = HVQTrans(**(CHECK | {"categories": "one"})).fit(unlabelled, Runtime())
    assert len(method.network_.heads) == 1
    method.predict(unlabelled).check(6, (64, 64))


def test_guessed_categories() -> None:
    """The categories differ by brightness, so that guesses are right and give the scores of being told."""
    given = trained(Runtime())
    guessed = trained(Runtime(), categories="nearest")
    test = images(6, 1)
    assert _same(given.predict(test), guessed.predict(ArrayImages(test.images)))
    swapped = ArrayImages(test.images, ["c", "a", "b"] * 2)
    assert not _same(given.predict(test), given.predict(swapped)), "labels are used where they are given"


def test_an_unknown_category_is_an_error() -> None:
    method = trained(Runtime(), epochs=1)
    with pytest.raises(SpecError, match=r"got 'd', which has no codebooks\. .*categories=nearest"):
        method.predict(images(4, 1, names="abcd"))
    trained(Runtime(), epochs=1, categories="nearest").predict(ArrayImages(images(4, 1, names="abcd").images))


def test_settings_that_do_not_fit_are_refused_before_training() -> None:
    with pytest.raises(SpecError, match="pool_side of at most 64"):
        trained(Runtime(), pool_side=65)
    with pytest.raises(SpecError, match="backbone_statistics=train"):
        trained(Runtime(), categories="nearest", backbone_statistics="train")
    with pytest.raises(SpecError, match="batch normalisation"):
        trained(Runtime(), backbone="convnext_atto", backbone_statistics="train")
    method = trained(Runtime(), epochs=1)
    with pytest.raises(SpecError, match="as in training"):
        method.predict(images(1, 0, 128))


@pytest.mark.parametrize("start", ["normal", "tokens", "kmeans"])
def test_the_loss_falls_from_a_start_by_tokens(start: str) -> None:
    runtime = Runtime()
    trained(runtime, codebook_start=start, epochs=6, dropout=0.0)
    losses = runtime.notes["losses"]["train"]["hvqtrans"]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    assert start == "normal" or losses[-1] < losses[0], "codes from N(0, 1) collapse before they spread"


def test_a_map_without_prototype_scores() -> None:
    """Without them a map is the distance alone; they add at most twice their weight, and do not touch training."""
    plain, scored = trained(Runtime(), ot_weight=0.0), trained(Runtime(), ot_weight=3.0)
    assert _equal(_state(plain), _state(scored))
    difference = scored.predict(images(3, 1)).maps - plain.predict(images(3, 1)).maps
    assert difference.min() >= -1e-4
    assert 0 < difference.max() <= 6 + 1e-4


def test_distances_are_in_the_units_of_the_features() -> None:
    """Whatever features are divided by, so that the prototype score weighs the same with and without `normalise`."""
    method = trained(Runtime(), ot_weight=0.0, epochs=1)
    tokens = torch.from_numpy(np.random.RandomState(0).randn(1, 64, 64).astype(np.float32))
    with torch.inference_mode():
        (differences,) = method._differences(0, [tokens])
        method.scale_ *= 2
        (doubled,) = method._differences(0, [2 * tokens])
    assert torch.allclose(doubled, 2 * differences, rtol=1e-5)


def test_a_constant_map_and_a_spike() -> None:
    score, anomaly_map = map_and_score(np.full((14, 14), 0.7, np.float32), (224, 224), 16)
    assert score == pytest.approx(0.7, abs=1e-5)
    assert np.allclose(anomaly_map, 0.7)
    spike = np.zeros((224, 224), np.float32)
    spike[100, 100] = 2.56
    assert map_and_score(spike, (224, 224), 16)[0] == pytest.approx(0.01, rel=1e-5)


def test_running_statistics_drift_by_the_momentum() -> None:
    """One batch moves the first layer's running mean a hundredth of the way to the batch's; weights stay."""
    live, fresh = (load_backbone("tf_efficientnet_lite0", (1, 2), "random") for _ in range(2))
    pixels, seen = images(4, 0).images, list[Tensor]()
    handle = live.network.get_submodule("bn1").register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = LiveBackbone(live, (8, 8), 0.01, 0.2).tokens(list(pixels), Draws(0))
    handle.remove()
    assert found.shape == (4, 64, sum(live.channels))
    assert not live.network.training
    before, after = fresh.network.state_dict(), live.network.state_dict()
    expected = 0.99 * before["bn1.running_mean"] + 0.01 * seen[0].mean(dim=(0, 2, 3))
    assert torch.allclose(after["bn1.running_mean"], expected, atol=1e-6)
    names = {name for name, _ in live.network.named_parameters()}
    assert all(torch.equal(before[name], after[name]) for name in names)
    moved = [name for name in before if name.endswith("running_var") and not torch.equal(before[name], after[name])]
    assert len(moved) == sum(isinstance(module, _BatchNorm) for module in live.network.modules())


def test_a_live_backbone_without_change_gives_the_frozen_ones_tokens() -> None:
    """In evaluation mode it computes what the extractor computes: the same pixels, levels and order of channels."""
    backbone = load_backbone("tf_efficientnet_lite0", (1, 2), "random")
    live, pixels = LiveBackbone(backbone, (8, 8), 0.01, 0.0), images(2, 0).images
    live.network.train = lambda mode=True: live.network  # type: ignore[method-assign]
    found = live.tokens(list(pixels), Draws(0))
    wanted = np.stack([aligned(backbone(image), (8, 8))[0] for image in pixels])
    assert np.abs(found.numpy() - wanted).max() < 1e-4


def test_branches_are_dropped_by_the_papers_rates() -> None:
    """0.2 times the number of the block over that of all blocks (32 in EfficientNet-b4), and from the draws alone."""
    backbone = load_backbone("tf_efficientnet_b4", (0, 1, 2, 3), "random")
    LiveBackbone(backbone, (14, 14), 0.01, 0.2)
    rates = [module.probability for module in backbone.network.modules() if isinstance(module, DropConnect)]
    assert rates == pytest.approx([0.2 * block / 32 for block in range(1, 22)])
    branch, x = DropConnect(0.25), torch.ones(4000, 1, 2, 2)
    branch.draws = Draws(1)
    found = branch(x)
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(found.amax(dim=(1, 2, 3)), found.amin(dim=(1, 2, 3))), "whole images"
    assert (found[:, 0, 0, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    branch.draws = Draws(1)
    assert torch.equal(branch(x), found)
    assert torch.equal(branch.eval()(x), x)


def test_drifted_features_are_saved_and_never_stored(tmp_path: Path) -> None:
    """A run with a live backbone leaves the store as a frozen run does, and is loaded with its statistics."""
    store = DiskFeatureStore(tmp_path / "store")
    torch.rand(1)
    before = torch.get_rng_state()
    method = trained(Runtime(feature_store=store), backbone_statistics="train", statistics_momentum=0.5)
    expected = method.predict(images(3, 1))
    assert torch.equal(torch.get_rng_state(), before)
    stored = sorted(path.name for path in (tmp_path / "store").rglob("*.safetensors"))
    assert len(stored) == 3 * 11, "two levels and the tokens of the training images alone, before the drift"
    (tmp_path / "saved").mkdir()
    method.save(tmp_path / "saved")
    assert _same(HVQTrans.load(tmp_path / "saved").predict(images(3, 1)), expected)
    frozen = trained(Runtime(), statistics_momentum=0.5).predict(images(3, 1))
    assert not _same(frozen, expected)


def test_presets_follow_the_split() -> None:
    for split in ("mvtec_step100", "visa_exp200", "dagm_exp50"):
        preset = choose_preset(HVQTrans, None, split)
        assert (preset.name, preset.protocol) == ("paper", "ltad")
    for split in ("mvtec_k4_noisy10_seed1", "visa_pareto_noisy05_seed2"):
        preset = choose_preset(HVQTrans, None, split)
        assert (preset.name, preset.protocol) == ("paper_tailedcore", "tailedcore")
    assert choose_preset(HVQTrans, None, "parts_step20").name == "defaults"
    assert resolve(HVQTrans, presets(HVQTrans)["paper"].parameters) == resolve(HVQTrans)
