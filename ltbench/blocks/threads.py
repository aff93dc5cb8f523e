"""Several tasks at once, each on one thread, so that a result does not depend on how many threads there are.

oneDNN splits the sums of a 1x1 convolution by the number of threads, and a matrix product may round differently on two
threads than on one: the last digits then depend on the machine's load and settings. Work on one thread an image is
reproducible, and running several images side by side uses the cores at least as well as sharing one image out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

T = TypeVar("T")


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Run torch's CPU operations on the calling thread alone inside the block; other threads are not affected.

    `torch.set_num_threads` would change the whole process; OpenMP's own setting, used here, belongs to the calling
    thread and is put back at the end.
    """
    torch.get_num_threads()  # the first operation in a thread sets its OpenMP count: let that happen before, not inside
    with _openmp_beside_torch().limit(limits=1, user_api="openmp"):
        yield


@cache
def _openmp_beside_torch() -> ThreadpoolController:
    return ThreadpoolController()


def in_order(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    """Yield the result of each task, in order, with up to `workers` of them running in threads of their own.

    Args:
        tasks: what to run. They are drawn in the calling thread, at most two a worker ahead of what was yielded.
        workers: how many run at once, at least 1.

    Yields:
        What each task returned. What it raised is raised here.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ltbench") as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(task))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
