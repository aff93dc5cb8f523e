"""The objects of `shapes`: each function draws one picture, whole or with the flaw.

Some resemble one another on purpose: a washer without its split is nearly a lock washer, a nut a bolt, and the two
buttons differ by two holes.
"""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState

from ltbench.datasets.drawing.canvas import SIDE, Field, Surface, cover, noise, pose, rounded
from ltbench.datasets.drawing.flaws import Flaw, marked, spot_inside

STEEL = (168, 172, 178)
ZINC = (176, 172, 158)
BRASS = (196, 160, 88)
PLASTIC = (58, 128, 138)


def _is(flaw: Flaw | None, kind: str) -> bool:
    return flaw is not None and flaw.kind == kind


def _rubber_mat(rng: RandomState) -> Surface:
    pile = noise(rng, 120, 120)
    return Surface.of((64, 70, 78), 1 + 0.05 * noise(rng, 3, 3) + 0.08 * pile, 0.5 * pile, 0.05)


def _felt(rng: RandomState) -> Surface:
    pile = noise(rng, 90, 90)
    return Surface.of((204, 194, 174), 1 + 0.03 * noise(rng, 4, 4) + 0.06 * pile, 0.4 * pile, 0.0)


def _chipped(body: Field, flaw: Flaw | None) -> Field:
    """Return a body's distance with a bite out of its rim, when the flaw is a chip."""
    if flaw is None or flaw.kind != "chip":
        return body
    x, y = spot_inside(np.abs(body + 1) - 3, flaw.rng, 1)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    bite = np.hypot(columns - x, rows - y) - flaw.rng.uniform(6, 15) * (1 + 0.7 * noise(flaw.rng, 18, 18))
    bitten: Field = np.maximum(body, -bite)
    return bitten


def _turned(rng: RandomState, radius: Field) -> Field:
    """Return the tone of metal turned on a lathe: fine rings."""
    grooves = np.interp(radius, np.arange(SIDE), rng.uniform(-1, 1, SIDE))
    return 1 + 0.06 * grooves + 0.05 * noise(rng, 60, 60)


def _ring(rng: RandomState, flaw: Flaw | None, *, is_split: bool) -> Surface:
    mat = _rubber_mat(rng)
    x, y = pose(rng, 16, np.pi)
    radius = np.hypot(x, y)
    outer, inner = 79 + rng.uniform(-1, 1), 42 + rng.uniform(-1, 1)
    body = np.maximum(radius - outer, inner - radius)
    if is_split:
        gap = np.maximum(np.abs(y - 0.45 * (x - 60)) - 4.5, -x)
        body = np.maximum(body, -gap)
    body = _chipped(body, flaw)
    angle = np.arctan2(y, x)
    tone = _turned(rng, radius) * (1 + 0.10 * np.cos(2 * angle + rng.uniform(-0.5, 0.5)))
    metal = Surface.of(STEEL, tone, 4 * rounded(body, 6), 0.7)
    return mat.under(marked(metal, body, flaw), body)


def washer(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return a flat washer; one that is `split` has the gap of a lock washer."""
    return _ring(rng, flaw, is_split=_is(flaw, "split"))


def lock_washer(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return a split lock washer; one that is `closed` lacks the gap."""
    return _ring(rng, flaw, is_split=not _is(flaw, "closed"))


def _hexagon(x: Field, y: Field, apothem: float) -> Field:
    sides = [np.abs(np.cos(a) * x + np.sin(a) * y) for a in (0, np.pi / 3, 2 * np.pi / 3)]
    hexagon: Field = np.maximum.reduce(sides) - apothem
    return hexagon


def _hex_head(rng: RandomState, radius: Field, body: Field) -> Surface:
    """Return the top of a hexagon, its corners chamfered by a cone."""
    cone = -0.55 * np.clip(radius - 62, 0, None)
    tone = 1 + 0.07 * noise(rng, 50, 50) + 0.03 * noise(rng, 5, 5)
    return Surface.of(ZINC, tone, 4 * rounded(body, 4) + cone, 0.6)


def hex_nut(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return a hexagon nut seen from above."""
    mat = _rubber_mat(rng)
    x, y = pose(rng, 15, np.pi)
    radius = np.hypot(x, y)
    whole = _chipped(_hexagon(x, y, 64 + rng.uniform(-1, 1)), flaw)
    bore = radius - 35
    head = marked(_hex_head(rng, radius, np.maximum(whole, -bore)), np.maximum(whole, -bore), flaw)
    turns = 0.5 + 0.5 * np.cos(2 * np.pi * (radius - 26) / 3)
    head = head.painted((70, 68, 64), cover(bore) * (0.55 + 0.35 * turns), gloss=0.1)
    head = head.painted((34, 37, 42), cover(radius - 27), gloss=0.0)
    return mat.under(head, whole)


def hex_bolt(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return a hexagon bolt's head with three grade marks; `missing_mark` lacks one or two."""
    mat = _rubber_mat(rng)
    x, y = pose(rng, 15, np.pi)
    radius = np.hypot(x, y)
    body = _chipped(_hexagon(x, y, 64 + rng.uniform(-1, 1)), flaw)
    head = _hex_head(rng, radius, body).raised(-(radius**2) / 1500)
    lacking = flaw.rng.randint(1, 3) if flaw is not None and flaw.kind == "missing_mark" else 0
    for turn in (0, 2 * np.pi / 3, 4 * np.pi / 3)[lacking:]:
        along, aside = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        bar = np.maximum(np.abs(along - 32) - 13, np.abs(aside) - 3.5)
        head = head.raised(2.4 * rounded(bar, 3))
    return mat.under(marked(head, body, flaw), body)


def gear(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return a brass gear wheel with a keyed bore; `missing_tooth` lacks one."""
    mat = _rubber_mat(rng)
    x, y = pose(rng, 12, np.pi)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    count = 16
    teeth = np.clip(0.5 + 1.6 * np.cos(count * angle), 0, 1)
    if flaw is not None and flaw.kind == "missing_tooth":
        gone = flaw.rng.randint(count)
        teeth = np.where(np.rint(angle * count / (2 * np.pi)) % count == gone, 0.0, teeth)
    rim = radius - (73 + 15 * teeth)
    bore = np.minimum(radius - 19, np.maximum(np.abs(y) - 5, np.abs(x - 14) - 12))
    body = np.maximum(rim, -bore)
    web = 3 * rounded(np.abs(radius - 45) - 17, 3)
    brass = Surface.of(BRASS, _turned(rng, radius), 4 * rounded(body, 4) - web, 0.7)
    return mat.under(marked(brass, body, flaw), body)


def _button(rng: RandomState, flaw: Flaw | None, holes: list[tuple[float, float]]) -> Surface:
    felt = _felt(rng)
    x, y = pose(rng, 18, np.pi)
    radius = np.hypot(x, y)
    rim = _chipped(radius - (74 + rng.uniform(-1, 1)), flaw)
    if flaw is not None and flaw.kind == "missing_hole":
        gone = flaw.rng.randint(len(holes))
        holes = holes[:gone] + holes[gone + 1 :]
    bores = np.minimum.reduce([np.hypot(x - hx, y - hy) - 7.5 for hx, hy in holes])
    body = np.maximum(rim, -bores)
    bulge = 5 * np.exp(-((radius - 60) ** 2) / 120) - 2.5 * rounded(radius - 36, 14)
    colour = (PLASTIC[0] + rng.uniform(-5, 5), PLASTIC[1] + rng.uniform(-7, 7), PLASTIC[2] + rng.uniform(-7, 7))
    cloud = 1 + 0.07 * noise(rng, 9, 9) + 0.03 * noise(rng, 60, 60)
    plastic = Surface.of(colour, cloud, 3 * rounded(body, 5) + bulge, 0.8)
    return felt.under(marked(plastic, body, flaw), body, shadow=0.4)


def button_two(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return a plastic button with two holes; `missing_hole` lacks one."""
    return _button(rng, flaw, [(-15, 0), (15, 0)])


def button_four(rng: RandomState, flaw: Flaw | None) -> Surface:
    """Return the same button with four holes; `missing_hole` lacks one."""
    return _button(rng, flaw, [(-14, -14), (14, -14), (-14, 14), (14, 14)])
