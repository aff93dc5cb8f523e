"""What the shards of one step tell one another while each computes its loss in a thread of its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class AbandonedError(Exception):
    """Another shard of the step failed, so that this one waits for nothing."""


class Exchange:
    """Lets shards see values of all of them, and take turns, in their order; whatever the threads do.

    Args:
        count: number of shards, each with a thread of its own.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._changed = threading.Condition()
        self._calls: Counter[int] = Counter()
        self._given: dict[int, dict[int, Tensor]] = {}
        self._turn = 0
        self._abandoned = False

    def gather(self, number: int, values: Tensor) -> Tensor:
        """Return what all shards give in this call, (sum of n, ...), in their order and without gradients.

        Each shard calls it equally often; it waits for the others.

        Args:
            number: of the shard, from 0.
            values: (n, ...) of the shard.
        """
        with self._changed:
            call = self._calls[number]
            self._calls[number] += 1
            given = self._given.setdefault(call, {})
            given[number] = values.detach()
            self._changed.notify_all()
            self._wait(lambda: len(given) == self._count)
        return torch.cat([given[other] for other in range(self._count)])

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Enter the block once all shards before this one have left theirs; once a step.

        Args:
            number: of the shard, from 0.
        """
        with self._changed:
            self._wait(lambda: self._turn == number)
        yield
        with self._changed:
            self._turn += 1
            self._changed.notify_all()

    def abandon(self) -> None:
        """Let whoever waits stop with `AbandonedError`."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._abandoned or ready())
        if self._abandoned:
            raise AbandonedError
