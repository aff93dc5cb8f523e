"""Paper and lamp: coordinates, noise, surfaces and how light falls on them.

All arithmetic is float64 and all chance comes from numpy's legacy `RandomState`, whose stream is frozen: after rounding
to 8 bit, the pixels are the same on every machine. Distances are signed, in pixels, and negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

Field = NDArray[np.float64]
"""One value a pixel, (SIDE, SIDE)."""

SIDE = 256
"""Height and width of a picture in pixels."""

LEVEL = 4
"""Grey levels are multiples of this: grain then compresses, which halves the size of the files."""

_Y, _X = (axis - (SIDE - 1) / 2 for axis in np.mgrid[0:SIDE, 0:SIDE].astype(np.float64))


def pose(rng: RandomState, shift: float, turn: float) -> tuple[Field, Field]:
    """Return the x and y of every pixel in the frame of an object that lies at random.

    Args:
        rng: where chance comes from.
        shift: how far the object may lie from the centre on either axis, in pixels.
        turn: how far it may be turned either way, in radians.
    """
    x, y = _X - rng.uniform(-shift, shift), _Y - rng.uniform(-shift, shift)
    angle = rng.uniform(-turn, turn)
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


@lru_cache
def _spline(cells: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the first of the four knots that bear on each pixel, (SIDE,), and the weights of the four, (4, SIDE).

    They are the uniform cubic B-spline's, for `cells` intervals along a side.
    """
    place = (np.arange(SIDE) + 0.5) * cells / SIDE
    cell = np.minimum(place.astype(np.int64), cells - 1)
    t = place - cell
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return cell, np.stack(weights) / 6


def noise(rng: RandomState, rows: int, columns: int) -> Field:
    """Return smooth noise in [-1, 1] with about `rows` x `columns` bumps."""
    knots = rng.uniform(-1, 1, (rows + 3, columns + 3))
    # summed by hand: a BLAS may add in any order, and its threads cost more than they save here
    cell, weights = _spline(rows)
    lines = sum(knots[cell + n] * weights[n][:, None] for n in range(4))
    cell, weights = _spline(columns)
    return np.ascontiguousarray(sum(lines.T[cell + n] * weights[n][:, None] for n in range(4)).T)


def cover(distance: Field) -> Field:
    """Return how much of each pixel lies inside, in [0, 1]: the anti-aliased edge of a shape."""
    return np.clip(0.5 - distance, 0, 1)


def rounded(distance: Field, width: float) -> Field:
    """Return a height in [0, 1] that rises from 0 at the edge to 1 at `width` pixels inside, round on top."""
    inside = np.clip(-distance / width, 0, 1)
    return inside * (2 - inside)


def _channels(colour: tuple[float, float, float]) -> NDArray[np.float64]:
    return np.array(colour, dtype=np.float64)[:, None, None]


def _mixed(below: NDArray[np.float64], above: NDArray[np.float64], share: Field) -> NDArray[np.float64]:
    """Return the mean of two arrays, `share` being that of `above`."""
    mixed: NDArray[np.float64] = above - below
    mixed *= share
    mixed += below
    return mixed


@dataclass(frozen=True, slots=True)
class Surface:
    """What a picture shows before light falls on it.

    Args:
        colour: (3, SIDE, SIDE) in [0, 255]; channels come first, which numpy works through far faster.
        height: in pixels, towards the viewer.
        gloss: strength of the highlights, from 0 (cloth) to 1 (polished metal).
    """

    colour: NDArray[np.float64]
    height: Field
    gloss: Field

    @classmethod
    def of(cls, colour: tuple[float, float, float], tone: Field, height: Field, gloss: float) -> Surface:
        """Return a surface of one colour, made lighter or darker by `tone` (1 = as it is)."""
        return cls(tone * _channels(colour), height, np.full((SIDE, SIDE), gloss))

    def painted(self, colour: tuple[float, float, float], share: Field, gloss: float | None = None) -> Surface:
        """Return this surface with a colour mixed in where `share` is above 0."""
        mixed = _mixed(self.colour, _channels(colour), share)
        shine = self.gloss if gloss is None else _mixed(self.gloss, np.array(gloss), share)
        return replace(self, colour=mixed, gloss=shine)

    def raised(self, height: Field) -> Surface:
        """Return this surface with `height` added."""
        return replace(self, height=self.height + height)

    def under(self, top: Surface, distance: Field, shadow: float = 0.5) -> Surface:
        """Return this surface with a part of that outline laid on it, and the part's shadow."""
        cast = np.clip(0.5 - np.roll(distance, (5, 7), axis=(0, 1)) / 9, 0, 1)
        share = cover(distance)
        return Surface(
            _mixed(self.colour * (1 - shadow * cast), top.colour, share),
            _mixed(self.height, top.height, share),
            _mixed(self.gloss, top.gloss, share),
        )


def lit(surface: Surface, rng: RandomState) -> NDArray[np.float64]:
    """Return the picture, (3, SIDE, SIDE) in [0, 255]: a lamp at the upper left, nearly the same each time.

    Diffuse light is Lambert's cosine, highlights are Blinn's: the cosine to the half vector, to the 32nd power.
    """
    azimuth, elevation = rng.uniform(-2.6, -2.1), rng.uniform(0.85, 1.0)
    lamp = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    half = lamp + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    slope_y, slope_x = np.gradient(surface.height)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    diffuse = np.clip((lamp[2] - lamp[0] * slope_x - lamp[1] * slope_y) / length, 0, None) / lamp[2]
    shine = np.clip((half[2] - half[0] * slope_x - half[1] * slope_y) / length, 0, 1)
    for _ in range(5):
        shine *= shine
    fall_x, fall_y = rng.uniform(-4e-4, 4e-4, 2)
    gain = rng.uniform(0.93, 1.07) * (1 + fall_x * _X + fall_y * _Y)
    picture: NDArray[np.float64] = surface.colour * (gain * (0.4 + 0.6 * diffuse))
    picture += 110 * surface.gloss * shine
    np.clip(picture, 0, 255, out=picture)
    return picture


def developed(picture: NDArray[np.float64], rng: RandomState) -> NDArray[np.uint8]:
    """Return the picture as a camera gives it: with grain, in 8 bit, (SIDE, SIDE, 3)."""
    grain = rng.randint(-2, 3, (2, SIDE, SIDE), dtype=np.int8).sum(axis=0)
    levels = picture + grain
    levels /= LEVEL
    np.rint(levels, out=levels)
    levels *= LEVEL
    np.clip(levels, 0, 255, out=levels)
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))
