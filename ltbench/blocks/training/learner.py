"""What a training is made of: a network with its loss and optimiser, the schedule, and what a loss is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltbench.blocks.training.draws import Draws

Precision = Literal["float32", "bfloat16"]


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
    """

    epochs: int
    batch_size: int
    lr_step: int = 0
    lr_gamma: float = 0.1
    precision: Precision = "float32"

    def lr_factor(self, epoch: int) -> float:
        """Return what the learning rate is multiplied by in an epoch, counted from 0."""
        return self.lr_gamma ** (max(epoch - 1, 0) // self.lr_step) if self.lr_step else 1.0


@dataclass(frozen=True, slots=True)
class Shard:
    """The images that a loss is computed of at once.

    Args:
        indices: which training images.
        draws: random numbers of this shard.
        step_draws: random numbers that all shards of the step share.
    """

    indices: NDArray[np.int64]
    draws: Draws
    step_draws: Draws


@dataclass(frozen=True)
class Learner:
    """A network with its loss and its optimiser. Several may be trained in one loop, one after the other in each step.

    Args:
        name: for checkpoints and messages.
        network: what is trained.
        loss: the mean over a shard's images of their losses, a scalar.
        optimiser: steps the network's parameters; its learning rates are those of the schedule's start.
        clip_norm: largest norm of the gradient of each of the optimiser's groups of parameters; 0 for no limit.
    """

    name: str
    network: nn.Module
    loss: Callable[[Shard], Tensor]
    optimiser: torch.optim.Optimizer
    clip_norm: float = 0.0

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
