"""How much memory a training takes, from its network and its batch alone: nothing is computed, no weights are needed.

A network on torch's device "meta" goes forward without numbers; what autograd would keep for the way back is counted as
it is kept. Pages of files that are mapped into memory are the system's to take back, and are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ltbench.blocks.device_memory import FLOAT, NOTHING, Room, features_phase, peak_bytes
from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.learner import Shards
from ltbench.blocks.training.loop import SHARD
from ltbench.method import ImageCounts

STATES = {"adam": 2, "sgd": 1, "stable_adamw": 3}
"""What an optimiser keeps of each parameter, in copies of it."""

SLACK = 1.25
"""Times of its tensors that a device gives to what is computed: what losses make beside, and pieces too small for what
comes next."""


class _Undrawn(Draws):
    """Random numbers for the device "meta": none, in the places of those that a training draws."""

    def __init__(self) -> None:
        super().__init__(0, device="meta")

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.empty(tuple(shape), device=self.device)

    def bernoulli(self, shape: Sequence[int], probability: float) -> Tensor:
        return torch.empty(tuple(shape), dtype=torch.uint8, device=self.device)


UNDRAWN = _Undrawn()
"""What a network on the device "meta" is given where a training gives it `Draws`: dropout is kept, too."""


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


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained, so far as it decides what memory that takes.

    Args:
        networks: what is trained, one after the other in each step, on the device "meta".
        forwards: make what the loss of each is computed of, for so many images.
        batch_size: images of a step.
        shards: of the learners.
        optimiser: a key of `STATES`.
    """

    networks: Sequence[nn.Module]
    forwards: Sequence[Callable[[int], Sequence[Tensor]]]
    batch_size: int
    shards: Shards = "apart"
    optimiser: str = "adam"

    def step(self) -> int:
        """Return the bytes of a step on a CPU: weights, gradients, the optimiser's states, and what is kept."""
        parts = 1 if self.shards == "one" else -(-self.batch_size // SHARD)
        at_once = parts if self.shards == "coupled" else min(parts, torch.get_num_threads())
        images = min(self.batch_size, SHARD) if parts > 1 else self.batch_size
        kept = max(kept_bytes(partial(forward, images)) for forward in self.forwards)
        gradients = max(self._learnt) * (1 + min(parts, at_once + 1) * (parts > 1))
        return self.held() + gradients + at_once * kept

    def device_step(self) -> int:
        """Return the bytes of a step on a device, where a batch is one shard."""
        back = max(peak_bytes(partial(self._back, forward)) for forward in self.forwards)
        # an optimiser makes up to one copy of the parameters that it steps, beside their gradients
        return self.held() + max(int(SLACK * back), 2 * max(self._learnt))

    @property
    def weights(self) -> int:
        """Bytes of the networks."""
        return FLOAT * sum(
            own.numel() for network in self.networks for own in (*network.parameters(), *network.buffers())
        )

    def held(self) -> int:
        """Return the bytes of weights and of the optimiser's states, which are there between two steps as well."""
        return self.weights + STATES[self.optimiser] * sum(self._learnt)

    def score(self, images: int) -> object:
        """Let images through all networks, without gradients, as a prediction does."""
        with torch.no_grad():
            return [forward(images) for forward in self.forwards]

    def _back(self, forward: Callable[[int], Sequence[Tensor]]) -> object:
        """Let a batch through and go back, from a loss that compares what is made with as many values."""
        learnt = [own for network in self.networks for own in network.parameters() if own.requires_grad]
        with torch.enable_grad():
            made = [own for own in forward(self.batch_size) if own.requires_grad]
            loss = torch.stack([(own - torch.zeros_like(own)).square().mean() for own in made]).sum()
            return torch.autograd.grad(loss, learnt, allow_unused=True)

    @property
    def _learnt(self) -> list[int]:
        """Bytes of what is learnt of each network."""
        return [
            FLOAT * sum(own.numel() for own in network.parameters() if own.requires_grad) for network in self.networks
        ]


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


def device_phases(
    training: Training,
    images: ImageCounts,
    room: Room = NOTHING,
    *,
    beside: int = 0,
    score: Callable[[int], object] | None = None,
) -> dict[str, int]:
    """Return what takes how much on a device, as a `MemoryEstimate` has it; nothing on a CPU.

    Args:
        training: of the networks.
        images: how many there are, and how many go together.
        room: of the frozen network, which stays there.
        beside: bytes of what else is there in a step.
        score: lets so many images through what scores them, on the device "meta"; by default the networks alone.
    """
    if not images.batch:
        return {}
    scoring = int(SLACK * peak_bytes(partial(score or training.score, images.batch)))
    step = f"training in steps of {training.batch_size:,} images"
    maps = f"maps of {max(images.test, default=0):,} images in batches of {images.batch}"
    return {
        **(features_phase(room, images) if room.image else {}),
        step: room.of(0) + beside + training.device_step(),
        maps: room.of(0) + training.held() + max(images.batch * room.image, scoring),
    }
