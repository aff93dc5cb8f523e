"""The textures of `shapes`: each function draws one picture, whole or with the flaw."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState

from ltbench.datasets.drawing.canvas import SIDE, Field, Surface, cover, noise, pose
from ltbench.datasets.drawing.flaws import Flaw, marked

EVERYWHERE: Field = np.full((SIDE, SIDE), -1000.0)
"""The region of a texture: all of the picture, with room beyond its border."""


def brushed_steel(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return steel sheet, brushed from left to right."""
    strokes = 0.10 * noise(rng, 250, 4) + 0.07 * noise(rng, 120, 14) + 0.05 * noise(rng, 3, 3)
    surface = Surface.of((158, 162, 168), 1 + strokes, 0.5 * noise(rng, 250, 4), 0.6)
    return marked(surface, EVERYWHERE, flaw)


def _woven(rng: RandomState, flaw: Flaw | None, float_length: int) -> Surface:
    """Return cloth whose threads pass over `float_length` threads and under as many, shifted by one each row."""
    pitch = 11.0
    x, y = pose(rng, pitch, 0.06)
    u = (x + 1.6 * noise(rng, 5, 5)) / pitch
    v = (y + 1.6 * noise(rng, 5, 5)) / pitch
    column, row = np.floor(u), np.floor(v)
    warp_on_top = (column + row) % (2 * float_length) < float_length
    across = np.where(warp_on_top, u - column, v - row)  # position across the thread on top
    along = np.where(warp_on_top, v, u)
    roundness = 4 * across * (1 - across)
    fibres = 0.05 * noise(rng, 110, 110) * (1 + 0.3 * np.sin(2 * np.pi * along))
    uneven = rng.uniform(-1, 1, (2, 256))  # no two threads are dyed alike
    thread = np.where(warp_on_top, uneven[0][column.astype(np.int64) % 256], uneven[1][row.astype(np.int64) % 256])
    tone = 0.62 + 0.38 * np.sqrt(roundness) + fibres + 0.045 * thread
    tone *= np.where(warp_on_top, 1.0, 0.9)
    surface = Surface.of((178, 166, 140), tone, 2.2 * roundness, 0.0)
    return marked(surface, EVERYWHERE, flaw)


def plain_weave(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return linen in plain weave: one over, one under."""
    return _woven(rng, flaw, 1)


def twill_weave(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return the same linen in twill: two over, two under, in diagonals."""
    return _woven(rng, flaw, 2)


def perforated_plate(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return coated sheet with round holes in staggered rows; `blocked_hole` leaves one to three of them filled."""
    pitch, radius = 34.0, 10.0
    x, y = pose(rng, pitch / 2, 0.05)
    row = np.rint(y / (0.866 * pitch))
    stagger = 0.5 * (row % 2)
    column = np.rint(x / pitch - stagger)
    distance = np.hypot(x - (column + stagger) * pitch, y - row * 0.866 * pitch) - radius
    coat = 1 + 0.05 * noise(rng, 4, 4) + 0.06 * noise(rng, 128, 128)
    plate = Surface.of((96, 118, 132), coat, 2.5 * np.clip(distance / 3, -0.2, 1), 0.35)
    if flaw is not None and flaw.kind == "blocked_hole":
        distance = _blocked(distance, row, column, flaw.rng)
    surface = plate.painted((24, 26, 30), 0.95 * cover(distance), gloss=0.0)
    return marked(surface, -distance, flaw)


def _blocked(distance: Field, row: Field, column: Field, rng: RandomState) -> Field:
    """Return the distance to the holes that are left when one to three neighbours are filled."""
    first_row, first_column = rng.randint(-2, 3), rng.randint(-2, 2)
    filled = (row == first_row) & (column >= first_column) & (column < first_column + rng.randint(1, 4))
    return np.where(filled, 50.0, distance)


def wood(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return a planed board; its rings wander and its pores run with the grain."""
    _, y = pose(rng, 40, 0.08)
    rings = np.sin(2 * np.pi * (y / 21 + 1.7 * noise(rng, 3, 2) + 0.12 * noise(rng, 40, 6)))
    fibres = 0.10 * noise(rng, 200, 5) + 0.05 * noise(rng, 250, 40)
    pores = np.clip(noise(rng, 128, 18) - 0.42, 0, None)
    tone = 1 + fibres + 0.03 * noise(rng, 2, 2) - 0.9 * pores
    late = (0.5 + 0.5 * rings) ** 2
    board = Surface.of((202, 156, 104), tone, -1.5 * pores, 0.1).painted((152, 106, 64), late)
    return marked(board, EVERYWHERE, flaw)
