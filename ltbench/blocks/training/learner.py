"""What a training is made of: a network with its loss and optimiser, the schedule, and what a loss is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.exchange import Exchange

Precision = Literal["float32", "bfloat16"]
Shards = Literal["apart", "coupled", "one"]
Prepare = Callable[[int, np.random.Generator], Any]


class Rate(Protocol):
    """How a learning rate changes; a frozen dataclass of plain values, which a checkpoint keeps."""

    def factor(self, step: int, steps: int, total: int) -> float:
        """Return what the learning rate is multiplied by.

        Args:
            step: of the training, from 0.
            steps: of an epoch.
            total: steps of the training.
        """
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train, and in which steps.

    Args:
        epochs: passes over the training images.
        batch_size: images of a step; the last step of an epoch takes what is left.
        lr_step: epochs after which the learning rate is multiplied by `lr_gamma`, again and again; 0 for never. As in
            UniAD's code, which tells its scheduler the epoch that ended, the first such epoch is number lr_step + 1,
            counted from 0.
        lr_gamma: what the learning rate is multiplied by.
        precision: "bfloat16" lets torch choose it where it is faster (autocast); weights stay in float32.
        steps: how many steps to train, whatever the epochs; 0 for whole epochs.
        drop_last: leaves out the images that fill no step at the end of an epoch; fewer than a step's are one step.
        rate: another course of the learning rate than `lr_step` and `lr_gamma` give, or None.
    """

    epochs: int
    batch_size: int
    lr_step: int = 0
    lr_gamma: float = 0.1
    precision: Precision = "float32"
    steps: int = 0
    drop_last: bool = False
    rate: Rate | None = None

    def epoch_steps(self, count: int) -> int:
        """Return the steps of an epoch over `count` images."""
        whole = count // self.batch_size
        return max(whole, 1) if self.drop_last else math.ceil(count / self.batch_size)

    def total_steps(self, count: int) -> int:
        """Return the steps of the training."""
        return self.steps or self.epochs * self.epoch_steps(count)

    def lr_factor(self, step: int, count: int) -> float:
        """Return what the learning rate is multiplied by in a step of the training, counted from 0."""
        steps = self.epoch_steps(count)
        if self.rate is not None:
            return self.rate.factor(step, steps, self.total_steps(count))
        return self.lr_gamma ** (max(step // steps - 1, 0) // self.lr_step) if self.lr_step else 1.0


@dataclass(frozen=True, slots=True)
class Shard:
    """The images that a loss is computed of at once.

    Args:
        indices: which training images.
        draws: random numbers of this shard.
        step_draws: random numbers that all shards of the step share.
        number: place among the step's shards, from 0.
        step: of the training, from 0.
        exchange: what `gather` and `turn` go through; a step of one shard needs no other.
        prepared: what the learner's `prepare` returned for each of the images, in their order.
    """

    indices: NDArray[np.int64]
    draws: Draws
    step_draws: Draws
    number: int = 0
    step: int = 0
    exchange: Exchange = field(default_factory=lambda: Exchange(1))
    prepared: Sequence[Any] = ()

    def gather(self, values: Tensor) -> Tensor:
        """Return the values (n, ...) of all shards of the step, in order, without gradients; for coupled shards."""
        return self.exchange.gather(self.number, values)

    def turn(self) -> AbstractContextManager[None]:
        """Return a context entered by one shard after the other, in order, once a step; for coupled shards."""
        return self.exchange.turn(self.number)


@dataclass(frozen=True)
class Learner:
    """A network with its loss and its optimiser. Several may be trained in one loop, one after the other in each step.

    Args:
        name: for checkpoints and messages.
        network: what is trained.
        loss: the mean over a shard's images of their losses, a scalar.
        optimiser: steps the network's parameters; its learning rates are those of the schedule's start.
        clip_norm: largest norm of the gradient of each of the optimiser's groups of parameters; 0 for no limit.
        shards: "apart": the loss of an image depends on no other of its batch, which is cut into shards. "coupled":
            cut as well, and the shards may tell one another what they found (`Shard.gather`) or take turns
            (`Shard.turn`); each has a thread of its own. "one": a batch is one shard, on one thread, for networks
            whose layers look at the whole batch (batch normalisation in training).
        prepare: makes what the loss needs of an image (`Shard.prepared`), from its index and random numbers that depend
            on the seed and on its place in the training alone. It is called in threads, several at once, for up to two
            steps ahead of the one that trains: it reads, decodes and draws, and must not touch the network.
    """

    name: str
    network: nn.Module
    loss: Callable[[Shard], Tensor]
    optimiser: torch.optim.Optimizer
    clip_norm: float = 0.0
    shards: Shards = "apart"
    prepare: Prepare | None = None

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters that the optimiser steps."""
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

    def set_lr(self, factor: float) -> None:
        """Set each learning rate to `factor` of what it was at first."""
        for group in self.optimiser.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def clip(self, gradients: Sequence[Tensor | None]) -> float:
        """Take over the gradients, clipped, and return the norm that they had all together."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        largest = self.clip_norm or math.inf
        groups = [group["params"] for group in self.optimiser.param_groups]
        return math.hypot(*(nn.utils.clip_grad_norm_(group, largest).item() for group in groups))

    def step(self) -> None:
        """Step the parameters along the gradients that `clip` took over."""
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of network and optimiser by name."""
        found = {f"{self.name}/network/{key}": tensor for key, tensor in self.network.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            found |= {f"{self.name}/optimiser/{index}/{key}": tensor for key, tensor in state.items()}
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over the state that `tensors` returned."""
        prefix = f"{self.name}/network/"
        own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        self.network.load_state_dict(own)
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith(f"{self.name}/optimiser/"):
                index, name = key.removeprefix(f"{self.name}/optimiser/").split("/")
                state.setdefault(int(index), {})[name] = tensor
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})
