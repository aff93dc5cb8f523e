"""What the loss needs of each image, made in threads for the coming steps while the present one trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ltbench.blocks.threads import torch_on_one_thread
from ltbench.blocks.training.learner import Prepare

STEPS = 2
"""How many steps are prepared beside the one that is about to train: a bound on what lies in memory."""


class Ahead:
    """Gives what a learner prepares for one step after the other, in the order of its images, whatever the threads do.

    It has threads of its own, as many as torch, so that a preparation never waits behind a shard that waits for it.
    As a context it ends them.

    Args:
        prepare: the learner's, or None where it prepares nothing.
        steps: in which the training takes them.
        batch: returns the images of a step.
        seeds: returns what the random numbers of a step depend on; each image's depend on its place there as well.
    """

    def __init__(
        self,
        prepare: Prepare | None,
        steps: range,
        batch: Callable[[int], NDArray[np.int64]],
        seeds: Callable[[int], Sequence[int]],
    ) -> None:
        self._prepare, self._batch, self._seeds = prepare, batch, seeds
        self._coming: Iterator[int] = iter(steps)
        self._pending: deque[list[Future[Any]]] = deque()
        self._pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="ltbench-ahead")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self) -> list[Any]:
        """Return what was prepared for the next step, and let the next two begin; raise what a preparation raised."""
        if self._prepare is None:
            return []
        while len(self._pending) <= STEPS and (step := next(self._coming, None)) is not None:
            images = enumerate(self._batch(step).tolist())
            seeds = self._seeds(step)
            self._pending.append(
                [self._pool.submit(self._prepared, self._prepare, index, (*seeds, place)) for place, index in images]
            )
        return [future.result() for future in self._pending.popleft()]

    @staticmethod
    def _prepared(prepare: Prepare, index: int, seeds: Sequence[int]) -> Any:
        with torch_on_one_thread():
            return prepare(index, np.random.Generator(np.random.PCG64(np.random.SeedSequence(seeds))))
