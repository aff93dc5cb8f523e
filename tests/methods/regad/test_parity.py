"""RegAD beside the authors' code: transformers, heads, features, augmentation, statistics, the whole score."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from ltbench.blocks.maps import upsample_and_smooth
from methods.regad.augmentation import VERSIONS, versions
from methods.regad.gaussians import PlaceGaussians
from methods.regad.net import Registration, similarity
from methods.regad.transformers import Mode, SpatialTransformer, inverse, matrices, resampled
from tests.methods.parity import FOLDER, parity
from tests.methods.recipe import recipe_weights
from tests.methods.reference import needs_shared

pytestmark = needs_shared
MODES: tuple[Mode, ...] = get_args(Mode)
HEADS = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "conv3": "6"}
"""The authors' names inside encoder and predictor."""


def _head(name: str) -> str:
    return ".".join(HEADS.get(part, part) for part in name.split("."))


def _name(name: str) -> str:
    """Return our name of one of the authors' tensors."""
    if name.startswith(("encoder", "predictor")):
        return _head(name)
    if match := re.match(r"stn(\d)\.(.*)", name):
        return f"transformers.{int(match[1]) - 1}.{match[2]}"
    if match := re.match(r"layer(\d)\.(.*)", name):
        return f"stages.{int(match[1]) - 1}.{'4.' if match[1] == '1' else ''}{match[2]}"
    return {"conv1": "stages.0.0", "bn1": "stages.0.1"}[name.split(".")[0]] + "." + name.split(".")[1]


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "regad" / "extra.meta.json").read_text())
    return found


@pytest.fixture(scope="module")
def wanted() -> dict[str, Tensor]:
    return parity("regad/extra.tensors", "final")


@pytest.fixture
def network(meta: dict[str, Any]) -> Registration:
    found = Registration("resnet18", (224, 224), "rotation_scale", frozen=False, seed=0)
    weights = recipe_weights(meta["recipe"]["names_and_shapes_in_order"])
    own = {_name(name): tensor for name, tensor in weights.items() if "encoder.bn3" not in name}
    left = found.load_state_dict(own, strict=False)
    assert not left.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in left.missing_keys)
    return found.eval()


@pytest.fixture(scope="module")
def images(wanted: dict[str, Tensor]) -> Tensor:
    return wanted["images_uint8"].permute(0, 3, 1, 2) / 255


def _near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < tolerance


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode: Mode, wanted: dict[str, Tensor], meta: dict[str, Any]) -> None:
    theta = matrices(torch.tensor(meta["modes"][mode]), mode)
    _near(theta, wanted[f"modes.{mode}.theta"], 1e-6)
    _near(resampled(wanted["modes.input"], theta), wanted[f"modes.{mode}.output"], 1e-4)


@pytest.mark.parametrize("mode", ["rotation_scale", "affine"])
def test_a_transformer_and_its_inverse(mode: Mode) -> None:
    transformer = SpatialTransformer(12, (14, 14), mode).eval()
    weights = parity("regad/weights", "final")
    own = {name.removeprefix(f"{mode}."): t for name, t in weights.items() if name.startswith(f"{mode}.")}
    transformer.load_state_dict(own, strict=False)
    expected = parity("regad/tensors", "final")
    with torch.no_grad():
        moved, theta = transformer(expected[f"{mode}.input"])
        _near(theta, expected[f"{mode}.theta"], 1e-5)
        _near(moved, expected[f"{mode}.output"], 1e-4)
        _near(resampled(moved, inverse(theta)), expected[f"{mode}.undone"], 1e-4)


def test_heads_and_loss() -> None:
    network = Registration("resnet18", (64, 64), "rotation", frozen=False, seed=0).train()
    weights = {name: t for name, t in parity("regad/weights", "final").items() if "encoder.bn3" not in name}
    for part in ("encoder", "predictor"):
        own = {_head(name.removeprefix(f"{part}.")): t for name, t in weights.items() if name.startswith(f"{part}.")}
        getattr(network, part).load_state_dict(own, strict=False)
    expected = parity("regad/tensors", "final")
    losses = json.loads((FOLDER / "regad" / "meta.json").read_text())
    with torch.no_grad():
        query, support = (network.encoder(expected[f"siamese.{side}"]) for side in ("query", "support"))
        predicted = [network.predictor(side) for side in (query, support)]
    _near(query, expected["siamese.z_query"], 1e-4)
    _near(predicted[0], expected["siamese.p_query"], 1e-4)
    one, other = -similarity(predicted[0], support), -similarity(predicted[1], query)
    assert one.item() == pytest.approx(losses["cosine_loss(p_query, z_support)"], abs=1e-4)
    assert ((one + other) / 2).item() == pytest.approx(losses["symmetric loss / 2"], abs=1e-4)


def test_features(network: Registration, images: Tensor, wanted: dict[str, Tensor]) -> None:
    with torch.no_grad():
        maps, thetas = network.registered(images[2:4])
        features = network.features(images[2:4])
    for stage in (1, 2, 3):
        _near(thetas[stage - 1], wanted[f"eval.theta{stage}"], 1e-5)
        _near(maps[stage - 1][:, :8, ::2, ::2], wanted[f"eval.stage{stage}"], 1e-3)
    starts = {1: (0, 2), 2: (64, 4), 3: (192, 8)}
    for stage, (channel, step) in starts.items():
        _near(features[:, channel : channel + 8, ::step, ::step], wanted[f"eval.u{stage}"], 1e-3)


def test_features_in_training(network: Registration, images: Tensor, wanted: dict[str, Tensor]) -> None:
    network.for_training()
    with torch.no_grad():
        maps, thetas = network.registered(images[2:5])
    for stage in (1, 2, 3):
        _near(thetas[stage - 1], wanted[f"train.theta{stage}"], 1e-5)
    _near(maps[2][:, :16], wanted["train.features"], 1e-3)


@pytest.mark.slow
def test_three_updates(network: Registration, images: Tensor, meta: dict[str, Any]) -> None:
    """The third loss is compared within 5 %: near the identity the gradient of the sampling jumps."""
    training = meta["training"]
    supports = images[torch.tensor(training["supports of each (K=2)"])]
    optimiser = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9)
    network.for_training()
    names = {_name(name): norm for name, norm in meta["gradient norms at the first update"].items()}
    for step, (expected, tolerance) in enumerate(
        zip(training["loss before each of 3 updates"], (1e-5, 1e-4, 1e-3), strict=True)
    ):
        optimiser.zero_grad()
        loss = network.loss(images[training["queries"]], supports)
        assert loss.item() == pytest.approx(expected, abs=tolerance)
        loss.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            for name, parameter in network.named_parameters():
                if name in names:
                    assert parameter.grad is not None
                    assert parameter.grad.norm().item() == pytest.approx(names[name], rel=0.02), name
        optimiser.step()


def test_augmentation(wanted: dict[str, Tensor]) -> None:
    found = torch.cat(list(versions(wanted["augment.image"])))
    assert len(found) == VERSIONS
    _near(found, wanted["augment.all"], 1e-5)


def test_a_small_gaussian(wanted: dict[str, Tensor]) -> None:
    gaussians = PlaceGaussians.fit(wanted["small.samples"][:, None])
    found = gaussians.distances(wanted["small.query"][:, None])[:, 0]
    assert found.numpy() == pytest.approx(wanted["small.distance"].numpy(), rel=1e-4)


@pytest.mark.slow
def test_statistics_and_the_whole_score(network: Registration, images: Tensor, wanted: dict[str, Tensor]) -> None:
    with torch.no_grad():
        shown = torch.cat(list(versions(images[:2])))
        samples = torch.cat([network.features(part) for part in torch.split(shown, 11)]).flatten(2).transpose(1, 2)
        queries = network.features(images[2:4]).flatten(2).transpose(1, 2)
    for place in (0, 777, 1600, 3135):
        own = samples[:, place]
        _near(own[:, ::4], wanted[f"gauss.{place}.samples"], 1e-3)
        _near(own.mean(dim=0), wanted[f"gauss.{place}.mean"], 1e-3)
        covariance = torch.cov(own.T.double()) + 0.01 * torch.eye(448)
        _near(covariance[:12, :12].float(), wanted[f"gauss.{place}.covariance_corner"], 1e-2)
    gaussians = PlaceGaussians.fit(samples)
    for number in range(2):
        grid = gaussians.distances(queries[number][None]).numpy().reshape(56, 56)
        found = upsample_and_smooth(grid, (224, 224), 4.0)
        assert found[::4, ::4] == pytest.approx(wanted["score.map_smoothed"][number].numpy(), rel=1e-4)
        assert found.max() == pytest.approx(wanted["score.image_score_raw"][number].item(), rel=1e-4)


def test_parameters_and_rates(meta: dict[str, Any]) -> None:
    """512 fewer than the authors', whose encoder declares a third batch norm and does not use it."""
    network = Registration("resnet18", (224, 224), "rotation_scale", frozen=False, seed=0)
    features = sum(one.numel() for part in (network.stages, network.transformers) for one in part.parameters())
    assert features == meta["parameters"]["feature net"]
    assert sum(one.numel() for one in network.encoder.parameters()) == meta["parameters"]["encoder"] - 512
    assert sum(one.numel() for one in network.predictor.parameters()) == meta["parameters"]["predictor"]
    from ltbench.blocks.training.rates import EpochCosine

    rates = [1e-4 * EpochCosine().factor(epoch * 7, 7, 350) for epoch in (0, 24, 49)]
    assert rates == pytest.approx(meta["learning rate of epochs 1, 25, 50"], abs=1e-12)
    assert np.isclose(rates[2], 0)
