"""Time a training whose images are made in threads ahead of the network beside a plain loop that makes them in between.

    python benchmarks/synthesis_ahead.py
    python benchmarks/synthesis_ahead.py --side 128 --steps 20

Both sides make DRAEM's items from the same random numbers; the script fails if one differs by a bit. The plain loop
makes the items of a batch, then trains on them, with all of torch's threads; the other side is
`ltbench.blocks.training.loop`. Three networks: one that
costs next to nothing, one that takes as long as an accelerator would (a pause), both as on a GPU that waits for images;
and that of the preset `offline` on the CPU itself. Sides take turns; seconds are medians over rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from turns import median_seconds

from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.loop import train
from ltbench.method import Runtime
from methods.draem.losses import total_loss
from methods.draem.net import Draem
from methods.draem.synthesis import Example, Synthesis
from methods.draem.textures import Pictures

BATCH = 8


class Cheap(nn.Module):
    """One convolution in place of DRAEM's networks, and a pause for the seconds of a step on an accelerator."""

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__()
        self.pause = pause
        self.convolution = nn.Conv2d(3, 5, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what stands for rebuilt images (B, 3, H, W), and logits (B, 2, H, W)."""
        time.sleep(self.pause)
        found = self.convolution(images[:, :, ::8, ::8])
        return found[:, :3], found[:, 3:]


def loss_of(network: nn.Module, items: Sequence[Example]) -> Tensor:
    """Return DRAEM's loss of a batch."""
    altered, clean = (
        torch.from_numpy(np.stack([item[place] for item in items])).permute(0, 3, 1, 2) for place in (0, 1)
    )
    mask = torch.from_numpy(np.stack([item.mask for item in items]))
    if isinstance(network, Cheap):
        clean, mask = clean[:, :, ::8, ::8], mask[:, ::8, ::8]
    rebuilt, logits = network(altered)
    return total_loss(rebuilt, logits, clean, mask, "one")


class Run:
    """One side's training, with a digest of all that it saw.

    Args:
        network: makes the network.
        synthesis: makes the items.
        steps: how many.
    """

    def __init__(self, network: Callable[[], nn.Module], synthesis: Synthesis, steps: int) -> None:
        self.network, self.synthesis, self.steps = network, synthesis, steps
        self.seen = ""

    def plain(self) -> None:
        """Make the items of a step, train on them, and so on."""
        network, digest = self.network(), hashlib.sha256()
        optimiser = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
        count = BATCH * self.steps
        order = np.random.Generator(np.random.PCG64((0, zlib.crc32(b"train"), 0))).permutation(count)
        for step in range(self.steps):
            rngs = [np.random.default_rng((0, zlib.crc32(b"train"), 0, 0, step, 1, place)) for place in range(BATCH)]
            indices = order[step * BATCH : (step + 1) * BATCH].tolist()
            items = [self.synthesis.draw(index, rng) for index, rng in zip(indices, rngs, strict=True)]
            _note(digest, items)
            optimiser.zero_grad()
            torch.autograd.backward(loss_of(network, items))
            optimiser.step()
        self.seen = digest.hexdigest()

    def ahead(self) -> None:
        """Train with ltbench's loop."""
        network, digest = self.network(), hashlib.sha256()

        def loss(shard: Shard) -> Tensor:
            _note(digest, shard.prepared)
            return loss_of(network, shard.prepared)

        optimiser = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
        learner = Learner("draem", network, loss, optimiser, shards="one", prepare=self.synthesis.draw)
        train([learner], BATCH * self.steps, Schedule(1, BATCH), Runtime())
        self.seen = digest.hexdigest()


def _note(digest: hashlib._Hash, items: Sequence[Example]) -> None:
    for item in items:
        for array in item:
            digest.update(np.ascontiguousarray(array[::4, ::4]).data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256, help="pixels of the images, but for the preset offline")
    parser.add_argument("--pause", type=float, default=0.04, help="seconds of a step in the second pair")
    parser.add_argument("--steps", type=int, default=15, help="steps of a training")
    parser.add_argument("--rounds", type=int, default=3, help="times that each side is timed")
    options = parser.parse_args()
    rng = np.random.RandomState(0)
    print(f"{torch.get_num_threads()} threads, batches of {BATCH}\n")
    print("| network | side | plain, images/s | ahead, images/s | times |\n|---|---:|---:|---:|---:|")
    pairs: list[tuple[str, int, Callable[[], nn.Module]]] = [
        ("next to none", options.side, Cheap),
        (f"{1000 * options.pause:.0f} ms a step", options.side, lambda: Cheap(options.pause)),
        ("DRAEM, widths 8 (offline)", 96, lambda: Draem(8, 8)),
    ]
    for name, side, network in pairs:
        images, pictures = (rng.randint(0, 256, (40, side, side, 3)).astype(np.uint8) for _ in range(2))
        run = Run(
            network,
            Synthesis(images, np.arange(len(images)), Pictures(pictures, own=False), 0.5, 0.3, 90.0, 0.8, 0.5),
            options.steps,
        )
        seen: set[str] = set()

        def noted(side: Callable[[], None], run: Run = run, seen: set[str] = seen) -> Callable[[], None]:
            def timed() -> None:
                side()
                seen.add(run.seen)

            return timed

        seconds = median_seconds({"plain": noted(run.plain), "ahead": noted(run.ahead)}, options.rounds)
        if len(seen) != 1:
            raise SystemExit("Expected the same images on both sides, got others.")
        rates = [BATCH * options.steps / seconds[which] for which in ("plain", "ahead")]
        print(f"| {name} | {side} | {rates[0]:.0f} | {rates[1]:.0f} | {rates[1] / rates[0]:.2f} |")


if __name__ == "__main__":
    main()
