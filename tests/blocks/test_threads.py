"""Work on one thread of torch, and of numpy's BLAS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import faiss  # noqa: F401  its BLAS
import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits  # type: ignore[import-untyped]

from ltbench.blocks import threads
from ltbench.blocks.threads import products_on_one_thread, torch_on_one_thread


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


def blas_counts() -> set[int]:
    """Return that of numpy's, which has one a process."""
    found = (library for library in threadpool_info() if library["user_api"] == "blas")
    return {library["num_threads"] for library in found if library.get("threading_layer") != "openmp"}


def test_a_library_with_a_count_a_thread_keeps_it() -> None:
    """FAISS's: what one thread sets there the last one to leave could not put back."""

    def counts() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library.get("threading_layer") == "openmp"]

    usual = counts()
    if not usual:
        pytest.skip("needs an OpenBLAS that works with OpenMP")
    with ThreadPoolExecutor(1) as there, ExitStack() as one, ExitStack() as other:
        one.enter_context(products_on_one_thread())
        there.submit(other.enter_context, products_on_one_thread()).result()
        one.close()
        there.submit(other.close).result()
        assert counts() == usual


def test_the_usual_count_of_blas_is_put_back_when_the_last_one_has_left() -> None:
    with threadpool_limits(3, user_api="blas"):
        assert blas_counts() == {3}
        with pytest.raises(KeyError), products_on_one_thread():
            assert blas_counts() == {1}
            with products_on_one_thread():
                assert blas_counts() == {1}
            assert blas_counts() == {1}, "others are inside"
            raise KeyError
        assert blas_counts() == {3}


def set_blas(count: int) -> None:
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        clear = getattr(library, "clear_controlling_thread", lambda **_: None)
        clear(force=True)  # whichever thread has set it before
        library.set_num_threads(count)
        clear()


@pytest.fixture
def _three() -> Iterator[None]:
    before = max(blas_counts())
    set_blas(3)
    yield
    set_blas(before)


@pytest.mark.usefixtures("_three")
@pytest.mark.parametrize("is_here", [True, False])
def test_whichever_thread_leaves_last_puts_it_back(is_here: bool) -> None:
    with ThreadPoolExecutor(1) as there, ExitStack() as one, ExitStack() as other:
        one.enter_context(products_on_one_thread())
        there.submit(other.enter_context, products_on_one_thread()).result()
        assert blas_counts() == {1}
        if is_here:
            there.submit(other.close).result()
            one.close()
        else:
            one.close()
            there.submit(other.close).result()
        assert blas_counts() == {3}


@pytest.mark.usefixtures("_three")
def test_nor_is_it_lost_where_several_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them counting for itself would note another's single thread as usual, and leave it behind."""
    turns = iter(range(2))

    def slow() -> Any:
        time.sleep(0.1 + 0.2 * next(turns))  # both look, and the second has them when the first is inside
        return ThreadpoolController()

    def inside() -> None:
        with products_on_one_thread():
            time.sleep(0.4)

    monkeypatch.setattr(threads, "ThreadpoolController", slow)
    monkeypatch.setattr(threads, "_one_product", threads._OneProduct())
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(inside) for _ in range(2)]:
            one.result()
    assert blas_counts() == {3}


@pytest.mark.usefixtures("_three")
def test_other_threads_can_still_limit_it() -> None:
    def limited() -> set[int]:
        with threadpool_limits(2, user_api="blas"):
            return blas_counts()

    with products_on_one_thread():
        pass
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(limited).result() == {2}
