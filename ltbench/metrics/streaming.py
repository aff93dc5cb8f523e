"""Pixel metrics of test sets that do not fit into memory: one pass, fixed memory, and a bracket that holds the value.

Scores are counted in bins of the leading bits of their float32 bit pattern. That key is monotone over all floats, so
no bounds are needed beforehand, and bins are relative: stretching the scores moves no metric. Within a bin the order
is unknown; every metric therefore comes as the interval of what it can be.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import ContractError, SpecError
from ltbench.metrics.ranking import Flags, UndefinedMetricError, Values
from ltbench.metrics.region import check_pixels, check_region_options, region_pixels

_SIGN = np.uint32(0x8000_0000)


class Bracket(NamedTuple):
    """An interval that holds the exact value, up to the rounding of float64 sums."""

    low: float
    high: float

    @property
    def estimate(self) -> float:
        """The middle of the interval."""
        return (self.low + self.high) / 2

    @property
    def error(self) -> float:
        """How far the estimate can be from the exact value."""
        return (self.high - self.low) / 2


class PixelBrackets(NamedTuple):
    """The four pixel metrics as intervals."""

    auroc: Bracket
    ap: Bracket
    f1_max: Bracket
    aupro: Bracket


class PixelHistogram:
    """Counts of defect and normal pixels by score, filled batch by batch.

    Args:
        bits: leading bits of the float32 that make the key, 10 to 24. 20 keep the sign, the exponent and 11 bits of the
            mantissa: bins 1/2048 wide relative to the score, 24 MiB in all.
        limit: false-positive rate up to which AUPRO integrates, in (0, 1].
        connectivity: 4 or 8, the neighbours that join two pixels to one region.

    Raises:
        SpecError: bits, a limit or a connectivity out of range.
    """

    def __init__(self, *, bits: int = 20, limit: float = 0.3, connectivity: int = 8) -> None:
        if not 10 <= bits <= 24:
            raise SpecError(f"Expected 10 to 24 bits, got {bits!r}. Leave it at 20.")
        check_region_options(limit, connectivity)
        self.bits, self.limit, self.connectivity = bits, limit, connectivity
        self._positives = np.zeros(1 << bits, np.int64)
        self._negatives = np.zeros(1 << bits, np.int64)
        self._overlaps = np.zeros(1 << bits, np.float64)
        self._regions = 0

    def update(self, maps: Values, masks: Flags) -> None:
        """Count one batch of maps.

        Args:
            maps: (N, H, W) finite float32, higher = more anomalous.
            masks: (N, H, W) booleans, True = defect.

        Raises:
            ContractError: maps that are not finite (N, H, W) float32.
            DataError: masks that are not booleans of the maps' shape.
        """
        check_pixels(maps, masks)
        if maps.dtype != np.float32 or not np.isfinite(maps).all():
            raise ContractError(f"Expected finite float32 maps, got {maps.dtype} or NaN. Convert them.")
        bins = 1 << self.bits
        self._negatives += np.bincount(bin_keys(maps[~masks], self.bits), minlength=bins)
        for image, region, area in region_pixels(masks, self.connectivity):
            keys = bin_keys(maps[image][masks[image]], self.bits)
            np.add.at(self._positives, keys, 1)
            np.add.at(self._overlaps, keys, 1 / area[region])
            self._regions += len(area)

    def metrics(self) -> PixelBrackets:
        """Return the four pixel metrics of all that was counted.

        Raises:
            UndefinedMetricError: no defect pixel was counted, or no normal one.
        """
        used = np.flatnonzero(self._positives + self._negatives)[::-1]
        p, n, overlap = self._positives[used], self._negatives[used], self._overlaps[used]
        for count, kind in ((p, "anomalous"), (n, "normal")):
            if not count.sum():
                raise UndefinedMetricError(f"no {kind} pixels")
        return PixelBrackets(
            _auroc_bracket(p, n), _ap_bracket(p, n), _f1_bracket(p, n), self._aupro_bracket(overlap, n)
        )

    def _aupro_bracket(self, overlap: NDArray[np.float64], n: NDArray[np.int64]) -> Bracket:
        """A pixel's own false-positive rate lies between those at the two ends of its bin."""
        cap = self.limit * int(n.sum())
        after = np.cumsum(n)
        low = float((overlap * np.maximum(cap - after, 0)).sum() / (cap * self._regions))
        high = float((overlap * np.maximum(cap - (after - n), 0)).sum() / (cap * self._regions))
        return Bracket(min(low, 1.0), min(high, 1.0))


def bin_keys(values: Values, bits: int) -> NDArray[np.int64]:
    """Return the leading bits of each float32 as an integer that grows with the float.

    The bit patterns of non-negative floats, read as integers, are in order; those of negative floats are in reverse.
    Flipping the sign bit of the former and every bit of the latter puts all of them in order (Herf, "Radix Tricks",
    2001).

    Args:
        values: (K,) finite float32.
        bits: number of leading bits, up to 32.
    """
    # -0.0 and 0.0 are equal but not their patterns: adding 0.0 leaves 0.0 only
    pattern = (values + np.float32(0.0)).view(np.uint32)
    ordered = pattern ^ np.where(pattern & _SIGN, np.uint32(0xFFFF_FFFF), _SIGN)
    return (ordered >> np.uint32(32 - bits)).astype(np.int64)


def _auroc_bracket(p: NDArray[np.int64], n: NDArray[np.int64]) -> Bracket:
    """Pairs in one bin count between none and all: the middle is off by at most 1/2 sum_b P_b N_b / (P N)."""
    pairs = float(p.sum()) * float(n.sum())
    wins = float((p * (n.sum() - np.cumsum(n)).astype(np.float64)).sum())
    return Bracket(wins / pairs, min((wins + float((p * n.astype(np.float64)).sum())) / pairs, 1.0))


def _ap_bracket(p: NDArray[np.int64], n: NDArray[np.int64]) -> Bracket:
    """The precision at a positive is lowest with its bin's negatives all above, highest with none above and p tied.

    The i-th positive of a bin that comes after all of the bin's negatives has precision (T + i) / (T + i + F), with T
    true positives before and F false positives up to and with the bin. The sum over i = 1..P_b is
    P_b - F sum 1 / (T + F + i), and, 1/x being convex, sum 1 / (c + i) <= log(1 + P_b / (c + 1/2)).
    """
    found, false = np.cumsum(p), np.cumsum(n)
    held = p > 0
    p, n, found, false = p[held], n[held], found[held], false[held]
    low = p - false * np.log1p(p / (found - p + false + 0.5))
    high = p * (found / (found + false - n))
    total = int(p.sum())
    return Bracket(max(float(low.sum()) / total, 0.0), float(high.sum()) / total)


def _f1_bracket(p: NDArray[np.int64], n: NDArray[np.int64]) -> Bracket:
    """The lowest score in a bin is a threshold that exists; at best a threshold takes its positives and no negative."""
    found, false = np.cumsum(p), np.cumsum(n)
    total = int(found[-1])
    low = float((2 * found / (total + found + false)).max())
    return Bracket(low, float((2 * found / (total + found + false - n)).max()))
