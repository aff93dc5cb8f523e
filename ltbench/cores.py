"""The cores of the machine: how many a process may use, and tasks that run side by side on them, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


def usable_cores() -> int:
    """Return how many cores this process may use: those it can run on, or OMP_NUM_THREADS if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdigit() and int(limit) else cores


def in_order(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    """Yield the result of each task, in order, with up to `workers` of them running in threads of their own.

    Args:
        tasks: what to run. They are drawn in the calling thread, at most two a worker ahead of what was yielded.
        workers: how many run at once, at least 1.

    Yields:
        What each task returned. What it raised is raised here.
    """
    with closing(ahead(tasks, workers)) as results:
        for result in results:
            yield result()


def ahead(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[Callable[[], T], None, None]:
    """Yield, for each task in order, what waits for its result and returns it, or raises what the task raised.

    Whoever takes it may hand it on to another thread: nothing waits here. Arguments are those of `in_order`.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ltbench") as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(task))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result
            while pending:
                yield pending.popleft().result
        finally:
            for future in pending:
                future.cancel()
