"""Train a small network from the command line, so that a test can kill it: FOLDER STEPS_BETWEEN_PAUSES."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ltbench.blocks.networks.reconstruction import Reconstruction
from ltbench.blocks.training.jitter import jitter
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.loop import train
from ltbench.method import Runtime

COUNT, EPOCHS, BATCH = 11, 3, 4
STEPS = EPOCHS * 3
TOKENS = np.random.RandomState(0).randn(COUNT, 25, 6).astype(np.float32)


def learner(name: str = "only", seed: int = 0, pause: float = 0.0) -> Learner:
    """Return a small network of UniAD's kind to be trained on `TOKENS`, with a pause a shard."""
    network = Reconstruction(6, (5, 5), width=8, layers=1, heads=2, ffn_width=16, mask_side=3, seed=seed)

    def loss(shard: Shard) -> Tensor:
        time.sleep(pause)
        tokens = torch.tensor(TOKENS[shard.indices])
        noisy = jitter(tokens, 2, shard.draws) if shard.step_draws.uniform() < 0.7 else tokens
        return nn.functional.mse_loss(network(noisy, shard.draws).float(), tokens)

    optimiser = torch.optim.AdamW(network.parameters(), 1e-2, weight_decay=1e-4, fused=True)
    return Learner(name, network, loss, optimiser, clip_norm=0.1)


def trained(runtime: Runtime, pause: float = 0.0) -> dict[str, Tensor]:
    """Return all weights and optimiser states after training two networks together."""
    learners = [learner("first", 0, pause), learner("second", 1)]
    train(learners, COUNT, Schedule(EPOCHS, BATCH, lr_step=1), runtime)
    return {name: tensor for found in learners for name, tensor in found.tensors().items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    notes: dict[str, object] = {}
    result = trained(Runtime(checkpoints=folder / "checkpoints", checkpoint_minutes=0, notes=notes), pause=0.02)
    save_file(result, folder / "result.safetensors")
