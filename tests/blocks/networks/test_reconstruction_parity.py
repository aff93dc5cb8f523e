"""UniAD's network beside the authors' module: the same weights and input, the same intermediates, loss and step."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ltbench.blocks.networks.reconstruction import Reconstruction
from tests.methods.parity import FOLDER, OUTPUT, STEP, UNIAD_NAMES, parity, renamed
from tests.methods.reference import needs_shared

pytestmark = needs_shared
NAME = "uniad_small_c192_real"


@pytest.fixture
def wanted() -> dict[str, Tensor]:
    return parity(NAME, "tensors")


@pytest.fixture
def network() -> Any:
    made = Reconstruction(192, (14, 14), width=128, layers=2, heads=8, ffn_width=512)
    made.load_state_dict(renamed(parity(NAME, "weights"), *UNIAD_NAMES))
    return made


def _near(found: Tensor, wanted: Tensor, tolerance: float = OUTPUT) -> None:
    if wanted.ndim == 3:
        wanted = wanted.transpose(0, 1)  # (L, B, C)
    if wanted.ndim == 4:
        wanted = wanted.flatten(2).transpose(1, 2)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < tolerance


def test_mask_and_positions(network: Any, wanted: dict[str, Tensor]) -> None:
    assert torch.equal(network.mask, wanted["neighbour_mask"])
    assert torch.equal(network.position(), wanted["pos_embed"])


def test_every_intermediate(network: Any, wanted: dict[str, Tensor]) -> None:
    tokens = wanted["input"].flatten(2).transpose(1, 2)
    position, mask = network.position(), network.mask
    x = network.input(tokens)
    _near(x, wanted["input_proj"])
    _near(network.encoder[0].attention(x + position, x + position, x, mask), wanted["encoder.layer0.attn"])
    for number, layer in enumerate(network.encoder):
        x = layer(x, position, mask, None)
        _near(x, wanted[f"encoder.layer{number}"])
    first, memory = network.decoder[0], x
    queries = first.queries[None]
    gathered = first.memory_attention(queries + position, memory + position, memory, mask)
    _near(gathered, wanted["decoder.layer0.attn1"])
    middle = first.norm1(queries + gathered)
    _near(first.output_attention(middle + position, memory + position, memory, mask), wanted["decoder.layer0.attn2"])
    for number, layer in enumerate(network.decoder):
        x = layer(x, memory, position, mask, None)
        _near(x, wanted[f"decoder.layer{number}"])
    _near(network.norm(x), wanted["decoder.norm"])
    _near(network(tokens), wanted["feature_rec"])


def test_loss_gradients_and_a_step(network: Any, wanted: dict[str, Tensor]) -> None:
    tokens = wanted["input"].flatten(2).transpose(1, 2)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-4)
    loss = nn.functional.mse_loss(network(tokens), tokens)
    assert abs(loss.item() - wanted["loss"].item()) < OUTPUT
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient
    norms = json.loads((FOLDER / "meta.json").read_text(encoding="utf-8"))[NAME]["grad_norms"]
    by_name = dict(network.named_parameters())
    for name, norm in renamed({name: torch.tensor(norm) for name, norm in norms.items()}, *UNIAD_NAMES).items():
        gradient = by_name[name].grad
        assert gradient is not None
        assert torch.isclose(gradient.norm(), norm, rtol=1e-3, atol=1e-5), name
    nn.utils.clip_grad_norm_(network.parameters(), 0.1)
    optimiser.step()
    _near(network(tokens), wanted["feature_rec_after_one_step"], STEP)
