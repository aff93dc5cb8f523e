"""Distances measured row by row, and the choice of the nearest rows among those that estimates leave over."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.memory_bank.farthest import rough_distance
from ltbench.blocks.memory_bank.lof import kth_least
from ltbench.compiled import compiled

Array = NDArray[np.float32]

_GROUP = 16  # rows of whose estimates only the least is looked at first

LONGEST = 2.0**60
"""Lengths of rows of which float32 holds squares, products and sums of these."""


@compiled
def gamma(roundings: int, unit: float = 2.0**-24) -> float:
    """Return the largest relative error of a product of so many factors 1 + d, |d| <= unit, or their reciprocals.

    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, lemma 3.1.
    """
    return roundings * unit / (1 - roundings * unit)


@compiled
def tiny(columns: int) -> float:
    """Return a bound of what underflow takes from a sum of `columns` products of float32, flushed to zero or not."""
    return 2 * (columns + 8) * 2.0**-126


def summands(count: int) -> NDArray[np.int64]:
    """Return in which order NumPy adds `count` terms, for `squared_length`.

    NumPy halves a sum, at multiples of 8, until at most 128 terms are left.

    Returns:
        (P, 3): where each part begins, how many terms it has, and how many of the latest sums are added after it.
    """
    return np.array(_parts(0, count), np.int64)


def _parts(first: int, count: int) -> list[list[int]]:
    if count <= 128:
        return [[first, count, 0]]
    half = count // 2 - count // 2 % 8
    parts = _parts(first, half) + _parts(first + half, count - half)
    parts[-1][2] += 1
    return parts


@compiled
def squared_length(values: Array, order: NDArray[np.int64], buffer: Array) -> np.float32:
    """Return the sum of the squares as `(values ** 2).sum()` of NumPy has it, in float32, to the last bit.

    Args:
        values: (D,).
        order: `summands(D)`.
        buffer: (D,), overwritten.
    """
    for c in range(len(values)):
        buffer[c] = values[c] * values[c]
    sums = 0
    for part in range(len(order)):
        total = _strands(buffer, order[part, 0], order[part, 1])
        for _ in range(order[part, 2]):
            sums -= 1
            total = buffer[sums] + total
        buffer[sums] = total  # in front of all terms that are still to be added
        sums += 1
    squared: np.float32 = buffer[0]
    return squared


@compiled
def _strands(terms: Array, first: int, count: int) -> np.float32:
    """Return the sum of some terms as NumPy adds up to 128 of them: in eight strands, then what is left over."""
    total = np.float32(0)
    whole = first + count - count % 8
    if whole > first:
        t = terms[first : first + 8]
        s0, s1, s2, s3, s4, s5, s6, s7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
        for c in range(first + 8, whole, 8):
            s0 += terms[c]
            s1 += terms[c + 1]
            s2 += terms[c + 2]
            s3 += terms[c + 3]
            s4 += terms[c + 4]
            s5 += terms[c + 5]
            s6 += terms[c + 6]
            s7 += terms[c + 7]
        total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    for c in range(whole, first + count):
        total += terms[c]
    return total


@compiled
def take(
    estimates: Array,
    rows: Array,
    first: int,
    queries: Array,
    reach: NDArray[np.float64],
    rest: NDArray[np.float64],
    near: Array,
    places: NDArray[np.int64],
    left: NDArray[np.int64],
    order: NDArray[np.int64],
) -> None:
    """Measure the rows of a block that could be among a query's nearest, and keep the nearest so far.

    A row at a true distance d has an estimate of at most (d + reach)^2 + rest.

    Args:
        estimates: (Q, B), of each query's squared distances to the block's rows; infinite where these are no matter.
        rows: (B, D) the rows.
        first: index of the first of them.
        queries: (Q, D).
        reach: (Q,).
        rest: (Q,).
        near: (Q, k) squared distances so far, ascending, infinite where there is none yet; updated.
        places: (Q, k) indices of their rows, ascending where distances are equal; updated.
        left: (Q,) how many rows may still be measured, updated; 0 for a query that is given up.
        order: `summands(D)`.
    """
    columns, last = rows.shape[1], near.shape[1] - 1
    least, buffer = np.empty(last + 1, np.float32), np.empty((2, columns), np.float32)
    groups = np.empty(-(-len(rows) // _GROUP), np.float32)
    for q in range(len(queries)):
        limit = _limit(near[q, last], reach[q], rest[q], columns)
        if left[q] <= 0 or _least_of_groups(estimates[q], groups) > limit:
            continue
        bar = kth_least(groups, least)
        for likely in (True, False):  # the likeliest first: they lower the limit for the others
            for g in range(len(groups)):
                if groups[g] > limit or (likely and groups[g] > bar):
                    continue
                for j in range(g * _GROUP, min(g * _GROUP + _GROUP, len(rows))):
                    if left[q] > 0 and estimates[q, j] <= limit and (estimates[q, j] <= bar) == likely:
                        if near[q, last] == 0 and first + j > places[q, last]:
                            continue  # k rows are as near as can be
                        left[q] -= 1
                        _measure(rows[j], first + j, queries[q], near[q], places[q], order, buffer)
                        limit = _limit(near[q, last], reach[q], rest[q], columns)


@compiled
def take_all(
    rows: Array,
    is_in: NDArray[np.bool_],
    queries: Array,
    near: Array,
    places: NDArray[np.int64],
    order: NDArray[np.int64],
) -> None:
    """Measure all rows that are in, and keep the nearest of each query; arguments are those of `take`."""
    columns, last = rows.shape[1], near.shape[1] - 1
    buffer = np.empty((2, columns), np.float32)
    for q in range(len(queries)):
        query, own, taken = queries[q], near[q], places[q]
        far = _far(own[last], columns)
        for j in range(len(rows)):
            if is_in[j] and not rough_distance(query, rows[j]) > far:
                _measure(rows[j], j, query, own, taken, order, buffer)
                far = _far(own[last], columns)


@partial(compiled, fastmath=frozenset({"nnan", "nsz", "reassoc"}))
def _least_of_groups(estimates: Array, groups: Array) -> np.float32:
    """Return the least estimate, none of which is NaN, and write the least of each `_GROUP`."""
    least = np.float32(np.inf)
    for g in range(len(groups)):
        own = np.float32(np.inf)
        for j in range(g * _GROUP, min(g * _GROUP + _GROUP, len(estimates))):
            own = min(own, estimates[j])
        groups[g] = own
        least = min(least, own)
    return least


@compiled
def _limit(square: float, reach: float, rest: float, columns: int) -> float:
    """Return the largest estimate of a row whose measured squared distance is at most `square`; always finite."""
    true = (square + tiny(columns)) / (1 - gamma(columns + 2))
    return min(float((np.sqrt(true) + reach) ** 2 + rest), 2.0**127)


@compiled
def _far(square: float, columns: int) -> float:
    """Return what a `rough_distance` is above only if the measured squared distance is above `square`."""
    error = gamma(columns + 2)
    return square * (1 + error) / (1 - error) + 4 * tiny(columns)


@compiled
def _measure(
    row: Array,
    place: int,
    query: Array,
    near: Array,
    places: NDArray[np.int64],
    order: NDArray[np.int64],
    buffer: Array,
) -> None:
    """Measure a row, and put it where it belongs among the nearest.

    What a sum in any order, which is faster, puts too far is not measured: both are within gamma(D + 2) of the true.
    """
    columns, last = len(row), len(near) - 1
    if rough_distance(query, row) > _far(near[last], columns):
        return
    for c in range(columns):
        buffer[0, c] = row[c] - query[c]
    square = squared_length(buffer[0], order, buffer[1])
    if square > near[last] or (square == near[last] and place > places[last]):
        return
    slot = last
    while slot > 0 and (square < near[slot - 1] or (square == near[slot - 1] and place < places[slot - 1])):
        near[slot], places[slot] = near[slot - 1], places[slot - 1]
        slot -= 1
    near[slot], places[slot] = square, place


@compiled
def earlier_copies(rows: Array, keys: Array, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return of each row how many equal ones of smaller index are known.

    Args:
        rows: (N, D).
        keys: (N,) numbers that are equal where rows are.
        order: `keys.argsort(kind="stable")`. Rows of one key that are not equal can hide some behind them.
    """
    copies = np.zeros(len(rows), np.int64)
    for n in range(1, len(rows)):
        one, other = order[n - 1], order[n]
        if keys[one] == keys[other] and (rows[one] == rows[other]).all():
            copies[other] = copies[one] + 1
    return copies
