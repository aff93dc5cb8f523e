"""Time a training step of UniAD from cached features beside the same step written plainly with the backbone run live.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --backbone tf_efficientnet_b4 --batch 8 --rounds 5

The plain side is the paper's description in torch's own modules: the frozen backbone on the batch's images, resizing,
jitter, `nn.MultiheadAttention`, `nn.Dropout`, AdamW. The other side is what `ltbench run --method uniad` does: tokens
mapped from disk, `ltbench.blocks.training.loop`, in float32 and in bfloat16. Weights are random; sides take turns, and
seconds are medians over rounds. "head alone" is the plain step from features in memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from turns import median_seconds, print_table

from ltbench.blocks.features.tokens import stack_on_disk
from ltbench.blocks.networks.attention import neighbour_mask
from ltbench.blocks.networks.reconstruction import Reconstruction
from ltbench.blocks.training.jitter import jitter
from ltbench.blocks.training.learner import Learner, Precision, Schedule, Shard
from ltbench.blocks.training.loop import train
from ltbench.method import Runtime

GRID, WIDTH, HEADS, FFN, DROPOUT, ALPHA = (14, 14), 256, 8, 1024, 0.1, 20.0


class PlainLayer(nn.Module):
    """An encoder layer, or with `queries` a decoder layer, of torch's modules."""

    def __init__(self, queries: bool) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(GRID[0] * GRID[1], 1, WIDTH)) if queries else None
        count = 2 if queries else 1
        self.attentions = nn.ModuleList(nn.MultiheadAttention(WIDTH, HEADS, dropout=DROPOUT) for _ in range(count))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(count + 1))
        self.ffn = nn.Sequential(nn.Linear(WIDTH, FFN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(FFN, WIDTH))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, memory: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Return the tokens after this layer, (L, B, WIDTH)."""
        sources = [x] if self.queries is None else [memory, x]
        y = x if self.queries is None else self.queries.expand(-1, x.shape[1], -1)
        for attention, norm, source in zip(self.attentions, self.norms, sources, strict=False):
            gathered = attention(y + position, source + position, source, attn_mask=mask, need_weights=False)[0]
            y = norm(y + self.drop(gathered))
        final: Tensor = self.norms[-1](y + self.drop(self.ffn(y)))
        return final


class PlainHead(nn.Module):
    """UniAD's network of torch's modules."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(channels, WIDTH), nn.Linear(WIDTH, channels)
        self.rows, self.columns = (nn.Parameter(torch.rand(side, WIDTH // 2)) for side in GRID)
        self.encoder = nn.ModuleList(PlainLayer(queries=False) for _ in range(4))
        self.decoder = nn.ModuleList(PlainLayer(queries=True) for _ in range(4))
        self.norm = nn.LayerNorm(WIDTH)
        self.register_buffer("mask", neighbour_mask(GRID, 7))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (L, B, C) rebuilt."""
        columns = self.columns[None].expand(GRID[0], -1, -1)
        rows = self.rows[:, None].expand(-1, GRID[1], -1)
        position = torch.cat([columns, rows], dim=2).flatten(0, 1)[:, None]
        memory = self.input(tokens)
        for layer in self.encoder:
            memory = layer(memory, memory, position, self.mask)
        rebuilt = memory
        for layer in self.decoder:
            rebuilt = layer(rebuilt, memory, position, self.mask)
        final: Tensor = self.output(self.norm(rebuilt))
        return final


def plain_step(backbone: nn.Module | None, features: Tensor, images: Tensor) -> Callable[[], object]:
    """Return a step of the plain side; without a backbone it takes the features given, (L, B, C)."""
    head = PlainHead(features.shape[2]).train()
    assert sum(p.numel() for p in head.parameters()) == sum(
        p.numel() for p in Reconstruction(features.shape[2], GRID).parameters()
    )
    optimiser = torch.optim.AdamW(head.parameters(), 1e-4, weight_decay=1e-4)

    def step() -> None:
        clean = features if backbone is None else neck(backbone, images)
        noise = torch.randn_like(clean) * (clean.norm(dim=2, keepdim=True) / clean.shape[2]) * ALPHA
        loss = F.mse_loss(head(clean + noise), clean)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(head.parameters(), 0.1)
        optimiser.step()

    return step


def neck(backbone: nn.Module, images: Tensor) -> Tensor:
    """Return the tokens of images, (L, B, C)."""
    with torch.no_grad():
        levels = [F.interpolate(level, GRID, mode="bilinear", align_corners=True) for level in backbone(images)]
        return torch.cat(levels, dim=1).flatten(2).permute(2, 0, 1)


def cached_step(features: Tensor, precision: Precision) -> Callable[[], object]:
    """Return a step of ltbench: an epoch of one step, from tokens on disk."""
    count = features.shape[1]
    (tokens,) = stack_on_disk(((np.ascontiguousarray(features[:, i].numpy()),) for i in range(count)), count)
    network = Reconstruction(features.shape[2], GRID)

    def loss(shard: Shard) -> Tensor:
        clean = torch.tensor(tokens[shard.indices])
        rebuilt: Tensor = network(jitter(clean, ALPHA, shard.draws), shard.draws)
        return (rebuilt.float() - clean).square().mean()

    optimiser = torch.optim.AdamW(network.parameters(), 1e-4, weight_decay=1e-4, fused=True)
    learner = Learner("uniad", network, loss, optimiser, clip_norm=0.1)
    return lambda: train([learner], count, Schedule(1, count, precision=precision), Runtime())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_b4", help="timm's name of the live backbone")
    parser.add_argument("--batch", type=int, default=8, help="images of a step")
    parser.add_argument("--rounds", type=int, default=5, help="times that each side is timed")
    options = parser.parse_args()
    torch.manual_seed(0)
    backbone = timm.create_model(options.backbone, pretrained=False, features_only=True, out_indices=(0, 1, 2, 3))
    backbone.eval()
    images = torch.rand(options.batch, 3, 224, 224)
    features = neck(backbone, images)
    sides: dict[str, Callable[[], object]] = {
        "plain, backbone live": plain_step(backbone, features, images),
        "plain, head alone": plain_step(None, features, images),
        "ltbench, float32": cached_step(features, "float32"),
        "ltbench, bfloat16": cached_step(features, "bfloat16"),
    }
    seconds = median_seconds(sides, options.rounds)
    live = seconds["plain, backbone live"]
    print(f"{options.backbone}, batch {options.batch}, {torch.get_num_threads()} threads\n")
    print_table("a training step", "times faster than with the backbone live", seconds, lambda own: live / own)


if __name__ == "__main__":
    main()
