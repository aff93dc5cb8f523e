"""Tasks side by side, each on one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from ltbench.blocks.threads import in_order, torch_on_one_thread


def late(value: int) -> int:
    time.sleep(0.01 * (value % 3))
    return value


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers: int) -> None:
    assert list(in_order((partial(late, value) for value in range(20)), workers)) == list(range(20))
    assert list(in_order([], workers)) == []


def test_tasks_are_drawn_in_the_calling_thread_and_not_far_ahead() -> None:
    drawn: list[int] = []

    def tasks() -> Iterator[Callable[[], int]]:
        for value in range(100):
            assert threading.current_thread() is threading.main_thread()
            drawn.append(value)
            yield partial(late, value)

    results = in_order(tasks(), workers=2)
    assert next(results) == 0
    assert len(drawn) <= 5
    results.close()
    assert len(drawn) <= 5


def test_what_a_task_raises_is_raised() -> None:
    def fail() -> int:
        raise ValueError("the third")

    tasks: list[Callable[[], int]] = [partial(late, 0), partial(late, 1), fail, partial(late, 3)]
    results = in_order(tasks, workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)


def test_the_usual_count_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyError), torch_on_one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: inside(), range(40))) == {1}
            assert set(pool.map(lambda _: torch.get_num_threads(), range(40))) == {3}
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def inside() -> int:
    with torch_on_one_thread():
        time.sleep(0.002)
        return torch.get_num_threads()
