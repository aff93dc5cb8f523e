"""How much memory a training takes, from its network and its batch alone: nothing is computed, no weights are needed.

A network on torch's device "meta" goes forward without numbers; what autograd would keep for the way back is counted as
it is kept. Pages of files that are mapped into memory are the system's to take back, and are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ltbench.blocks.training.learner import Shards
from ltbench.blocks.training.loop import SHARD
from ltbench.method import ImageCounts

FLOAT = 4
"""Bytes of a float32."""

STATES = {"adam": 2, "sgd": 1}
"""What an optimiser keeps of each parameter, in copies of it."""


def kept_bytes(forward: Callable[[], Sequence[Tensor]], device: str = "meta") -> int:
    """Return the bytes that a forward pass keeps until the backward pass, with its results.

    Args:
        forward: gives what a loss is computed of.
        device: where its network is; on "meta" nothing is computed.
    """
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):  # a parameter is there anyway
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.device(device), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, note):
        made = forward()
        for tensor in made:
            note(tensor)
    return sum(kept.values())


def training_bytes(
    networks: Sequence[nn.Module],
    forwards: Sequence[Callable[[int], Sequence[Tensor]]],
    batch_size: int,
    shards: Shards = "apart",
    optimiser: str = "adam",
) -> int:
    """Return the bytes of a training step on a CPU: weights, gradients, the optimiser's states, and what is kept.

    Args:
        networks: what is trained, one after the other in each step, on the device "meta".
        forwards: make what the loss of each is computed of, for so many images.
        batch_size: images of a step.
        shards: of the learners.
        optimiser: a key of `STATES`.
    """
    parts = 1 if shards == "one" else -(-batch_size // SHARD)
    at_once = parts if shards == "coupled" else min(parts, torch.get_num_threads())
    images = min(batch_size, SHARD) if parts > 1 else batch_size
    kept = max(kept_bytes(partial(forward, images)) for forward in forwards)
    learnt = [sum(own.numel() for own in network.parameters() if own.requires_grad) for network in networks]
    there = sum(own.numel() for network in networks for own in (*network.parameters(), *network.buffers()))
    gradients = max(learnt) * (1 + min(parts, at_once + 1) * (parts > 1))
    return FLOAT * (there + gradients + STATES[optimiser] * sum(learnt)) + at_once * kept


def phases(features: int, step: int, scoring: int, images: ImageCounts, batch_size: int) -> dict[str, int]:
    """Return what takes how much in a method that trains on frozen features, as a `MemoryEstimate` has it.

    Args:
        features: bytes of the frozen network and of the images on their way through it.
        step: bytes of a training step.
        scoring: bytes of the maps and metrics of the test images.
        images: how many there are.
        batch_size: images of a step.
    """
    return {
        f"features of {sum(images.train):,} images": features,
        f"training in steps of {batch_size:,} images": features + step,
        f"maps of {max(images.test, default=0):,} images": features + scoring,
    }
