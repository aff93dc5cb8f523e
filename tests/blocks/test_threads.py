"""Work on one thread of torch, and of numpy's BLAS."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

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
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


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
