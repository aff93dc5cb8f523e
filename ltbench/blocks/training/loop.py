"""One loop for every network that is trained: steps, schedule, checkpoints, progress.

Its result depends on the seed, the data and the settings alone. On a CPU a batch is cut into shards of two images; each
shard goes forward and backward on one thread, several shards at a time, and their gradients are added in order, so
that neither the number of threads nor an interruption changes a bit. On CUDA a batch is one shard. What a learner
prepares of each image is made in other threads, for coming steps.
"""

from __future__ import annotations

import math
import time
import zlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.switches import full_float32, reproducible
from ltbench.blocks.training.ahead import Ahead
from ltbench.blocks.training.checkpoints import Position, read_checkpoint, write_checkpoint
from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.exchange import AbandonedError, Exchange
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.errors import DataError, LtbenchError
from ltbench.method import Method, Runtime

T = TypeVar("T")

SHARD = 2
"""Images of a shard on a CPU. Part of the definition of a result: another number gives other last digits."""

_PREPARATION = 1
"""Tells the random numbers of a preparation from those of a shard."""


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
        LtbenchError: a loss or a gradient that is not finite; the message says where.
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
        self.steps, self.total = schedule.epoch_steps(count), schedule.total_steps(count)
        self.device = torch.device(runtime.device)
        self.on_cpu = self.device.type == "cpu"
        self.position = Position(sums=[0.0] * len(learners))
        self.written = time.monotonic()
        self.ahead: list[Ahead] = []
        self.order = lru_cache(2)(self._order)

    def run(self) -> None:
        self._resume()
        progress, position = self.runtime.progress, self.position
        with ExitStack() as stack:
            stack.enter_context(full_float32())  # once, so that no step turns the switches there and back
            pool = stack.enter_context(ThreadPoolExecutor(self._workers, thread_name_prefix="ltbench"))
            self.ahead = [stack.enter_context(self._ahead(*each)) for each in enumerate(self.learners)]
            for _ in progress.track(range(self._done, self.total), self.phase, self.total, self._done):
                start = time.perf_counter()
                with progress.timed(self.phase):
                    self._step(pool)
                position.seconds += time.perf_counter() - start
                progress.tell(self._state())
                if position.step == self.steps or self._done == self.total:
                    self._end_epoch()
                elif time.monotonic() - self.written >= 60 * self.runtime.checkpoint_minutes:
                    self._checkpoint()
        losses = {
            learner.name: [epoch[number] for epoch in position.losses] for number, learner in enumerate(self.learners)
        }
        self.runtime.notes.setdefault("losses", {})[self.phase] = losses

    @property
    def _done(self) -> int:
        return self.position.epoch * self.steps + self.position.step

    @property
    def _workers(self) -> int:
        """How many threads there are: a core each, or a shard each where shards wait for one another."""
        if not self.on_cpu:
            return 1
        shards = math.ceil(min(self.count, self.schedule.batch_size) / SHARD)
        coupled = any(learner.shards == "coupled" for learner in self.learners)
        return max(torch.get_num_threads(), shards if coupled else 1)

    def _ahead(self, number: int, learner: Learner) -> Ahead:
        """Return what prepares the images of the coming steps for a learner."""

        def seeds(done: int) -> tuple[int, ...]:
            return *self._seeds(number, *divmod(done, self.steps)), _PREPARATION

        steps = range(self._done, self.total)
        return Ahead(learner.prepare, steps, lambda done: self._batch(*divmod(done, self.steps)), seeds)

    def _batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        size = self.schedule.batch_size
        return self.order(epoch)[step * size : (step + 1) * size]

    def _step(self, pool: ThreadPoolExecutor) -> None:
        position = self.position
        batch = self._batch(position.epoch, position.step)
        factor = self.schedule.lr_factor(self._done, self.count)
        for number, learner in enumerate(self.learners):
            learner.set_lr(factor)
            loss, gradients = self._gradients(learner, number, batch, pool)
            self._check_finite("loss", loss, learner)
            with reproducible(self.device, gradients=True):
                self._check_finite("gradient", learner.clip(gradients), learner)
                learner.step()
            position.sums[number] += loss * len(batch)
        position.step += 1

    def _check_finite(self, what: str, value: float, learner: Learner) -> None:
        """Raise an error that says where a loss or the norm of a gradient is not finite; the weights are untouched."""
        if not math.isfinite(value):
            raise LtbenchError(
                f"Expected a finite {what}, got {value} in {self.phase} of {learner.name}, epoch "
                f"{self.position.epoch + 1} of {math.ceil(self.total / self.steps)}, "
                f"step {self.position.step + 1} of {self.steps}. "
                "Lower the learning rate."
            )

    def _gradients(
        self, learner: Learner, number: int, batch: NDArray[np.int64], pool: ThreadPoolExecutor
    ) -> tuple[float, list[Tensor | None]]:
        """Return the loss of a batch and its gradient: those of its shards, added in order."""
        whole = not self.on_cpu or learner.shards == "one"
        size = len(batch) if whole else SHARD
        cuts = [slice(start, start + size) for start in range(0, len(batch), size)]
        prepared, exchange = self.ahead[number].take(), Exchange(len(cuts))
        task = partial(self._shard, learner, number, len(batch), exchange)
        pending = deque(pool.submit(task, place, batch[cut], prepared[cut]) for place, cut in enumerate(cuts))
        loss, total = 0.0, list[Tensor | None]()
        while pending:
            part, gradients = _result(pending)
            loss += part
            if not total:
                total = list(gradients)
                continue
            with reproducible(self.device, gradients=True):
                total = [_sum(one, other) for one, other in zip(total, gradients, strict=True)]
        return loss, total

    def _shard(
        self,
        learner: Learner,
        number: int,
        size: int,
        exchange: Exchange,
        place: int,
        indices: NDArray[np.int64],
        prepared: Sequence[Any],
    ) -> tuple[float, tuple[Tensor | None, ...]]:
        """Return a shard's part in the loss of its batch of `size` images, and the gradient of that."""
        seeds = self._seeds(number, self.position.epoch, self.position.step)
        shard = Shard(
            indices,
            draws=Draws(*seeds, place * SHARD + 1, device=self.device),
            step_draws=Draws(*seeds, 0, device=self.device),
            number=place,
            step=self._done,
            exchange=exchange,
            prepared=prepared,
        )
        half = self.schedule.precision == "bfloat16"
        try:
            with reproducible(self.device, gradients=True):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                    loss = learner.loss(shard) * (len(indices) / size)
                return loss.item(), torch.autograd.grad(loss, learner.parameters, allow_unused=True)
        except BaseException:
            exchange.abandon()
            raise

    def _seeds(self, *numbers: int) -> tuple[int, ...]:
        """Return what random numbers of this training depend on, beside the numbers given."""
        return self.runtime.seed, zlib.crc32(self.phase.encode()), *numbers

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the images in the order in which an epoch takes them."""
        return np.random.Generator(np.random.PCG64(self._seeds(epoch))).permutation(self.count)

    def _end_epoch(self) -> None:
        position = self.position
        position.losses.append([total / self._seen for total in position.sums])
        position.epoch, position.step, position.sums = position.epoch + 1, 0, [0.0] * len(self.learners)
        if self.method is not None and self.runtime.after_epoch is not None:
            self.runtime.after_epoch(position.epoch, self.method)
        self._checkpoint()

    @property
    def _seen(self) -> int:
        """How many images the epoch has taken so far."""
        return min(self.position.step * self.schedule.batch_size, self.count)

    def _state(self) -> str:
        losses = " ".join(f"{total / self._seen:.4g}" for total in self.position.sums)
        return f"epoch {self.position.epoch + 1}/{math.ceil(self.total / self.steps)}, loss {losses}"

    @property
    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been written under to be gone on from."""
        schedule = asdict(self.schedule) | {"rate": repr(self.schedule.rate)}
        for name, usual in (("steps", 0), ("drop_last", False), ("rate", "None")):
            if schedule[name] == usual:  # as it was before schedules had it: older checkpoints go on
                del schedule[name]
        return {"number of images": self.count, "seed": self.runtime.seed, "schedule": schedule}

    @property
    def _file(self) -> Path | None:
        folder = self.runtime.checkpoints
        return None if folder is None else folder / f"{self.phase}.safetensors"

    def _checkpoint(self) -> None:
        self.written = time.monotonic()
        if self._file is None:
            return
        tensors = {name: tensor for learner in self.learners for name, tensor in learner.tensors().items()}
        facts = self._identity | self.position.__dict__
        write_checkpoint(self._file, tensors, facts)

    def _resume(self) -> None:
        found = None if self._file is None else read_checkpoint(self._file)
        if found is None:
            return
        tensors, facts = found
        try:
            for name, value in self._identity.items():
                if facts.pop(name) != value:
                    raise ValueError(f"another {name}")
            for learner in self.learners:
                learner.load(tensors)
            self.position = Position(**facts)
            self.runtime.progress.add_seconds(self.phase, self.position.seconds)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(
                f"Expected a checkpoint of this training in {self._file}, got another ({reason}). Remove the file."
            ) from error


def _result(pending: deque[Future[T]]) -> T:
    """Return what the first shard found and take it away; if one failed, raise its error, not that others waited."""
    try:
        return pending.popleft().result()
    except AbandonedError:
        failures = [failure for future in pending if (failure := future.exception())]
        raise next(failure for failure in failures if not isinstance(failure, AbandonedError)) from None


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one.add_(other)
