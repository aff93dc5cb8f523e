"""Tasks side by side, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from ltbench.cores import ahead, in_order


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


def test_what_waits_for_a_result_can_be_handed_on() -> None:
    def fail() -> int:
        raise ValueError("the second")

    tasks: list[Callable[[], int]] = [partial(late, 1), fail, partial(late, 5)]
    first, second, third = ahead(tasks, workers=2)
    assert (third(), first()) == (5, 1)
    with pytest.raises(ValueError, match="the second"):
        second()
