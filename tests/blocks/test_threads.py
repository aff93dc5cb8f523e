"""Work on one thread of torch."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ltbench.blocks.threads import torch_on_one_thread


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
