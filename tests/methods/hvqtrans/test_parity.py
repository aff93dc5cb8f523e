"""HVQ-Trans beside the authors' module: the same weights and input, the same codes, loss, step and map."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from methods.hvqtrans.net import HVQNetwork, NetworkSettings, Quantised
from tests.methods.parity import FOLDER, OUTPUT, STEP, renamed
from tests.methods.reference import needs_shared

pytestmark = needs_shared

HERE = FOLDER / "hvqtrans"

NAMES = (
    (r"^pos_embed\.row_embed\.weight", "position.rows"),
    (r"^pos_embed\.col_embed\.weight", "position.columns"),
    (r"^quantize_conv_t", "input"),
    (r"^input_proj", "unused"),
    (r"^output_proj_list", "heads"),
    (r"^decoder\.norm", "norm"),
    (r"^(encoder|decoder)\.layers", r"\1"),
    (r"\.self_attn", ".attention"),
    (r"\.multihead_attn", ".memory_attention"),
    (r"\.(linear[12])", r".ffn.\1"),
)
BUFFERS = (("codes", "embed"), ("sums", "embed_avg"), ("counts", "cluster_size"))


@cache
def _tensors() -> dict[str, Tensor]:
    return load_file(HERE / "tensors.safetensors")


@cache
def _meta() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "meta.json").read_text(encoding="utf-8"))
    return found


def _network() -> HVQNetwork:
    """Return a network with the authors' weights and codebooks; theirs are (D, K), one module a level and category."""
    given = load_file(HERE / "weights.safetensors")
    weights = renamed({k: v for k, v in given.items() if not k.startswith("quantize_list")}, *NAMES)
    weights["input.weight"] = weights["input.weight"].flatten(1)
    for ours, theirs in BUFFERS:
        levels = [torch.stack([given[f"quantize_list_{n}.{c}.{theirs}"] for c in range(3)]) for n in range(1, 6)]
        books = [level if ours == "counts" else level.transpose(1, 2) for level in levels]
        weights |= {f"lower.{ours}": torch.stack(books[:4]), f"top.{ours}": books[4][None]}
    network = HVQNetwork(40, (14, 14), 3, NetworkSettings(width=32, codes=24, dropout=0.0), seed=0)
    network.load_state_dict(weights)
    return network


def _input() -> tuple[Tensor, list[int]]:
    return _tensors()["feature"].flatten(2).transpose(1, 2), [int(label) for label in _tensors()["label"]]


def _near(found: Tensor, wanted: Tensor, tolerance: float = OUTPUT) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < tolerance


def _compare(kind: str, levels: Tensor, quantised: Quantised, decoded: Tensor, rebuilt: Tensor, near: float) -> None:
    """Compare all intermediates; the authors have (L, B, C), levels deepest first."""
    wanted = {name.removeprefix(f"{kind}."): tensor for name, tensor in _tensors().items() if name.startswith(kind)}
    assert torch.equal(quantised.indices[1].flip(0), wanted["indices"].long())
    _near(torch.stack(quantised.memories), wanted["quantised"], near)
    if "encoder" in wanted:
        _near(levels.transpose(1, 2), wanted["encoder"], near)
    _near(decoded.transpose(0, 1), wanted["decoder"], near)
    _near(rebuilt.transpose(1, 2), wanted["rebuilt"].flatten(2), near)


def _evaluated(network: HVQNetwork, kind: str, near: float) -> tuple[Tensor, Quantised]:
    """Compare what a network makes of the input, and return what it rebuilt."""
    tokens, labels = _input()
    with torch.no_grad():
        levels = network.encode(tokens)
        quantised = network.quantise(levels, labels)
        decoded = network.decode(quantised.memories)
        rebuilt = network.rebuild(decoded, labels)
        scores = network.prototype_scores(quantised.lowest, labels)
    _compare(kind, levels, quantised, decoded, rebuilt, near)
    _near(scores, _tensors()[f"{kind}.ot"], near)
    found = (rebuilt - tokens).square().sum(dim=2).sqrt() + 80 * scores
    wanted = _tensors()[f"{kind}.token_map"].flatten(1)
    _near(found / wanted.max(), wanted / wanted.max(), near)
    return rebuilt, quantised


def test_every_intermediate() -> None:
    network, (tokens, _) = _network(), _input()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    rebuilt, quantised = _evaluated(network, "eval", OUTPUT)
    loss = nn.functional.mse_loss(rebuilt, tokens) + 0.25 * quantised.latent
    assert quantised.latent.item() == pytest.approx(_meta()["eval_latent"], abs=OUTPUT)
    assert loss.item() == pytest.approx(_meta()["eval_loss"], abs=OUTPUT)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_step_of_training() -> None:
    """Codebooks move image by image, the third image sees what the first left; then the optimiser makes its step."""
    network, (tokens, labels) = _network(), _input()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-4)
    levels = network.encode(tokens)
    quantised = network.quantise(levels, labels, nullcontext())
    decoded = network.decode(quantised.memories)
    rebuilt = network.rebuild(decoded, labels)
    _compare("train", levels, quantised, decoded, rebuilt, OUTPUT)
    loss = nn.functional.mse_loss(rebuilt, tokens) + 0.25 * quantised.latent
    assert quantised.latent.item() == pytest.approx(_meta()["train_latent"], abs=OUTPUT)
    assert loss.item() == pytest.approx(_meta()["train_loss"], abs=OUTPUT)
    assert nn.functional.mse_loss(rebuilt, tokens).item() == pytest.approx(_meta()["feature_loss"], abs=OUTPUT)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(network.parameters(), 0.1)
    assert norm.item() == pytest.approx(_meta()["grad_norm"], rel=OUTPUT)
    optimiser.step()
    for category in range(3):
        for number, codebooks in ((1, network.lower), (5, network.top)):
            wanted = _tensors()[f"after.quantize_list_{number}.{category}.embed"].T
            found = codebooks.codes[0, category]
            assert torch.allclose(found, wanted, rtol=1e-4, atol=STEP), "codes without tokens are huge"
        wanted = _tensors()[f"after.quantize_list_5.{category}.cluster_size"]
        _near(network.top.counts[0, category], wanted)
    _evaluated(network, "after", STEP)
