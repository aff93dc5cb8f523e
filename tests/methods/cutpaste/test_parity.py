"""CutPaste beside the public re-implementation: images to the bit, network, three updates, rates, density."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from ltbench.blocks.training.rates import LaggedCosine
from methods.cutpaste.density import Gaussian, fit_density, normalised
from methods.cutpaste.images import Patch, Scar, with_patch, with_scar
from methods.cutpaste.net import Classifier, classifier
from tests.methods.parity import FOLDER, parity
from tests.methods.recipe import recipe_weights
from tests.methods.reference import needs_shared

pytestmark = needs_shared
NAME = "cutpaste/"


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return parity("cutpaste/tensors", "final")


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "cutpaste" / "meta.json").read_text())
    return found


@pytest.fixture
def network(meta: dict[str, Any]) -> Classifier:
    found = classifier("resnet18", (48, 24), 3, seed=0)
    weights = recipe_weights(meta["recipe"]["names_and_shapes_in_order"])
    stored = parity("cutpaste/weights", "final")
    assert all((weights[name] - tensor).abs().max() < 1e-6 for name, tensor in stored.items())
    left = found.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in left.missing_keys)
    return found


def _same(piece: Image.Image) -> Image.Image:
    return piece


@pytest.mark.parametrize("number", range(8))
def test_images_to_the_bit(number: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    case = meta["geometry"][number]
    image, draws = tensors[case["input"]].numpy(), case["draws"]
    ends = [high for _, high in case.get("ranges_of_the_four_places", case.get("ranges_of_the_places"))]
    names = ("from_row", "from_column", "to_row", "to_column")
    shares = [draws[name] / end for name, end in zip(names, ends, strict=True)]
    source, target = (shares[0], shares[1]), (shares[2], shares[3])
    if case["kind"] == "patch":
        found = with_patch(image, Patch(draws["area_fraction"], draws["aspect"], source, target), _same)
    else:
        scar = Scar(draws["height"], draws["width"], source, draws["angle"], target)
        found = with_scar(image, scar, _same, overhang=True)
    assert np.array_equal(found, tensors[case["output"]].numpy())


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_embeddings_and_logits(mode: str, network: Classifier, tensors: dict[str, Tensor]) -> None:
    network.train(mode == "train")
    with torch.no_grad():
        embeddings = network.embed(tensors["network.input"])
        logits = network.classify(embeddings)
    assert (embeddings - tensors[f"network.{mode}.embedding"]).abs().max() < 1e-3
    assert (logits - tensors[f"network.{mode}.logits"]).abs().max() < 1e-3


def test_three_updates(network: Classifier, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    labels = torch.tensor(meta["training"]["labels"])
    optimiser = torch.optim.SGD(network.parameters(), 0.03, momentum=0.9, weight_decay=3e-5)
    network.train()
    for step, wanted in enumerate(meta["training"]["loss_of_3_updates"]):
        optimiser.param_groups[0]["lr"] = 0.03 * LaggedCosine().factor(step, 1, 8)
        optimiser.zero_grad()
        loss = F.cross_entropy(network(tensors["network.input"]), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.item() == pytest.approx(wanted, abs=1e-3)
        if step == 0:
            norms = {name: parameter.grad.norm().item() for name, parameter in network.named_parameters()}  # type: ignore[union-attr]
            for name, norm in meta["first_gradient_norms"].items():
                assert norms[name] == pytest.approx(norm, rel=1e-3)
        optimiser.step()
    assert (network.out.weight - tensors["network.out.weight_after_3"]).abs().max() < 1e-3
    assert (network.out.bias - tensors["network.out.bias_after_3"]).abs().max() < 1e-3


def test_rates(meta: dict[str, Any]) -> None:
    rates = [0.03 * LaggedCosine().factor(step, 3, 8) for step in range(8)]
    assert rates == pytest.approx(meta["training"]["lr_by_update(length 8)"], rel=1e-9)


def test_density(tensors: dict[str, Tensor]) -> None:
    train, test = (tensors[f"density.{name}"].numpy() for name in ("train", "test"))
    density = fit_density(train, "ledoit_wolf", 0.1)
    assert isinstance(density, Gaussian)
    assert density.mean == pytest.approx(tensors["density.mean"].numpy(), rel=1e-4, abs=1e-7)
    precision = tensors["density.precision"].numpy()
    assert np.abs(density.precision - precision).max() < 1e-3 * np.abs(precision).max()
    assert np.abs(np.linalg.inv(density.precision) - tensors["density.covariance"].numpy()).max() < 1e-6
    scores = [density.score(row) for row in normalised(test)]
    assert scores == pytest.approx(tensors["density.score"].numpy(), rel=1e-4)
    kernels = fit_density(train, "kde", 0.1)
    constant = train.shape[1] / 2 * np.log(2 * np.pi)
    found = [kernels.score(row) + constant for row in normalised(test)]
    assert found == pytest.approx(tensors["density.kde_score"].numpy(), rel=1e-4)


def test_parameters(meta: dict[str, Any]) -> None:
    for depth, wanted in meta["parameters"].items():
        network = classifier("resnet18", (512,) * int(depth.removeprefix("k=")) + (128,), 3, seed=0)
        parts = (network.trunk, network.head, network.out)
        assert [sum(one.numel() for one in part.parameters()) for part in parts] == list(wanted.values())
