"""Time a training step of Dinomaly from stored tokens beside the same step with the frozen transformer run live.

    python benchmarks/dinomaly_step.py                # ViT-S/14, 224 pixels, batch 16
    python benchmarks/dinomaly_step.py --backbone vit_base_patch14_reg4_dinov2 --heads 12 --side 392 --rounds 1
    python benchmarks/dinomaly_step.py --only-memory

The plain side is the paper's description in torch's own modules, whole batches, and the frozen transformer run on their
images. The others train with ltbench's loop; they map the group means of the tokens from disk, or let the transformer
see the batch's images first, all at once and with all threads. Weights are random, sides take turns, and seconds are
medians over rounds.

Memory: forward and backward of the decoder on one image of 784 and of 3,136 tokens (392 and 784 pixels), each in a
process of its own; MiB are what its peak grew by. The other side has softmax attention that forms its N x N weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from tabulate import tabulate
from torch import Tensor, nn
from turns import median_seconds, print_table

from ltbench.blocks.features.tokens import stack_on_disk
from ltbench.blocks.features.transformers import load_transformer, token_shape
from ltbench.blocks.training.learner import Learner, Precision, Schedule, Shard
from ltbench.blocks.training.loop import train
from ltbench.blocks.training.stable_adamw import StableAdamW
from ltbench.method import Runtime
from ltbench.runs.environment import peak_memory, resident_memory
from methods.dinomaly.loss import loose_loss
from methods.dinomaly.net import LinearAttention, LooseDecoder

LAYERS = tuple(range(2, 10))
SIZES = (784, 3136)
DEPTH, DROPOUT = 8, 0.2

Groups = tuple[np.ndarray, ...]


class SoftmaxAttention(LinearAttention):
    """The same projections around softmax attention that forms its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, width)."""
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class PlainAttention(nn.Module):
    """Linear attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, width)."""
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        weight = q @ k.sum(dim=-2, keepdim=True).transpose(-2, -1)
        found: Tensor = self.proj((q @ (k.transpose(-2, -1) @ v) / weight).transpose(1, 2).flatten(2))
        return found


class PlainDecoder(nn.Module):
    """Dinomaly's decoder of torch's modules."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(nn.Dropout(DROPOUT), *plain_mlp(width, DROPOUT), nn.Dropout(DROPOUT))
        self.attentions = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width, eps=1e-8), PlainAttention(width, heads)) for _ in range(DEPTH)
        )
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width, eps=1e-8), *plain_mlp(width, 0.0)) for _ in range(DEPTH)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what stands for the shallow and the deep group, (B, T, width) each."""
        x, outputs = self.bottleneck(x), list[Tensor]()
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            x = x + attention(x)
            x = x + mlp(x)
            outputs.append(x)
        deep, shallow = (torch.stack(part).mean(dim=0) for part in (outputs[: DEPTH // 2], outputs[DEPTH // 2 :]))
        return shallow, deep


def plain_mlp(width: int, dropout: float) -> tuple[nn.Module, ...]:
    """Return the layers of an MLP."""
    return nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)


def plain(options: argparse.Namespace, groups: Callable[[], Groups]) -> Callable[[], object]:
    """Return a step of the plain side on the tokens that `groups` gives."""
    shape = token_shape(options.backbone)
    network = PlainDecoder(shape.width, options.heads).train()
    optimiser = StableAdamW(network.parameters(), 2e-3)

    def step() -> None:
        targets = [torch.from_numpy(group) for group in groups()]
        rebuilt = network((targets[0] + targets[1]) / 2)
        pairs = [(t[:, shape.prefix :], r[:, shape.prefix :]) for t, r in zip(targets, rebuilt, strict=True)]
        optimiser.zero_grad()
        torch.autograd.backward(loose_loss(pairs, 0.9, 0.1))
        nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimiser.step()

    return step


def trained(options: argparse.Namespace, groups: Callable[[], Groups], precision: Precision) -> Callable[[], object]:
    """Return a step of ltbench's loop on the tokens that `groups` gives."""
    shape = token_shape(options.backbone)
    network = LooseDecoder(shape.width, options.heads, DEPTH, DROPOUT, seed=0)
    optimiser = StableAdamW(network.parameters(), 2e-3)

    def step() -> None:
        tokens = groups()

        def loss(shard: Shard) -> Tensor:
            targets = [torch.tensor(group[shard.indices]) for group in tokens]
            rebuilt = network((targets[0] + targets[1]) / 2, shard.draws)
            pairs = [
                (t[:, shape.prefix :], r[:, shape.prefix :].float()) for t, r in zip(targets, rebuilt, strict=True)
            ]
            return loose_loss(pairs, 0.9, 0.1, shard.gather)

        learner = Learner("dinomaly", network, loss, optimiser, clip_norm=0.1, shards="coupled")
        train([learner], options.batch, Schedule(1, options.batch, precision=precision), Runtime())

    return step


def steps(options: argparse.Namespace) -> None:
    """Print what a step takes from stored tokens and with the transformer live."""
    encoder = load_transformer(options.backbone, LAYERS, "random")._network
    images = torch.rand(options.batch, 3, options.side, options.side)

    def live() -> Groups:
        with torch.inference_mode():
            layers = encoder(images)
            return tuple(torch.stack(part).mean(dim=0).numpy() for part in (layers[:4], layers[4:]))

    found = live()
    rows = (tuple(np.ascontiguousarray(group[i]) for group in found) for i in range(options.batch))
    stored = stack_on_disk(rows, options.batch)
    sides: dict[str, Callable[[], object]] = {
        "plain, transformer live": plain(options, live),
        "ltbench, transformer live": trained(options, live, "float32"),
        "ltbench, from the store, float32": trained(options, lambda: stored, "float32"),
        "ltbench, from the store, bfloat16": trained(options, lambda: stored, "bfloat16"),
    }
    seconds = median_seconds(sides, options.rounds)
    first = seconds["plain, transformer live"]
    print(f"{options.backbone}, {options.side} pixels, batch {options.batch}, {torch.get_num_threads()} threads\n")
    print_table(
        "a training step", "times faster than plain with the transformer live", seconds, lambda own: first / own
    )


def grown_mib(options: argparse.Namespace, tokens: int, softmax: bool) -> float:
    """Return by how much the peak of this process grew in a forward and a backward pass."""
    width = token_shape(options.backbone).width
    network = LooseDecoder(width, options.heads, DEPTH, 0.0, seed=0)
    if softmax:
        for block in network.decoder:
            block.attn.__class__ = SoftmaxAttention
    x = torch.rand(1, tokens, width)
    before, peaks = resident_memory(), dict[str, float]()
    with peak_memory(peaks, "decoder"):
        rebuilt = network(x)
        torch.autograd.grad(rebuilt[0].mean() + rebuilt[1].mean(), list(network.parameters()))
    return peaks["decoder"] - before / 2**20


def memory(options: argparse.Namespace) -> None:
    """Print the peaks of both kinds of attention."""
    rows = []
    for tokens in SIZES:
        found = []
        for softmax in (False, True):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                found.append(pool.submit(grown_mib, options, tokens, softmax).result())
        rows.append([f"{tokens:,}", f"{found[0]:,.0f}", f"{found[1]:,.0f}", f"{found[1] / found[0]:.1f}"])
    print(tabulate(rows, ["tokens", "linear, MiB", "softmax, N x N, MiB", "times"], tablefmt="github"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_small_patch14_dinov2", help="timm's name")
    parser.add_argument("--heads", type=int, default=6, help="of the decoder's attention")
    parser.add_argument("--side", type=int, default=224, help="pixels of an image's side")
    parser.add_argument("--batch", type=int, default=16, help="images of a step")
    parser.add_argument("--rounds", type=int, default=5, help="times that each side is timed")
    parser.add_argument("--only-memory", action="store_true", help="leave the steps out")
    options = parser.parse_args()
    if not options.only_memory:
        steps(options)
        print()
    memory(options)


if __name__ == "__main__":
    main()
