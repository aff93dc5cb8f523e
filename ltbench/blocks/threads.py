"""Work on one thread of torch, so that a result does not depend on how many threads there are; and of numpy's BLAS.

torch computes a convolution in another way, with other last digits, on one thread than on several. Work on one thread
an image is reproducible, and running several images side by side uses the cores at least as well as sharing one out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

S = TypeVar("S")
T = TypeVar("T")


class _OneThread:
    """Which count of threads to put back. torch has one count a thread, and one for threads that it has yet to meet."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._inside = 0
        self.usual = 1

    def enter(self) -> None:
        with self._guard:
            count = torch.get_num_threads()  # also lets torch meet the calling thread
            if self._inside == 0:
                self.usual = count
            self._inside += 1
            torch.set_num_threads(1)

    def leave(self) -> None:
        with self._guard:
            self._inside -= 1
            torch.set_num_threads(self.usual)


_one_thread = _OneThread()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Run torch's CPU operations on the calling thread alone inside the block; the usual count is put back after it.

    Not to be nested.
    """
    _one_thread.enter()
    try:
        yield
    finally:
        _one_thread.leave()


class _OneProduct:
    """Which counts of threads to put back. numpy's BLAS, loaded when one first comes in, has one count a process.

    One that works with OpenMP, as FAISS's does, has a count a thread, which the last one to leave could not put back.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._inside = 0
        self._libraries: list[Any] | None = None
        self._usual: list[int] = []

    def enter(self) -> None:
        with self._guard:
            if self._libraries is None:
                found = ThreadpoolController().select(user_api="blas").lib_controllers
                self._libraries = [one for one in found if getattr(one, "threading_layer", None) != "openmp"]
            if self._inside == 0:
                self._usual = [library.get_num_threads() for library in self._libraries]
                self._set([1] * len(self._usual))
            self._inside += 1

    def leave(self) -> None:
        with self._guard:
            self._inside -= 1
            if self._inside == 0:
                self._set(self._usual)

    def _set(self, counts: list[int]) -> None:
        for library, count in zip(self._libraries or (), counts, strict=True):
            library.set_num_threads(count)
            if hasattr(library, "clear_controlling_thread"):  # `findings/threadpoolctl_one_thread_sets.sh`
                library.clear_controlling_thread()


_one_product = _OneProduct()


@contextmanager
def products_on_one_thread() -> Iterator[None]:
    """Run numpy's matrix products on the calling thread alone inside the block.

    For small ones: a second thread gains nothing there, and OpenBLAS keeps it busy with waiting for 70 ms after each
    (`findings/openblas_waits_busily.sh`), in which another image could have gone through a network.
    """
    _one_product.enter()
    try:
        yield
    finally:
        _one_product.leave()


def side_by_side(one: Callable[[], T], other: Callable[[], S]) -> tuple[T, S]:
    """Return what two tasks give, each on one thread; at the same time, unless torch had one thread to begin with.

    To be called inside `torch_on_one_thread`. What a task raised is raised here.

    Args:
        one: is run in the calling thread.
        other: is run in another, without gradients.
    """
    if _one_thread.usual == 1:
        return one(), other()
    pending = _others().submit(_alone, other)
    return one(), pending.result()


def _alone(task: Callable[[], T]) -> T:
    with torch.no_grad(), torch_on_one_thread():
        return task()


@cache
def _others() -> ThreadPoolExecutor:
    """Return the threads of `side_by_side`; as many as may call it at once, so that none waits for another."""
    return ThreadPoolExecutor(_one_thread.usual, thread_name_prefix="ltbench-beside")
