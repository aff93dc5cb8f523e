"""torch's switches inside a block: full float32 and fixed algorithms, whatever the program has chosen elsewhere.

torch keeps a precision for everything, one for each library and one for each kind of operation; one that is "none"
follows the one above it. cuDNN's start as "tf32" and follow all the same, but only until something is written to them:
who writes back the "tf32" that was read cuts them off from the switches above. Therefore the topmost is set first, and
below it only what still says otherwise. That was written to before, so that writing back what was read restores it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from ltbench.blocks.threads import torch_on_one_thread

Precision = Literal["float32", "tf32", "bf16"]
"""What a backbone computes in: "float32" in full; "tf32", products of float32 rounded to 10 bits, on CUDA; "bf16",
convolutions and products in bfloat16. What it gives is float32 in any case."""

Switch = tuple[Any, str, Any]
"""What holds a switch, its name, and the value to put back."""

_FULL = ("none", "ieee")
"""Precisions that round no factor of a product to fewer bits."""


class _Turned:
    """Turns switches when the first thread comes in, and back when the last one leaves: they are the process's."""

    def __init__(self, turn: Callable[[], Iterator[Switch]]) -> None:
        self._turn = turn
        self._guard = threading.Lock()
        self._inside = 0
        self._before: list[Switch] = []

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
                    for holder, name, value in reversed(self._before):
                        setattr(holder, name, value)


def _turn(holder: Any, name: str, value: object) -> Switch:
    before = getattr(holder, name)
    setattr(holder, name, value)
    return holder, name, before


def _full_precision() -> Iterator[Switch]:
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


def _tf32() -> Iterator[Switch]:
    backends: Any = torch.backends
    if hasattr(backends, "fp32_precision"):
        for holder in (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul):
            if holder.fp32_precision == "tf32":
                continue
            yield _turn(holder, "fp32_precision", "tf32")
    else:
        yield _turn(backends.cudnn, "allow_tf32", value=True)
        yield _turn(backends.cuda.matmul, "allow_tf32", value=True)


def _fixed_algorithms() -> Iterator[Switch]:
    for name, value in (("enabled", True), ("benchmark", False), ("deterministic", True)):
        yield _turn(torch.backends.cudnn, name, value)


full_float32 = _Turned(_full_precision)
"""`with full_float32():` multiplies and convolves float32 in full, on a CPU and on CUDA. What the program had chosen,
by `fp32_precision` or by the switches that torch had before it, is put back. Threads may share it, and nest it.
"""

fixed_algorithms = _Turned(_fixed_algorithms)
"""`with fixed_algorithms():` lets cuDNN take the same deterministic algorithms whatever it ran before; otherwise as
`full_float32`."""

tf32 = _Turned(_tf32)
"""`with tf32():` lets CUDA round the factors of float32 products to 10 bits; otherwise as `full_float32`, which may be
nested in it but not be shared with it by another thread."""


@contextmanager
def reproducible(device: torch.device, precision: Precision = "float32") -> Iterator[None]:
    """Let a result depend on its input alone: one thread on a CPU, fixed algorithms on CUDA; full float32, or TF32."""
    products = tf32() if precision == "tf32" else full_float32()
    with products, torch_on_one_thread() if device.type == "cpu" else fixed_algorithms():
        yield
