"""Time a training step of HVQ-Trans from cached features beside the same step with the frozen backbone run live.

    python benchmarks/training_step_hvqtrans.py
    python benchmarks/training_step_hvqtrans.py --backbone tf_efficientnet_b4 --batch 16 --categories 15 --rounds 5

The plain sides are the paper's description in torch's own modules, whole batches and quantisers image by image; "live"
runs the frozen backbone on the batch's images. The ltbench sides are what `ltbench run --method hvqtrans` does, with
tokens mapped from disk, and the same with the backbone run on each shard's images instead. Weights are random; sides
take turns, and seconds are medians over rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from turns import median_seconds, print_table

from ltbench.blocks.features.tokens import stack_on_disk
from ltbench.blocks.training.learner import Learner, Precision, Schedule, Shard
from ltbench.blocks.training.loop import train
from ltbench.method import Runtime
from methods.hvqtrans.net import HVQNetwork, NetworkSettings

GRID, WIDTH, HEADS, FFN, DROPOUT, CODES = (14, 14), 256, 8, 1024, 0.1, 512


class PlainQuantiser(nn.Module):
    """One codebook, one image at a time."""

    codes: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        codes = torch.randn(width, CODES)
        self.register_buffer("codes", codes)
        self.register_buffer("sums", codes.clone())
        self.register_buffer("counts", torch.zeros(CODES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes of (L, D) and their distance; move them."""
        distances = x.square().sum(1, keepdim=True) - 2 * x @ self.codes + self.codes.square().sum(0, keepdim=True)
        index = distances.argmin(dim=1)
        members = F.one_hot(index, CODES).to(x.dtype)
        found = F.embedding(index, self.codes.T)
        with torch.no_grad():
            self.counts.mul_(0.99).add_(members.sum(0), alpha=0.01)
            self.sums.mul_(0.99).add_(x.T @ members, alpha=0.01)
            total = self.counts.sum()
            self.codes.copy_(self.sums / ((self.counts + 1e-5) / (total + CODES * 1e-5) * total))
        return x + (found - x).detach(), (found.detach() - x).square().mean()


class PlainLayer(nn.Module):
    """An encoder layer, or with two attentions a decoder layer, of torch's modules."""

    def __init__(self, width: int, attentions: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(nn.MultiheadAttention(width, HEADS, dropout=DROPOUT) for _ in range(attentions))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(attentions + 1))
        self.ffn = nn.Sequential(nn.Linear(width, FFN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(FFN, width))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, position: Tensor, memory: Tensor | None = None) -> Tensor:
        """Return the tokens after this layer, (L, B, width)."""
        for attention, norm, other in zip(self.attentions, self.norms, (None, memory), strict=False):
            source = x if other is None else other
            gathered = attention(x + position, source + position, source, need_weights=False)[0]
            x = norm(x + self.drop(gathered))
        final: Tensor = self.norms[-1](x + self.drop(self.ffn(x)))
        return final


class PlainNetwork(nn.Module):
    """HVQ-Trans of torch's modules."""

    def __init__(self, channels: int, categories: int) -> None:
        super().__init__()
        self.input, self.unused = nn.Linear(channels, WIDTH), nn.Linear(channels, WIDTH)
        self.rows, self.columns = (nn.Parameter(torch.rand(side, WIDTH // 2)) for side in GRID)
        self.encoder = nn.ModuleList(PlainLayer(WIDTH, 1) for _ in range(4))
        self.decoder = nn.ModuleList(PlainLayer(2 * WIDTH, 2) for _ in range(4))
        self.norm = nn.LayerNorm(2 * WIDTH)
        self.heads = nn.ModuleList(nn.Linear(2 * WIDTH, channels) for _ in range(categories))
        self.top = nn.ModuleList(PlainQuantiser(WIDTH) for _ in range(categories))
        self.lower = nn.ModuleList(
            nn.ModuleList(PlainQuantiser(2 * WIDTH) for _ in range(categories)) for _ in range(4)
        )

    def forward(self, tokens: Tensor, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (L, B, C) rebuilt, and the latent loss."""
        columns = self.columns[None].expand(GRID[0], -1, -1)
        position = torch.cat([columns, self.rows[:, None].expand(-1, GRID[1], -1)], dim=2).flatten(0, 1)[:, None]
        levels = [self.input(tokens)]
        for layer in self.encoder:
            levels.append(layer(levels[-1], position))
        top, latent = self._quantised(self.top, levels[-1], labels)
        memories = list[Tensor]()
        for level, quantisers in zip(levels[:-1], self.lower, strict=True):
            memory, distance = self._quantised(quantisers, torch.cat([level, top], dim=2), labels)
            memories.insert(0, memory)
            latent = latent + distance
        x, doubled = memories[0], torch.cat([position, position], dim=2)
        for layer, memory in zip(self.decoder, memories, strict=True):
            x = layer(x, doubled, memory)
        x = self.norm(x)
        return torch.stack([self.heads[label](x[:, i]) for i, label in enumerate(labels)], dim=1), latent

    def _quantised(self, quantisers: nn.Module, x: Tensor, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
        made = [quantisers.get_submodule(str(label))(x[:, i]) for i, label in enumerate(labels)]
        return torch.stack([codes for codes, _ in made], dim=1), torch.stack([latent for _, latent in made]).mean()


def plain_step(
    backbone: nn.Module | None, features: Tensor, images: Tensor, labels: Sequence[int], categories: int
) -> Callable[[], object]:
    """Return a step of the plain side; without a backbone it takes the features given, (L, B, C)."""
    network = PlainNetwork(features.shape[2], categories).train()
    assert sum(p.numel() for p in network.parameters()) == sum(
        p.numel() for p in HVQNetwork(features.shape[2], GRID, categories, NetworkSettings(), 0).parameters()
    )
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-4)

    def step() -> None:
        clean = features if backbone is None else neck(backbone, images)
        rebuilt, latent = network(clean, labels)
        optimiser.zero_grad()
        torch.autograd.backward(F.mse_loss(rebuilt, clean) + 0.25 * latent)
        nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimiser.step()

    return step


def neck(backbone: nn.Module, images: Tensor) -> Tensor:
    """Return the tokens of images, (L, B, C)."""
    with torch.no_grad():
        levels = [F.interpolate(level, GRID, mode="bilinear", align_corners=True) for level in backbone(images)]
        return torch.cat(levels, dim=1).flatten(2).permute(2, 0, 1)


def own_step(
    backbone: nn.Module | None,
    features: Tensor,
    images: Tensor,
    labels: Sequence[int],
    categories: int,
    precision: Precision = "float32",
) -> Callable[[], object]:
    """Return a step of ltbench: an epoch of one step, from tokens on disk, or with a backbone from images."""
    count = features.shape[1]
    (tokens,) = stack_on_disk(((np.ascontiguousarray(features[:, i].numpy()),) for i in range(count)), count)
    network = HVQNetwork(features.shape[2], GRID, categories, NetworkSettings(), seed=0)

    def loss(shard: Shard) -> Tensor:
        own = torch.from_numpy(shard.indices)
        clean = torch.tensor(tokens[shard.indices]) if backbone is None else neck(backbone, images[own]).transpose(0, 1)
        rebuilt, quantised = network(clean, [labels[index] for index in shard.indices], shard.draws, shard.turn())
        found: Tensor = (rebuilt.float() - clean).square().mean() + 0.25 * quantised.latent
        return found

    optimiser = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-4, fused=True)
    learner = Learner("hvqtrans", network, loss, optimiser, clip_norm=0.1, shards="coupled")
    return lambda: train([learner], count, Schedule(1, count, precision=precision), Runtime())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_b4", help="timm's name of the live backbone")
    parser.add_argument("--batch", type=int, default=16, help="images of a step")
    parser.add_argument("--categories", type=int, default=15, help="categories, which the images have in turn")
    parser.add_argument("--rounds", type=int, default=5, help="times that each side is timed")
    options = parser.parse_args()
    torch.manual_seed(0)
    backbone = timm.create_model(options.backbone, pretrained=False, features_only=True, out_indices=(0, 1, 2, 3))
    backbone.eval()
    images = torch.rand(options.batch, 3, 224, 224)
    features = neck(backbone, images)
    labels = [index % options.categories for index in range(options.batch)]
    given = (features, images, labels, options.categories)
    sides: dict[str, Callable[[], object]] = {
        "plain, backbone live": plain_step(backbone, *given),
        "plain, head alone": plain_step(None, *given),
        "ltbench, backbone live": own_step(backbone, *given),
        "ltbench, float32": own_step(None, *given),
        "ltbench, bfloat16": own_step(None, *given, precision="bfloat16"),
    }
    seconds = median_seconds(sides, options.rounds)
    live = seconds["plain, backbone live"]
    print(f"{options.backbone}, batch {options.batch}, {torch.get_num_threads()} threads\n")
    print_table("a training step", "times faster than plain with the backbone live", seconds, lambda own: live / own)


if __name__ == "__main__":
    main()
