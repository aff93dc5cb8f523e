"""What a learner prepares for coming steps: its order, its random numbers, its bound, and what it raises."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltbench.blocks.training.ahead import STEPS, Ahead
from ltbench.blocks.training.learner import Learner, Schedule, Shard, Shards
from ltbench.blocks.training.loop import train
from ltbench.method import Runtime

Seen = list[tuple[list[int], list[tuple[int, float]]]]


def _learner(seen: Seen, shards: Shards = "one", stop: int = -1, pause: float = 0.0) -> Learner:
    """Return a learner of w, towards what was drawn for each image; it stops at a step."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)

    def prepare(index: int, rng: np.random.Generator) -> tuple[int, float]:
        time.sleep(pause * (index % 3))
        return index, rng.random()

    def loss(shard: Shard) -> Tensor:
        if shard.step == stop:
            raise InterruptedError
        seen.append((shard.indices.tolist(), list(shard.prepared)))
        drawn = torch.tensor([[value] for _, value in shard.prepared])
        return (network.weight - drawn).square().mean()

    optimiser = torch.optim.Adam(network.parameters(), 0.1)
    return Learner("line", network, loss, optimiser, shards=shards, prepare=prepare)


def _trained(threads: int, seed: int = 0, **settings: Any) -> tuple[Seen, float]:
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seen: Seen = []
        made = _learner(seen, **settings)
        train([made], 7, Schedule(3, 4), Runtime(seed=seed))
        return seen, next(iter(made.network.parameters())).item()
    finally:
        torch.set_num_threads(usual)


def test_each_image_is_prepared_for_its_own_place() -> None:
    seen, _ = _trained(2)
    assert [len(indices) for indices, _ in seen] == [4, 3] * 3
    assert all([index for index, _ in prepared] == indices for indices, prepared in seen)
    drawn = [value for _, prepared in seen for _, value in prepared]
    assert len(set(drawn)) == 21, "no two draw the same"


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_and_pauses_do_not_change_a_bit(threads: int) -> None:
    assert _trained(threads, pause=0.003) == _trained(1)
    assert _trained(threads, seed=1) != _trained(1)


def test_each_shard_gets_what_was_prepared_for_its_images() -> None:
    whole, weight = _trained(1)
    cut, other = _trained(1, shards="apart")
    assert [part for _, prepared in cut for part in prepared] == [part for _, prepared in whole for part in prepared]
    assert weight == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("step", range(6))
def test_an_interruption_changes_nothing(tmp_path: Path, step: int) -> None:
    wanted, weight = _trained(2)
    seen: Seen = []
    options: Any = {"checkpoints": tmp_path, "checkpoint_minutes": 0.0}
    with pytest.raises(InterruptedError):
        train([_learner(seen, stop=step)], 7, Schedule(3, 4), Runtime(**options))
    made = _learner(seen)
    train([made], 7, Schedule(3, 4), Runtime(**options))
    assert seen == wanted
    assert next(iter(made.network.parameters())).item() == weight


def test_no_more_than_two_steps_are_prepared_ahead() -> None:
    begun: list[int] = []
    done = threading.Event()

    def prepare(index: int, rng: np.random.Generator) -> int:
        begun.append(index)
        if len(begun) == 4 * (STEPS + 1):
            done.set()
        return index

    with Ahead(prepare, range(9), lambda step: np.arange(4 * step, 4 * step + 4), lambda step: (0, step)) as ahead:
        assert ahead.take() == [0, 1, 2, 3]
        assert done.wait(5), "the others begin by themselves"
        time.sleep(0.02)
        assert sorted(begun) == list(range(4 * (STEPS + 1)))
        assert [ahead.take()[0] for _ in range(8)] == [4 * step for step in range(1, 9)]
    assert len(begun) == 36


def test_what_a_preparation_raises_ends_the_training(tmp_path: Path) -> None:
    before = threading.active_count()

    def prepare(index: int, rng: np.random.Generator) -> int:
        if index == 5:
            raise ValueError("image 5")
        return index

    network = nn.Linear(1, 1)
    learner = Learner(
        "line",
        network,
        lambda shard: network.weight.sum(),
        torch.optim.SGD(network.parameters(), 0.1),
        prepare=prepare,
    )
    with pytest.raises(ValueError, match="image 5"):
        train([learner], 7, Schedule(3, 4), Runtime())
    assert threading.active_count() == before, "no thread is left behind"
