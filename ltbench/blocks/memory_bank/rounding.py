"""Rows rounded to int8, and their products, which are integers: exact, and up to four times faster than float32's."""

from __future__ import annotations

import time
from functools import cache, partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.networks.linear import linear
from ltbench.blocks.switches import full_float32
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.compiled import compiled

Array = NDArray[np.float32]

STEPS = 127
"""A row's largest value becomes so many."""

_NARROWEST, _WIDEST = 8, 2**16  # columns: torch's product of one is wrong, and int32 holds a sum of so many products
_TRIED, _ROUNDS = (256, 1024), 5  # rows of the products, and their repetitions, by which a machine is tried


class Rounded(NamedTuple):
    """Rows (n, D) as multiples of a scale.

    Args:
        values: (n, D) from -127 to 127.
        scales: (n,).
        squares: (n,) squared lengths of what they stand for.
        losses: (n,) its distances from the rows, at most.
    """

    values: NDArray[np.int8]
    scales: Array
    squares: NDArray[np.float64]
    losses: NDArray[np.float64]


def rounded(rows: Array) -> Rounded:
    """Round rows (n, D)."""
    count = len(rows)
    found = Rounded(np.zeros(rows.shape, np.int8), np.zeros(count, np.float32), np.zeros(count), np.zeros(count))
    _round(rows, *found)
    return found


def multiplied(queries: Rounded, values: NDArray[np.int8], scales: Array, norms: Array) -> Array:
    """Return norms - 2 q r, (Q, B), of queries and of rows with these values (B, D) and scales (B,).

    It is off by five roundings of the norm and of 2 |q| |r|, and by what `underflow` says.
    """
    products = torch._int_mm(torch.from_numpy(queries.values), torch.from_numpy(values).T).numpy()
    estimates = products.view(np.float32)
    _scale(products, 2 * queries.scales, scales, norms, estimates)
    return estimates


def underflow(columns: int) -> float:
    """Return what `multiplied` loses at most where the product of two scales is too small for float32."""
    return STEPS**2 * columns * 2.0**-125


@cache
def multiplies_bytes(columns: int) -> bool:
    """Return whether this machine multiplies int8 exactly, and faster than float32, in rows of so many columns.

    Which is faster decides how fast neighbours are found, never which.
    """
    if not multiplies_exactly(columns):
        return False
    one, other = _tried(columns)
    whole, zeros = (one.float(), other.float()), torch.zeros(len(other))
    with torch_on_one_thread(), torch.no_grad(), full_float32():
        quick = min(_seconds(one, other, None) for _ in range(_ROUNDS))
        return quick < min(_seconds(*whole, zeros) for _ in range(_ROUNDS))


@cache
def multiplies_exactly(columns: int) -> bool:
    """Return whether this machine multiplies int8 exactly in rows of so many columns.

    Where instructions add pairs of products in 16 bits these saturate at the largest factors, which are tried.
    """
    if not _NARROWEST <= columns <= _WIDEST or not hasattr(torch, "_int_mm"):
        return False
    one, other = _tried(columns)
    try:
        with torch_on_one_thread(), torch.no_grad():
            expected = one.double() @ other.double().T
            return all(
                torch.equal(torch._int_mm(one[:n], other[:m].T).double(), expected[:n, :m])
                for n, m in product((1, 17, len(one)), (1, 5, len(other)))
            )
    except RuntimeError:  # torch has no such product here
        return False


def _tried(columns: int) -> tuple[Tensor, Tensor]:
    """Return rows of int8 whose products a machine is tried by."""
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randint(-STEPS, STEPS + 1, (n, columns), generator=draw, dtype=torch.int8) for n in _TRIED)
    one[:2], other[:2], one[2:4, ::2], other[2:4, 1::2] = STEPS, -STEPS, STEPS, STEPS
    return one, other


def _seconds(one: Tensor, other: Tensor, bias: Tensor | None) -> float:
    start = time.perf_counter()
    _ = torch._int_mm(one, other.T) if bias is None else linear(one, other, bias)
    return time.perf_counter() - start


@partial(compiled, fastmath=frozenset({"reassoc", "contract"}))
def _round(
    rows: Array,
    values: NDArray[np.int8],
    scales: Array,
    squares: NDArray[np.float64],
    losses: NDArray[np.float64],
) -> None:
    """Write what `Rounded` has. A loss is a sum in float64, raised by more than its roundings."""
    for n in range(len(rows)):
        largest = np.float32(0)
        for c in range(rows.shape[1]):
            largest = max(largest, abs(rows[n, c]))
        steps = np.float32(STEPS) / largest if 1e-30 < largest < 1e30 else np.float32(0)  # else: all are 0
        scale = np.float32(1) / steps if steps > 0 else np.float32(0)
        square, loss = 0.0, 0.0
        for c in range(rows.shape[1]):
            step = np.rint(rows[n, c] * steps)
            values[n, c] = np.int8(step)
            square += np.float64(step) * np.float64(step)
            left = np.float64(scale) * np.float64(step) - np.float64(rows[n, c])
            loss += left * left
        scales[n] = scale
        squares[n] = np.float64(scale) * np.float64(scale) * square
        losses[n] = np.sqrt(loss) * (1 + 2.0**-20)


@compiled
def _scale(products: NDArray[np.int32], doubled: Array, scales: Array, norms: Array, estimates: Array) -> None:
    """Write norms - products of rows whose scales these are, over the products themselves."""
    for q in range(products.shape[0]):
        for j in range(products.shape[1]):
            estimates[q, j] = norms[j] - (doubled[q] * scales[j]) * np.float32(products[q, j])
