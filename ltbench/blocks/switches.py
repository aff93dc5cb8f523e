"""torch's switches inside a block: full float32 and fixed algorithms, whatever the program has chosen elsewhere.

torch keeps a precision for everything, one for each library and one for each kind of operation; one that is "none"
follows the one above it. cuDNN's start as "tf32" and follow all the same, but only until something is written to them:
who writes back the "tf32" that was read cuts them off from the switches above. Therefore the topmost is set first, and
below it only what still says otherwise. That was written to before, so that writing back what was read restores it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch

from ltbench.blocks.threads import torch_on_one_thread

Precision = Literal["float32", "tf32", "bf16"]
"""What a backbone computes in: "float32" in full; "tf32", products of float32 rounded to 10 bits, on CUDA; "bf16",
convolutions and products in bfloat16. What it gives is float32 in any case."""

CPU = torch.device("cpu")

Undo = Callable[[], object]
"""Puts a switch back to where it was."""

_FULL = ("none", "ieee")
"""Precisions that round no factor of a product to fewer bits."""


class _Turned:
    """Turns switches when the first thread comes in, and back when the last one leaves: they are the process's."""

    def __init__(self, turn: Callable[[], Iterator[Undo]]) -> None:
        self._turn = turn
        self._guard = threading.Lock()
        self._inside = 0
        self._before: list[Undo] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._guard:
            if self._inside == 0:
                self._before = list(self._turn())
            self._inside += 1
        try:
            yield
        finally:
            with self._guard:
                self._inside -= 1
                if self._inside == 0:
                    for undo in reversed(self._before):
                        undo()


def _turn(holder: Any, name: str, value: object) -> Undo:
    undo = partial(setattr, holder, name, getattr(holder, name))
    setattr(holder, name, value)
    return undo


def _full_precision() -> Iterator[Undo]:
    backends: Any = torch.backends
    cudnn, matmul, mkldnn = backends.cudnn, backends.cuda.matmul, backends.mkldnn
    if not hasattr(backends, "fp32_precision"):  # torch before 2.9
        yield _turn(cudnn, "allow_tf32", value=False)
        yield _turn(matmul, "allow_tf32", value=False)
        return
    operations = (cudnn.conv, cudnn.rnn, matmul, mkldnn.conv, mkldnn.rnn, mkldnn.matmul)
    if all(one.fp32_precision in _FULL for one in operations):
        return
    yield _turn(backends, "fp32_precision", "ieee")
    for holder in (cudnn, *operations):
        if holder.fp32_precision not in _FULL:
            yield _turn(holder, "fp32_precision", "ieee")


def _tf32() -> Iterator[Undo]:
    backends: Any = torch.backends
    if hasattr(backends, "fp32_precision"):
        for holder in (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul):
            if holder.fp32_precision == "tf32":
                continue
            yield _turn(holder, "fp32_precision", "tf32")
    else:
        yield _turn(backends.cudnn, "allow_tf32", value=True)
        yield _turn(backends.cuda.matmul, "allow_tf32", value=True)


def _fixed_algorithms() -> Iterator[Undo]:
    for name, value in (("enabled", True), ("benchmark", False), ("deterministic", True)):
        yield _turn(torch.backends.cudnn, name, value)


def _fixed_gradients() -> Iterator[Undo]:
    # torch wants it said that cuBLAS shall not choose by what other streams do; there is one stream here in any case.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if not torch.get_deterministic_debug_mode():  # one who asked for errors keeps them
        yield partial(torch.set_deterministic_debug_mode, 0)
        torch.set_deterministic_debug_mode("warn")
    cuda: Any = torch.backends.cuda
    for kind in ("flash", "mem_efficient", "cudnn"):
        enable, before = getattr(cuda, f"enable_{kind}_sdp"), getattr(cuda, f"{kind}_sdp_enabled")()
        yield partial(enable, before)
        enable(enabled=False)


full_float32 = _Turned(_full_precision)
"""`with full_float32():` multiplies and convolves float32 in full, on a CPU and on CUDA. What the program had chosen,
by `fp32_precision` or by the switches that torch had before it, is put back. Threads may share it, and nest it.
"""

fixed_algorithms = _Turned(_fixed_algorithms)
"""`with fixed_algorithms():` lets cuDNN take the same deterministic algorithms whatever it ran before; otherwise as
`full_float32`."""

fixed_gradients = _Turned(_fixed_gradients)
"""`with fixed_gradients():` lets CUDA take the deterministic way back where torch has one; a warning says where it has
none. Attention is products and a softmax: fused kernels add up gradients in any order. Otherwise as `full_float32`."""

tf32 = _Turned(_tf32)
"""`with tf32():` lets CUDA round the factors of float32 products to 10 bits; otherwise as `full_float32`, which may be
nested in it but not be shared with it by another thread."""


@contextmanager
def reproducible(device: torch.device, precision: Precision = "float32", *, gradients: bool = False) -> Iterator[None]:
    """Let a result depend on its input alone: one thread on a CPU, fixed algorithms on CUDA; full float32, or TF32.

    Not to be nested on a CPU, as `torch_on_one_thread` is not.

    Args:
        device: where it is computed.
        precision: "tf32" lets CUDA round; nothing else is changed by it.
        gradients: whether gradients are taken, for which CUDA has fixed algorithms of their own.
    """
    with ExitStack() as stack:
        stack.enter_context(tf32() if precision == "tf32" else full_float32())
        if device.type == "cpu":
            stack.enter_context(torch_on_one_thread())
        else:
            stack.enter_context(fixed_algorithms())
            if gradients:
                stack.enter_context(fixed_gradients())
        yield
