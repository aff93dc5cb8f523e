"""RLR as a method: its levels, scores, settings and independence of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.learner import Shard
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import Runtime
from methods.rlr.method import RLR
from tests.methods.trained import noise_images, predicted

CHECK: dict[str, Any] = resolve(RLR, presets(RLR)["check"].parameters) | {"weights": "random"}


def _predict(threads: int, **values: Any) -> Prediction:
    return predicted(RLR, CHECK | values, threads)


def test_levels_of_the_papers_backbone() -> None:
    backbone = load_backbone("tf_efficientnet_b6", (2, 3), "random")
    maps = backbone(noise_images(1, 0, 256)[0])
    assert [level.shape for level in maps] == [(72, 32, 32), (200, 16, 16)]


def test_threads_do_not_change_a_bit() -> None:
    one, two = _predict(1), _predict(2)
    assert np.array_equal(one.maps, two.maps)
    assert np.array_equal(one.scores, two.scores)


def test_the_image_score_is_taken_from_the_smoothed_map() -> None:
    raw = _predict(1)
    assert np.allclose([gaussian_filter(each, 4.0).max() for each in raw.maps], raw.scores)
    assert (raw.scores < raw.maps.max(axis=(1, 2))).all()


@pytest.mark.parametrize(("corruption", "corrupted"), [("jitter", 64 - int(0.7 * 64)), ("zeros", int(0.3 * 64))])
def test_how_many_tokens_are_corrupted(corruption: str, corrupted: int) -> None:
    """The authors keep int((1 - p) L) tokens clean of noise, and set int(p L) to zero."""
    method = RLR(**(CHECK | {"corruption": corruption, "jitter_probability": 0.3}))
    method._device = "cpu"
    seen: list[torch.Tensor] = []

    class Copy(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            seen.append(tokens)
            return tokens

    level = np.random.RandomState(0).rand(2, 64, 5).astype(np.float32) + 1
    method._loss(Copy(), level, 1.0, Shard(np.array([0, 1]), Draws(0), Draws(1)))
    assert (seen[0] != torch.from_numpy(level)).any(dim=2).sum(dim=1).tolist() == [corrupted] * 2
    assert corruption == "jitter" or (seen[0] == 0).all(dim=2).sum(dim=1).tolist() == [corrupted] * 2


def test_counting_parameters_leaves_a_fitted_method_alone() -> None:
    method = RLR(**(CHECK | {"epochs": 1})).fit(noise_images(2, 0), Runtime())
    before = method.predict(noise_images(1, 1)).scores
    assert method.trainable_parameters((256, 256)) > method.trainable_parameters((64, 64))
    assert np.array_equal(method.predict(noise_images(1, 1)).scores, before)


def test_each_level_has_its_scale_and_its_losses() -> None:
    runtime = Runtime()
    method = RLR(**(CHECK | {"epochs": 3})).fit(noise_images(8, 0), runtime)
    assert len(set(method.scales_)) == 2
    losses = runtime.notes["losses"]["train"]
    assert sorted(losses) == ["level1", "level2"]
    assert all(len(epochs) == 3 and epochs[-1] < epochs[0] for epochs in losses.values())


def test_levels_are_trained_independently() -> None:
    """The first level's weights do not depend on whether there is a second."""
    both = RLR(**CHECK).fit(noise_images(5, 0), Runtime())
    one = RLR(**(CHECK | {"layers": (1,), "windows": (5,)})).fit(noise_images(5, 0), Runtime())
    for name, tensor in one.networks_[0].state_dict().items():
        assert torch.equal(both.networks_[0].state_dict()[name], tensor)


def test_windows_fit_the_levels(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="Give one a level"):
        RLR(**(CHECK | {"windows": (5,)})).fit(noise_images(4, 0), Runtime())
    with pytest.raises(SpecError, match="8x8"):
        RLR(**(CHECK | {"windows": ()})).fit(noise_images(4, 0), Runtime())
    method = RLR(**CHECK).fit(noise_images(4, 0), Runtime(seed=7))
    with pytest.raises(SpecError, match="as in training"):
        method.predict(noise_images(1, 0, 128))
    method.save(tmp_path)
    loaded = RLR.load(tmp_path)
    assert (loaded.seed_, loaded.grids_, loaded.scales_) == (7, method.grids_, method.scales_)


def test_presets_follow_the_split() -> None:
    for split in ("mvtec_step100", "visa_exp200", "dagm_exp50"):
        preset = choose_preset(RLR, None, split)
        assert (preset.name, preset.protocol) == ("paper", "rlr")
    assert resolve(RLR, presets(RLR)["paper"].parameters) == resolve(RLR)
