"""Sort float32 pixels by radix, for processors on which NumPy's sort is slow.

NumPy sorts float32 at 3 to 10 ns a value with AVX2 or AVX-512, but at 40 on Zen 4, whose compress-store instruction is
microcoded (numpy/x86-simd-sort, issue 6). The values' bit patterns, turned so that they are in order as integers (Herf,
"Radix Tricks", 2001), are dealt out by their upper 16 bits straight from the maps, in several threads, and what falls
together is ordered by its lower 16 bits. It takes linear time whatever the values are, and no copy of all of them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ltbench.compiled import compiled
from ltbench.cores import usable_cores

_BINS = 1 << 16
_FEW = 32  # values that are ordered by insertion
_SIGN, _SIGN_BIT, _HALF, _BYTE, _LOW = np.uint32(1 << 31), np.uint32(31), np.uint32(16), np.uint32(8), np.uint32(255)
_ALL = np.uint32(0xFFFFFFFF)

Keys = NDArray[np.uint32]


def ascending(
    maps: NDArray[np.float32], masks: NDArray[np.bool_], *, wanted: bool, threads: int | None = None
) -> NDArray[np.float32]:
    """Return `maps[masks == wanted]` in ascending order, -0.0 before 0.0.

    Args:
        maps: float32 of any shape. NaN comes first or last, by its sign.
        masks: booleans of that shape.
        wanted: which values of the masks to take.
        threads: how many work, or None for one a core that the process may use.
    """
    patterns, flags = np.ascontiguousarray(maps).reshape(-1).view(np.uint32), np.ascontiguousarray(masks).reshape(-1)
    threads = threads or usable_cores()
    cuts = [len(patterns) * part // threads for part in range(threads + 1)]
    parts = [slice(*cut) for cut in pairwise(cuts)]
    counts = np.zeros((threads, _BINS), np.int64)
    with ThreadPoolExecutor(threads) as pool:
        for task in [pool.submit(_count, patterns[p], flags[p], wanted, counts[n]) for n, p in enumerate(parts)]:
            task.result()
        totals = counts.sum(axis=0)
        starts = np.concatenate([[0], np.cumsum(totals)])
        places = starts[:-1] + np.cumsum(counts, axis=0) - counts
        keys = np.empty(starts[-1], np.uint32)
        for task in [pool.submit(_deal, patterns[p], flags[p], wanted, places[n], keys) for n, p in enumerate(parts)]:
            task.result()
        bounds = np.searchsorted(starts, [len(keys) * part // threads for part in range(1, threads)])
        for task in [
            pool.submit(_order, keys, starts, first, last, np.empty(totals[first:last].max(initial=0), np.uint32))
            for first, last in zip([0, *bounds.tolist()], [*bounds.tolist(), _BINS], strict=True)
        ]:
            task.result()
    return keys.view(np.float32)


@compiled
def _count(patterns: Keys, flags: NDArray[np.bool_], wanted: bool, counts: NDArray[np.int64]) -> None:
    """Count the wanted values by the upper half of their keys."""
    for i in range(len(patterns)):
        if flags[i] == wanted:
            pattern = patterns[i]
            counts[(pattern ^ (np.uint32(np.int32(pattern) >> _SIGN_BIT) | _SIGN)) >> _HALF] += 1


@compiled
def _deal(patterns: Keys, flags: NDArray[np.bool_], wanted: bool, places: NDArray[np.int64], keys: Keys) -> None:
    """Write the wanted values' keys behind one another, those with one upper half from its place on."""
    for i in range(len(patterns)):
        if flags[i] == wanted:
            pattern = patterns[i]
            key = pattern ^ (np.uint32(np.int32(pattern) >> _SIGN_BIT) | _SIGN)
            place = places[key >> _HALF]
            places[key >> _HALF] = place + 1
            keys[place] = key


@compiled
def _order(keys: Keys, starts: NDArray[np.int64], first: int, last: int, spare: Keys) -> None:
    """Order the keys of each upper half from `first` to `last` by the lower half; turn them into patterns again."""
    low, high = np.empty(256, np.int64), np.empty(256, np.int64)
    for half in range(first, last):
        start, end = starts[half], starts[half + 1]
        if end - start <= _FEW:
            for i in range(start + 1, end):
                key, place = keys[i], i
                while place > start and keys[place - 1] > key:
                    keys[place] = keys[place - 1]
                    place -= 1
                keys[place] = key
        else:
            _by_bytes(keys[start:end], spare, low, high)
        for i in range(start, end):
            keys[i] ^= _SIGN if keys[i] & _SIGN else _ALL


@compiled
def _by_bytes(keys: Keys, spare: Keys, low: NDArray[np.int64], high: NDArray[np.int64]) -> None:
    """Order keys by their lowest byte into `spare`, and by the next byte back."""
    low[:] = 0
    high[:] = 0
    for key in keys:
        low[key & _LOW] += 1
        high[(key >> _BYTE) & _LOW] += 1
    before_low = before_high = 0
    for byte in range(256):
        before_low, low[byte] = before_low + low[byte], before_low
        before_high, high[byte] = before_high + high[byte], before_high
    for key in keys:
        spare[low[key & _LOW]] = key
        low[key & _LOW] += 1
    for i in range(len(keys)):
        key = spare[i]
        keys[high[(key >> _BYTE) & _LOW]] = key
        high[(key >> _BYTE) & _LOW] += 1
