"""One loop for every network that is trained: steps, schedule, checkpoints, progress.

Its result depends on the seed, the data and the settings alone. On a CPU a batch is cut into shards of two images; each
shard goes forward and backward on one thread, several shards at a time, and their gradients are added in order, so
that neither the number of threads nor an interruption changes a bit. On CUDA a batch is one shard.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltbench.blocks.checkpoints import read_checkpoint, write_checkpoint
from ltbench.blocks.draws import Draws
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.errors import DataError, LtbenchError
from ltbench.method import Method, Runtime

Precision = Literal["float32", "bfloat16"]

SHARD = 2
"""Images of a shard on a CPU. Part of the definition of a result: another number gives other last digits."""


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
        clip_norm: largest norm of the gradient of all parameters together; 0 for no limit.
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

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Clip the gradients and step the parameters."""
        parameters = self.parameters
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if self.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm, error_if_nonfinite=False)
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


@dataclass
class _Position:
    """Where in the training it is: the next step of an epoch, the losses so far."""

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)


def train(
    learners: Sequence[Learner],
    count: int,
    schedule: Schedule,
    runtime: Runtime,
    *,
    phase: str = "train",
    method: Method | None = None,
) -> None:
    """Train, or go on where a training of the same run and phase was interrupted; leave the last epoch's weights.

    The mean loss of every epoch goes into `runtime.notes["losses"][phase]`, by learner.

    Args:
        learners: what to train.
        count: number of training images.
        schedule: how long, in which steps.
        runtime: seed, device, checkpoints and progress.
        phase: names the loop; a method with several needs a name for each.
        method: what `runtime.after_epoch` is told of, or None where there is nothing to evaluate yet.

    Raises:
        LtbenchError: a loss that is not finite; the message says where.
        DataError: a checkpoint that does not fit.
    """
    _Loop(learners, count, schedule, runtime, phase, method).run()


class _Loop:
    def __init__(
        self,
        learners: Sequence[Learner],
        count: int,
        schedule: Schedule,
        runtime: Runtime,
        phase: str,
        method: Method | None,
    ) -> None:
        self.learners, self.count, self.schedule, self.runtime = learners, count, schedule, runtime
        self.phase, self.method = phase, method
        self.steps = math.ceil(count / schedule.batch_size)
        self.device = torch.device(runtime.device)
        self.on_cpu = self.device.type == "cpu"
        self.position = _Position(sums=[0.0] * len(learners))
        self.written = time.monotonic()

    def run(self) -> None:
        self._resume()
        progress, position, total = self.runtime.progress, self.position, self.schedule.epochs * self.steps
        done = position.epoch * self.steps + position.step
        workers = torch.get_num_threads() if self.on_cpu else 1
        order = self._order(position.epoch)
        with ThreadPoolExecutor(workers, thread_name_prefix="ltbench") as pool:
            for _ in progress.track(range(done, total), self.phase, total, done):
                with progress.timed(self.phase):
                    self._step(order, pool)
                progress.tell(self._state())
                if position.step == self.steps:
                    self._end_epoch()
                    order = self._order(position.epoch)
                elif time.monotonic() - self.written >= 60 * self.runtime.checkpoint_minutes:
                    self._checkpoint()
        losses = {
            learner.name: [epoch[number] for epoch in position.losses] for number, learner in enumerate(self.learners)
        }
        self.runtime.notes.setdefault("losses", {})[self.phase] = losses

    def _step(self, order: NDArray[np.int64], pool: ThreadPoolExecutor) -> None:
        position, size = self.position, self.schedule.batch_size
        batch = order[position.step * size : (position.step + 1) * size]
        for number, learner in enumerate(self.learners):
            learner.set_lr(self.schedule.lr_factor(position.epoch))
            loss, gradients = self._gradients(learner, number, batch, pool)
            if not math.isfinite(loss):
                raise LtbenchError(
                    f"Expected a finite loss, got {loss} in {self.phase} of {learner.name}, epoch "
                    f"{position.epoch + 1} of {self.schedule.epochs}, step {position.step + 1} of {self.steps}. "
                    "Lower the learning rate."
                )
            with torch_on_one_thread() if self.on_cpu else nullcontext():
                learner.step(gradients)
            position.sums[number] += loss * len(batch)
        position.step += 1

    def _gradients(
        self, learner: Learner, number: int, batch: NDArray[np.int64], pool: ThreadPoolExecutor
    ) -> tuple[float, list[Tensor | None]]:
        """Return the loss of a batch and its gradient: those of its shards, added in order."""
        size = SHARD if self.on_cpu else len(batch)
        starts = range(0, len(batch), size)
        task = partial(self._shard, learner, number, batch, size)
        loss, total = 0.0, list[Tensor | None]()
        for part, gradients in pool.map(task, starts):
            loss += part
            if not total:
                total = list(gradients)
                continue
            with torch_on_one_thread() if self.on_cpu else nullcontext():
                total = [_sum(one, other) for one, other in zip(total, gradients, strict=True)]
        return loss, total

    def _shard(
        self, learner: Learner, number: int, batch: NDArray[np.int64], size: int, start: int
    ) -> tuple[float, tuple[Tensor | None, ...]]:
        """Return a shard's part in the loss of its batch, and the gradient of that."""
        seeds = (self.runtime.seed, zlib.crc32(self.phase.encode()), number, self.position.epoch, self.position.step)
        shard = Shard(
            batch[start : start + size],
            draws=Draws(*seeds, start + 1, device=self.device),
            step_draws=Draws(*seeds, 0, device=self.device),
        )
        half = self.schedule.precision == "bfloat16"
        with torch_on_one_thread() if self.on_cpu else nullcontext():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                loss = learner.loss(shard) * (len(shard.indices) / len(batch))
            return loss.item(), torch.autograd.grad(loss, learner.parameters, allow_unused=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the images in the order in which an epoch takes them."""
        seeds = (self.runtime.seed, zlib.crc32(self.phase.encode()), epoch)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seeds))).permutation(self.count)

    def _end_epoch(self) -> None:
        position = self.position
        position.losses.append([total / self.count for total in position.sums])
        position.epoch, position.step, position.sums = position.epoch + 1, 0, [0.0] * len(self.learners)
        if self.method is not None and self.runtime.after_epoch is not None:
            self.runtime.after_epoch(position.epoch, self.method)
        self._checkpoint()

    def _state(self) -> str:
        seen = min(self.position.step * self.schedule.batch_size, self.count)
        losses = " ".join(f"{total / seen:.4g}" for total in self.position.sums)
        return f"epoch {self.position.epoch + 1}/{self.schedule.epochs}, loss {losses}"

    @property
    def _file(self) -> Path | None:
        folder = self.runtime.checkpoints
        return None if folder is None else folder / f"{self.phase}.safetensors"

    def _checkpoint(self) -> None:
        self.written = time.monotonic()
        if self._file is None:
            return
        tensors = {name: tensor for learner in self.learners for name, tensor in learner.tensors().items()}
        facts = {"count": self.count, "steps": self.steps, **self.position.__dict__}
        write_checkpoint(self._file, tensors, facts)

    def _resume(self) -> None:
        found = None if self._file is None else read_checkpoint(self._file)
        if found is None:
            return
        tensors, facts = found
        try:
            if (facts.pop("count"), facts.pop("steps")) != (self.count, self.steps):
                raise ValueError("another number of images or steps")
            for learner in self.learners:
                learner.load(tensors)
            self.position = _Position(**facts)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(
                f"Expected a checkpoint of this training in {self._file}, got another ({reason}). Remove the file."
            ) from error


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one.add_(other)
