"""UniAD's scores, settings and features; its network is tested with the blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.tokens import aligned
from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.learner import Shard
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import Runtime
from methods.uniad.method import UniAD, score_grid, token_distances
from tests.methods.parity import parity
from tests.methods.reference import needs_shared
from tests.methods.trained import noise_images, predicted

CHECK: dict[str, Any] = resolve(UniAD, presets(UniAD)["check"].parameters) | {"weights": "random"}
GRID, SIZE = (14, 14), (224, 224)


def _predict(threads: int, **values: Any) -> Prediction:
    return predicted(UniAD, CHECK | values, threads)


def _score(distance: np.ndarray, image_score: str = "pooled_max") -> tuple[float, np.ndarray]:
    """Return the score and map of tokens of one channel that lie `distance` from what was rebuilt."""
    rebuilt = torch.tensor(distance, dtype=torch.float32).view(1, -1, 1)
    return score_grid(token_distances(rebuilt, torch.zeros_like(rebuilt), GRID)[0].numpy(), SIZE, image_score, 16)


def test_parameters_of_the_paper() -> None:
    assert UniAD().trainable_parameters((224, 224)) == 7_717_392


def test_levels_of_the_papers_backbone() -> None:
    """Channels and sides of `tf_efficientnet_b4` at 224 pixels, and the tokens made of them."""
    backbone = load_backbone("tf_efficientnet_b4", (0, 1, 2, 3), "random")
    maps = backbone(noise_images(1, 0, 224)[0])
    assert [level.shape for level in maps] == [(24, 112, 112), (32, 56, 56), (56, 28, 28), (160, 14, 14)]
    assert aligned(maps, GRID)[0].shape == (196, 272)
    assert aligned(backbone(noise_images(1, 0, 256)[0]), (16, 16))[0].shape == (256, 272), "ADer's"


def test_counting_parameters_leaves_a_fitted_method_alone() -> None:
    method = UniAD(**(CHECK | {"epochs": 1})).fit(noise_images(2, 0), Runtime())
    before = method.predict(noise_images(1, 1)).scores
    assert method.trainable_parameters((256, 256)) > method.trainable_parameters((64, 64))
    assert np.array_equal(method.predict(noise_images(1, 1)).scores, before)


def test_a_pool_larger_than_the_image_is_refused_before_training() -> None:
    with pytest.raises(SpecError, match="pool_side of at most 64"):
        UniAD(**(CHECK | {"pool_side": 65})).fit(noise_images(2, 0), Runtime())
    UniAD(**(CHECK | {"pool_side": 65, "image_score": "mean", "epochs": 1})).fit(noise_images(2, 0), Runtime())


class _Copy(torch.nn.Module):
    """A network that rebuilds whatever it is shown."""

    def forward(self, tokens: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Return the tokens."""
        return tokens


@pytest.mark.parametrize(("probability", "noisy"), [(0.0, 0), (0.3, 300), (1.0, 1000)])
def test_one_draw_a_step_decides_on_noise(probability: float, noisy: int) -> None:
    """The loss of a network that copies is zero without noise; shards of one step agree."""
    method = UniAD(**(CHECK | {"jitter_probability": probability}))
    method._device, method.scale_, method.network_ = "cpu", 1.0, _Copy()  # type: ignore[assignment]
    tokens = np.ones((2, 4, 3), np.float32)
    shards = [[Shard(np.array([image]), Draws(step, image), Draws(step)) for image in (0, 1)] for step in range(1000)]
    losses = [[method._loss(tokens, shard).item() > 0 for shard in step] for step in shards]
    assert all(one == other for one, other in losses)
    assert sum(one for one, _ in losses) == pytest.approx(noisy, abs=60)


def test_a_constant_map() -> None:
    score, anomaly_map = _score(np.full(GRID, 0.7))
    assert score == pytest.approx(0.7, abs=1e-5)
    assert np.allclose(anomaly_map, 0.7)


def test_one_token_stands_out_at_its_corner_aligned_place() -> None:
    distance = np.zeros(GRID)
    distance[0, 13] = 3.0
    _, anomaly_map = _score(distance)
    assert anomaly_map.shape == SIZE
    assert anomaly_map[0, 223] == pytest.approx(3.0)
    assert anomaly_map.max() == pytest.approx(distance.max())
    assert anomaly_map[100, 50] == 0


def test_the_distance_is_euclidean() -> None:
    rebuilt, clean = torch.randn(2, 1, 196, 5, generator=torch.Generator().manual_seed(0))
    _, anomaly_map = score_grid(token_distances(rebuilt, clean, GRID)[0].numpy(), SIZE, "mean", 16)
    assert anomaly_map[0, 0] == pytest.approx(torch.linalg.vector_norm(rebuilt[0, 0] - clean[0, 0]).item(), rel=1e-5)
    assert score_grid(token_distances(clean, clean, GRID)[0].numpy(), SIZE, "pooled_max", 16)[1].max() == 0


def test_a_spike_counts_by_the_area_of_the_pool() -> None:
    grid = np.zeros(SIZE)
    grid[100, 100] = 2.56
    spike = torch.tensor(grid, dtype=torch.float32).view(1, -1, 1)
    score, _ = score_grid(token_distances(spike, torch.zeros_like(spike), SIZE)[0].numpy(), SIZE, "pooled_max", 16)
    assert score == pytest.approx(2.56 / 256, rel=1e-5)


def test_other_image_scores() -> None:
    distance = np.random.RandomState(0).rand(*GRID)
    for name in ("mean", "std"):
        score, anomaly_map = _score(distance, name)
        assert score == pytest.approx(getattr(anomaly_map, name)(), rel=1e-6)


def test_threads_do_not_change_a_bit() -> None:
    one, two = _predict(1), _predict(2)
    assert np.array_equal(one.maps, two.maps)
    assert np.array_equal(one.scores, two.scores)


def test_features_are_divided_by_their_root_mean_square() -> None:
    train = noise_images(6, 0)
    method = UniAD(**CHECK).fit(train, Runtime())
    squares = [np.square(tokens[0].astype(np.float64)).mean() for tokens in method._extractor.extract(train)]
    assert method.scale_ == pytest.approx(np.sqrt(np.mean(squares)))
    assert UniAD(**(CHECK | {"normalise": False})).fit(train, Runtime()).scale_ == 1.0


def test_the_backbone_is_left_as_it_was() -> None:
    method = UniAD(**CHECK)
    method.fit(noise_images(4, 0), Runtime())
    network = method._extractor.backbone._network
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())
    fresh = load_backbone(CHECK["backbone"], CHECK["layers"], "random")._network.state_dict()
    assert all(torch.equal(fresh[name], tensor) for name, tensor in network.state_dict().items())


def test_the_loss_falls() -> None:
    runtime = Runtime()
    UniAD(**(CHECK | {"epochs": 6, "dropout": 0.0})).fit(noise_images(8, 0), runtime)
    losses = runtime.notes["losses"]["train"]["uniad"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_another_size_than_in_training_is_refused(tmp_path: Path) -> None:
    method = UniAD(**CHECK).fit(noise_images(4, 0), Runtime(seed=7))
    with pytest.raises(SpecError, match="as in training"):
        method.predict(noise_images(1, 0, 128))
    with pytest.raises(SpecError, match="8 divides"):
        method.predict(noise_images(1, 0, 60))
    method.save(tmp_path)
    assert UniAD.load(tmp_path).seed_ == 7


def test_presets_follow_the_split() -> None:
    for split in ("mvtec_step100", "visa_exp200", "dagm_exp50"):
        preset = choose_preset(UniAD, None, split)
        assert (preset.name, preset.protocol) == ("paper", "ltad")
    assert choose_preset(UniAD, None, "parts_step20").name == "defaults"
    assert resolve(UniAD, presets(UniAD)["paper"].parameters) == resolve(UniAD)


@needs_shared
def test_the_authors_map_and_image_score() -> None:
    wanted = parity("uniad_small_c192_real", "tensors")
    clean, rebuilt = (wanted[name].flatten(2).transpose(1, 2) for name in ("input", "feature_rec"))
    score, anomaly_map = score_grid(token_distances(rebuilt, clean, GRID)[0].numpy(), SIZE, "pooled_max", 16)
    assert np.abs(anomaly_map - wanted["pred"][0, 0].numpy()).max() < 1e-4
    assert score == pytest.approx(wanted["image_score"].item(), rel=1e-5)
    assert anomaly_map[0, 0] == pytest.approx(wanted["token_map"][0, 0, 0, 0].item(), rel=1e-5)
