"""torch's switches of precision: full float32 inside, and outside whatever was there, in every combination."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.switches import fixed_algorithms, full_float32, reproducible

# Each combination in a child of its own: some of torch's switches cannot be turned back to how they start.
SCRIPT = """
import itertools, os, torch
from ltbench.blocks.switches import reproducible
b = torch.backends
PLACES = {"all": b, "cudnn": b.cudnn, "conv": b.cudnn.conv, "rnn": b.cudnn.rnn, "matmul": b.cuda.matmul,
          "cpu conv": b.mkldnn.conv, "cpu matmul": b.mkldnn.matmul}
OPERATIONS = ("conv", "rnn", "matmul", "cpu conv", "cpu matmul")

def read():
    return {name: place.fp32_precision for name, place in PLACES.items()}

def new(place, value):
    return lambda: setattr(PLACES[place], "fp32_precision", value)

def old(holder, value):
    return lambda: setattr(holder, "allow_tf32", value)

FIRST = [lambda: None]
FIRST += [new(place, value) for place in ("all", "conv", "matmul") for value in ("ieee", "tf32")]
FIRST += [old(b.cudnn, False), old(b.cudnn, True), old(b.cuda.matmul, True), new("cudnn", "tf32"), new("conv", "none")]
FIRST += [lambda v=v: torch.set_float32_matmul_precision(v) for v in ("medium", "high")]
AFTER = [new("all", "ieee"), new("cudnn", "tf32")]

def in_a_child(work):
    out, into = os.pipe()
    if not (child := os.fork()):
        os.write(into, repr(work()).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        result = eval(stream.read() or b"'died'")
    os.waitpid(child, 0)
    return result

def plain(first, after):
    first(); before = read(); after()
    return before, read()

def guarded(first, after):
    first(); before = read()
    with reproducible(torch.device("cuda")), reproducible(torch.device("cuda")):
        inside = read()
        assert b.cudnn.deterministic and not b.cudnn.benchmark
    assert all(inside[name] in ("ieee", "none") for name in OPERATIONS), inside
    assert read() == before, (read(), before)
    assert not b.cudnn.deterministic
    after()
    return before, read()

cases = list(itertools.product(FIRST, AFTER))
for case in cases:
    wanted, found = in_a_child(lambda: plain(*case)), in_a_child(lambda: guarded(*case))
    assert found == wanted, (found, wanted)
print(len(cases))
"""


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch has no fp32_precision before 2.9")
def test_every_choice_of_precision_is_overruled_and_put_back() -> None:
    """Also as later choices see it: a switch that followed the one above it goes on following it."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 14 * 2


def test_a_network_on_a_cpu_takes_no_notice_of_half_precision() -> None:
    image = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    backbone = load_backbone("test_vit", (1,), "random")
    (expected,) = backbone(image)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # bfloat16, where the processor has it
    try:
        np.testing.assert_array_equal(backbone(image)[0], expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_last_thread_to_leave_puts_back() -> None:
    before, both = torch.backends.cudnn.benchmark, Barrier(2, timeout=10)

    def inside(_: int) -> bool:
        both.wait()
        with fixed_algorithms(), full_float32():
            both.wait()
            return torch.backends.cudnn.benchmark

    torch.backends.cudnn.benchmark = True
    try:
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(inside, range(2))) == [False, False]
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = before


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_gradients_on_cuda_take_the_deterministic_way(chosen: int) -> None:
    """These are flags of the process, which need no device; one who asked torch for errors keeps them."""

    def fused() -> list[bool]:
        cuda: Any = torch.backends.cuda
        return [cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()]

    before = fused()
    torch.set_deterministic_debug_mode(chosen)
    try:
        with reproducible(torch.device("cuda"), gradients=True), reproducible(torch.device("cuda")):
            assert torch.get_deterministic_debug_mode() == max(chosen, 1)
            assert fused() == [False] * 3
        assert torch.get_deterministic_debug_mode() == chosen
        assert fused() == before
        with reproducible(torch.device("cpu"), gradients=True):
            assert torch.get_deterministic_debug_mode() == chosen
    finally:
        torch.set_deterministic_debug_mode(0)
