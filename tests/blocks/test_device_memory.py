"""What tensors take is counted as long as they are there, on "meta" as where they are computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from ltbench.blocks.device_memory import WORKSPACE, Room, features_phase, free_bytes, peak_bytes
from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.patches import official, pooled
from ltbench.blocks.features.room import backbone_room
from ltbench.blocks.features.transformers import load_transformer
from ltbench.blocks.memory_bank.bank import Embedding
from ltbench.blocks.memory_bank.estimate import patch_shape
from ltbench.method import ImageCounts

MIB = 2**20
BATCH = 4


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_tensor_counts_from_its_making_to_its_end(device: str) -> None:
    outside = torch.ones(1000, device=device)

    def work() -> object:
        first = torch.empty(100)  # 400 bytes
        second = first * 2  # and 400
        del first
        view = second.view(10, 10)[2:]  # nothing
        view += outside[:10]  # in place: nothing that lasts
        third = torch.cat([second, second])  # 800 beside 400
        del second, view
        return third, torch.empty(10)  # 800 and 40

    assert peak_bytes(work, device) == 1200


def test_the_way_back_is_counted() -> None:
    """x, what two layers make, and their gradients on the way: at most what is kept with two of them."""

    def work() -> object:
        layers = [torch.nn.Linear(50, 50, bias=False) for _ in range(2)]  # 10,000 bytes each
        made = layers[1](layers[0](torch.empty(500, 50)).relu()).sum()  # 100,000 bytes an output
        return torch.autograd.grad(made, [layer.weight for layer in layers])

    assert 420_000 < peak_bytes(work) < 540_000
    assert peak_bytes(work) == pytest.approx(peak_bytes(work, "cpu"), rel=0.3)


@pytest.mark.parametrize("is_masked", [False, True])
def test_attention_has_weights_where_cuda_has_them(is_masked: bool) -> None:
    """Its kernels have none, but serve neither gradients, in a fixed order, nor heads of odd widths."""

    def attended(width: int, *, gradients: bool = False) -> Callable[[], object]:
        def work() -> object:
            states = torch.empty(2, 4, 500, width, requires_grad=gradients)
            mask = torch.empty(500, 500) if is_masked else None
            with torch.set_grad_enabled(gradients):
                made = F.scaled_dot_product_attention(states, states, states, attn_mask=mask)
                return torch.autograd.grad(made.sum(), states) if gradients else made

        return work

    weights = 4 * 2 * 4 * 500 * 500
    assert peak_bytes(attended(16)) < weights < peak_bytes(attended(15))
    assert weights < peak_bytes(attended(16, gradients=True))


def test_nothing_is_said_of_a_cpu() -> None:
    room, images = Room(10, 3), ImageCounts((8, 8), (2, 3), (1,))
    assert features_phase(room, images) == {}
    images = ImageCounts((8, 8), (2, 3), (1,), batch=4)
    assert features_phase(room, images) == {"features of 5 images in batches of 4": WORKSPACE + 10 + 4 * 3}


def test_what_the_process_keeps_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 70)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 2000))
    assert free_bytes(torch.device("cuda")) == 1040


@pytest.mark.parametrize(
    ("name", "layers", "embedding", "embed_dim"),
    [
        ("resnet18", (1, 2, 3), "pooled", 0),
        ("resnet18", (2, 3), "official", 512),  # averages line up with channels
        ("resnet18", (2, 3), "official", 96),  # they do not
        ("efficientnet_lite0", (2, 3), "pooled", 0),
    ],
)
def test_a_batch_of_patches_takes_less_than_estimated(
    name: str, layers: tuple[int, ...], embedding: Embedding, embed_dim: int
) -> None:
    size = (96, 96)
    backbone = load_backbone(name, layers, "random")
    pixels = np.zeros((BATCH, *size, 3), np.uint8)

    def work() -> object:
        with torch.inference_mode():
            levels = [level.contiguous() for level in backbone.levels(torch.tensor(pixels))]
            patches = official(levels, embed_dim) if embedding == "official" else pooled(levels)
            return torch.cat([own.reshape(BATCH, -1) for own in (*levels, patches.flatten(0, 2))], dim=1)

    seen, room = peak_bytes(work, "cpu"), patch_shape(name, layers, embedding, embed_dim, size).room
    assert seen <= BATCH * room.image <= 4 * seen


def test_a_batch_of_tokens_takes_less_than_estimated() -> None:
    backbone = load_transformer("vit_tiny_patch16_224", (2, 5, 11), "random")
    images = torch.zeros(BATCH, 112, 112, 3, dtype=torch.uint8)

    def work() -> object:
        with torch.inference_mode():
            return torch.cat(backbone.levels(images), dim=2)

    room = backbone_room(backbone, (112, 112))
    assert room is not None
    seen = peak_bytes(work, "cpu")
    assert seen <= BATCH * room.image <= 4 * seen
