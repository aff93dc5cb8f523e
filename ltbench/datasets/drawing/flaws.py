"""Defects that can befall any surface: each takes a surface and returns it damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from ltbench.datasets.drawing.canvas import SIDE, Field, Surface, cover, noise

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Flaw:
    """A defect to be drawn: its kind, and its own chance, so that the picture around it stays as it was."""

    kind: str
    rng: RandomState


def spot_inside(region: Field, rng: RandomState, margin: float) -> tuple[float, float]:
    """Return (x, y) in pixels of a random place at least `margin` pixels inside a region."""
    inside = np.flatnonzero(region < -margin)
    place = int(inside[rng.randint(len(inside))])
    return float(place % SIDE), float(place // SIDE)


def _blob(region: Field, rng: RandomState, radius: tuple[float, float]) -> Field:
    """Return the distance to a ragged round patch somewhere in a region."""
    size = rng.uniform(*radius)
    x, y = spot_inside(region, rng, min(size / 2, 8))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    stretch = rng.uniform(0.7, 1.4)
    apart = np.hypot((columns - x) * stretch, (rows - y) / stretch)
    return np.asarray(apart - size * np.clip(1 + 1.2 * noise(rng, 22, 22), 0.6, None))


def _stroke(region: Field, rng: RandomState, length: tuple[float, float], bend: float, jag: float = 0.0) -> Field:
    """Return the distance to a bent line that starts somewhere in a region; infinite farther than 8 pixels off."""
    x, y = spot_inside(region, rng, 6)
    heading, reach = rng.uniform(0, 2 * np.pi), rng.uniform(*length)
    steps = 24
    turns = heading + np.linspace(0, rng.uniform(-bend, bend), steps) + jag * rng.uniform(-1, 1, steps)
    xs = x + np.concatenate(([0.0], np.cumsum(np.cos(turns)) * reach / steps))
    ys = y + np.concatenate(([0.0], np.cumsum(np.sin(turns)) * reach / steps))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    nearest: Field = np.full((SIDE, SIDE), np.inf)
    for x0, y0, x1, y1 in zip(xs[:-1], ys[:-1], xs[1:], ys[1:], strict=True):
        near = _window((y0, y1)), _window((x0, x1))
        dx, dy = columns[near] - x0, rows[near] - y0
        along = np.clip((dx * (x1 - x0) + dy * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        np.minimum(nearest[near], np.hypot(dx - along * (x1 - x0), dy - along * (y1 - y0)), out=nearest[near])
    return nearest


def _window(ends: tuple[float, float]) -> slice:
    """Return the pixels within 8 of an interval, as a slice of the picture."""
    low, high = int(min(ends)) - 8, int(max(ends)) + 9
    return slice(min(max(low, 0), SIDE), min(max(high, 0), SIDE))


def scratch(surface: Surface, region: Field, rng: RandomState) -> Surface:
    """Return the surface with a furrow, bright where the bare material shows."""
    width = rng.uniform(0.9, 2.2)
    distance = _stroke(region, rng, (22, 95), 0.7)
    share = cover(distance - width) * cover(region)
    tone = 235.0 if rng.uniform() < 0.6 else 45.0
    return surface.painted((tone, tone, tone), 0.6 * share).raised(-1.2 * share)


def crack(surface: Surface, region: Field, rng: RandomState) -> Surface:
    """Return the surface with a thin dark jagged line."""
    distance = _stroke(region, rng, (30, 85), 0.5, jag=0.9)
    share = cover(distance - rng.uniform(0.8, 1.7)) * cover(region)
    return surface.painted((28, 24, 24), 0.8 * share, gloss=0.0).raised(-1.5 * share)


def rust(surface: Surface, region: Field, rng: RandomState) -> Surface:
    """Return the surface with a dull mottled brown patch."""
    distance = _blob(region, rng, (6, 21))
    share = np.clip(0.5 - distance / 4, 0, 1) * cover(region)
    mottle = np.clip(0.62 + 0.6 * noise(rng, 40, 40), 0.2, 0.95)
    return surface.painted((128, 72, 38), share * mottle, gloss=0.05)


def stain(surface: Surface, region: Field, rng: RandomState) -> Surface:
    """Return the surface with a patch soaked darker, strongest at its rim as dried liquids are."""
    distance = _blob(region, rng, (8, 26))
    share = np.clip(0.5 - distance / 3, 0, 1) * cover(region)
    depth = 0.3 + 0.22 * np.exp(-((distance + 2) ** 2) / 12)
    return surface.painted((62, 52, 44), share * depth)


def hole(surface: Surface, region: Field, rng: RandomState) -> Surface:
    """Return the surface with an opening that shows the dark below."""
    distance = _blob(region, rng, (4, 12))
    share = np.clip(0.5 - distance / 1.5, 0, 1) * cover(region)
    return surface.painted((26, 24, 26), 0.92 * share, gloss=0.0).raised(-4 * share)


def dent(surface: Surface, region: Field, rng: RandomState) -> Surface:
    """Return the surface pressed in: nothing but the way light falls on it changes."""
    distance = np.clip(_blob(region, rng, (8, 20)) / 7, -3, None)
    return surface.raised(-rng.uniform(4.5, 7.5) / (1 + np.exp(3 * distance)))


def thread(surface: Surface, region: Field, rng: RandomState) -> Surface:
    """Return the surface with a foreign thread lying on it."""
    width = rng.uniform(1.3, 2.4)
    distance = _stroke(region, rng, (35, 150), 2.6)
    colours: tuple[Colour, ...] = ((172, 48, 44), (52, 62, 128), (232, 226, 214), (40, 38, 40))
    share = cover(distance - width) * cover(region)
    shade = np.clip(0.5 - (np.roll(distance, (2, 2), axis=(0, 1)) - width) / 2, 0, 1) * (1 - share)
    lying = surface.painted((20, 20, 20), 0.3 * shade).painted(colours[rng.randint(4)], 0.85 * share)
    return lying.raised(share * np.sqrt(np.clip(width**2 - distance**2, 0, None)))


MARKS: dict[str, Callable[[Surface, Field, RandomState], Surface]] = {
    "crack": crack,
    "dent": dent,
    "hole": hole,
    "rust": rust,
    "scratch": scratch,
    "stain": stain,
    "thread": thread,
}
"""The defects that a surface can bear, by name."""


def marked(surface: Surface, region: Field, flaw: Flaw | None) -> Surface:
    """Return the surface with the flaw on it, when it is one of `MARKS`; structural flaws are the object's matter."""
    return MARKS[flaw.kind](surface, region, flaw.rng) if flaw is not None and flaw.kind in MARKS else surface
