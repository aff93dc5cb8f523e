"""AnomalyGPT beside the authors' code: prompts, decoder, maps, losses, updates, memory and simulated anomalies."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.ndimage import binary_dilation
from torch import Tensor

from ltbench.blocks.training.losses import dice, focal
from methods.anomalygpt import synthesis
from methods.anomalygpt.categories import SIMULATIONS, Simulation
from methods.anomalygpt.decoder import Decoder, abnormal_logits, decoded_map, layer_loss, remembered_map, similarity
from methods.anomalygpt.prompts import ensemble, sentences
from tests.methods.parity import FOLDER, OUTPUT
from tests.methods.reference import needs_shared

pytestmark = needs_shared

OWN = FOLDER / "anomalygpt"
GRID, SIZE = (16, 16), (224, 224)
CLASSES = ("cable", "carpet", "hazelnut", "bottle")


@cache
def tensors() -> dict[str, Tensor]:
    return load_file(OWN / "tensors.safetensors")


@cache
def facts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OWN / "meta.json").read_text(encoding="utf-8"))
    return found


def decoder() -> Decoder:
    found = Decoder([20] * 4, 1024, seed=0)
    weights = load_file(OWN / "weights.safetensors")
    found.load_state_dict({key.replace("decoder.", "layers."): value for key, value in weights.items()})
    return found


def tokens() -> list[Tensor]:
    return [tensors()[f"tokens.{block}"][:, 1:] for block in range(4)]


def texts() -> Tensor:
    states = [tensors()[f"text.{state}_sentences"].view(2, -1, 1024) for state in ("normal", "abnormal")]
    return torch.stack([ensemble(own) for own in states], dim=1)


def near(found: Tensor, wanted: Tensor, tolerance: float = OUTPUT) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < tolerance


def test_prompts() -> None:
    normal, abnormal = sentences("metal_nut")
    assert [len(normal), len(abnormal)] == [facts()["prompts"][f"{kind} per class"] for kind in ("normal", "abnormal")]
    assert normal[1] == "a photo of the metal nut."
    assert abnormal[-2] == "a photo of a metal nut with damage."
    near(texts(), tensors()["text.features"])


def test_decoder_and_maps() -> None:
    with torch.no_grad():
        decoded = decoder()(tokens())
        near(decoded[0][:, :8], tensors()["decoded.0"])
        near(decoded[3][:, -8:], tensors()["decoded.3"])
        for block, own in enumerate(decoded):
            logits = abnormal_logits(own, texts(), GRID, SIZE)
            near(torch.sigmoid(logits)[:, ::7, ::7], tensors()[f"map.layer{block}"])
        maps = decoded_map(decoded, texts(), [GRID] * 4, SIZE)
    near(maps[:, None, ::7, ::7], tensors()["map.mean"])
    near(maps.amax(dim=(1, 2)), tensors()["map.image_score"])


def test_losses_and_three_updates() -> None:
    masks = (tensors()["mask.soft"][:, 0].float() / 255 > 0.3).float()
    assert masks.mean().item() == pytest.approx(facts()["losses"]["share of mask pixels above 0.3"])
    network = decoder()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-3)

    def losses() -> list[Tensor]:
        return [layer_loss(abnormal_logits(own, texts(), GRID, SIZE), masks) for own in network(tokens())]

    wanted = facts()["losses"]
    parts = [a + b for a, b in zip(wanted["focal per layer"], wanted["dice per layer"], strict=True)]
    assert [loss.item() for loss in losses()] == pytest.approx(parts, abs=OUTPUT)
    totals = next(value for key, value in facts().items() if key.startswith("total_loss_by_update"))
    for update, total in enumerate(totals):
        loss = torch.stack(losses()).sum()
        assert loss.item() == pytest.approx(total, abs=OUTPUT)
        if update == 3:
            break
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        if update == 0:
            assert norm.item() == pytest.approx(facts()["gradient norm before clipping"], rel=OUTPUT)
        optimiser.step()
    state = network.state_dict()
    near(state["layers.0.weight"][:16], tensors()["decoder.0.weight_after_3"])
    near(state["layers.3.bias"], tensors()["decoder.3.bias_after_3"])


def test_both_losses_on_plain_inputs() -> None:
    probabilities, mask = tensors()["loss.probabilities"], tensors()["loss.mask"][:, 0]
    assert focal(probabilities, mask).item() == pytest.approx(facts()["plain"]["focal"], abs=1e-5)
    assert dice(probabilities[:, 1], mask).item() == pytest.approx(facts()["plain"]["dice"], abs=1e-5)


def test_memory_of_normal_images() -> None:
    found = tensors()
    queries = [found[f"memory.query_coefficients{block}"] @ found[f"memory.basis{block}"] for block in range(4)]
    memory = [
        torch.nn.functional.normalize(
            (found[f"memory.normal_coefficients{block}"] @ found[f"memory.basis{block}"]).flatten(0, 1), dim=-1
        )
        for block in range(4)
    ]
    for block, (query, kept) in enumerate(zip(queries, memory, strict=True)):
        near(similarity(query, kept), found["memory.similarity_per_layer"][block])
    (map_,) = remembered_map([query[None] for query in queries], memory, [GRID] * 4, SIZE)
    near(map_[::7, ::7], found["memory.map"].view(32, 32))
    assert map_.max().item() == pytest.approx(facts()["memory image score"], abs=OUTPUT)


class Replay:
    """A generator that gives the authors' draws, and fails where another one is asked for."""

    def __init__(self, draws: list[tuple[str, list[float], float]]) -> None:
        self.draws = list(draws)

    def gamma(self, shape: float, scale: float) -> float:
        return self._next("gamma", shape, scale)

    def normal(self, mean: float, deviation: float) -> float:
        return self._next("normal", mean, deviation)

    def integers(self, *bounds: int) -> int:
        return int(self._next("randint", *bounds))

    def _next(self, *asked: Any) -> float:
        kind, arguments, value = self.draws.pop(0)
        assert (kind, *arguments) == asked
        return value


def pixels(category: str, name: str) -> synthesis.Pixels:
    found: synthesis.Pixels = tensors()[f"synthesis.{category}.{name}"].numpy()
    return found


def replay(category: str) -> Any:
    (own,) = [entry for entry in facts()["synthesis"] if entry["class"] == category]
    return Replay(own["draws_in_order"])


def pieces(category: str, how: Simulation, rng: Any) -> list[synthesis.Piece]:
    """Return both pieces of an image, of which each has two."""
    objects = tuple(synthesis.object_of(pixels(category, name), how) for name in ("image", "source"))
    found = []
    for number in range(2):
        if number:
            rng.integers(2)
        piece = synthesis.cut(pixels(category, "source"), (objects[0], objects[1]), how, rng)
        assert piece is not None
        found.append(piece)
    assert not rng.draws
    return found


@pytest.mark.parametrize("category", CLASSES)
def test_simulated_anomalies(category: str) -> None:
    """Within one grey level of the authors' OpenCV, draw by draw."""
    how, rng = SIMULATIONS[category], replay(category)
    found = synthesis.altered(pixels(category, "image"), pixels(category, "source"), how, rng)
    assert not rng.draws
    difference = np.abs(found.pixels.astype(int) - pixels(category, "poisson"))
    assert difference.max() <= 1
    assert difference.any(axis=2).mean() < 0.1
    binary = pixels(category, "label_binary").squeeze() > 0
    assert ((found.label > 0) != binary).sum() <= 8, "of more than a thousand; a grey level decides some"


@pytest.mark.parametrize("category", CLASSES)
def test_pieces_lie_where_the_authors_do(category: str) -> None:
    how = SIMULATIONS[category]
    (own,) = [entry for entry in facts()["synthesis"] if entry["class"] == category]
    image = pixels(category, "image").copy()
    for piece, blend in zip(pieces(category, how, replay(category)), own["blend"], strict=True):
        height, width = piece.region.shape
        assert [height, width] == blend["source_rows_columns"]
        assert (height - 2) * (width - 2) == blend["mask_pixels"]
        rows, columns = piece.box
        assert [columns.stop - width // 2, rows.start + height // 2] == blend["centre_column_row"]
        image[piece.box][piece.region] = piece.pixels[piece.region]
    difference = np.abs(image.astype(int) - pixels(category, "swap"))
    assert (difference.max(axis=2) > 1).sum() <= (2 if how.background else 0)


@pytest.mark.parametrize("category", CLASSES)
def test_labels_of_the_authors_images(category: str) -> None:
    how = SIMULATIONS[category]
    region = np.zeros(SIZE, np.bool_)
    for piece in pieces(category, how, replay(category)):
        region[piece.box] = piece.region
    found = synthesis.soft_label(pixels(category, "image"), pixels(category, "poisson"), region, how)
    wanted = pixels(category, "label_soft").squeeze()
    differs = (found > 0) != (pixels(category, "label_binary").squeeze() > 0)
    assert differs.sum() <= 1, "fixed-point rounding of one object mask"
    seen = ~binary_dilation(differs, np.ones((3, 3), np.bool_), iterations=8)
    assert np.abs(found - wanted)[seen].max() < 1e-6
