"""Cuts of skirts, and the folds that dresses share with them."""

from __future__ import annotations

import numpy as np

from .garment import Garment, stream
from .geometry import (
    BODY,
    Cut,
    Fabric,
    Fold,
    Panel,
    Part,
    Point,
    Points,
    Stroke,
    at,
    bend,
    curve,
    ellipse,
    join,
    mirror,
    smooth,
)
from .torso import mirrored
from .trims import buttons

_TOP = BODY.waist[1]
_SKIRTS = {"short": 1.72, "knee": 2.2, "long": 3.05}


def cut_skirt(garment: Garment) -> Cut:
    """A-line, pleated and pencil skirts."""
    rng = stream(garment.seed, "shape")
    waist = 0.36 + float(rng.uniform(-0.02, 0.03))
    end_y = _SKIRTS[garment.length or "knee"] + float(rng.uniform(-0.08, 0.1))
    drop = end_y - _TOP
    band = float(rng.uniform(0.06, 0.1))
    hem, side = _skirt_side(garment, waist, end_y, band, rng)
    sag = 0.02 if garment.subtype == "pencil skirt" else 0.05 + 0.05 * float(rng.random())
    bottom = hem_line(hem, end_y, sag, rng, 0.0 if garment.subtype == "pencil skirt" else 0.018)
    outline = join(at((0.0, _TOP + band)), side, bottom, mirror(side), at((0.0, _TOP + band)))
    parts: list[Part] = [
        Panel(
            "waist_inside",
            ellipse((0.0, _TOP + 0.005), waist * 0.97, 0.035),
            "inside",
            puff=0.0,
            lift=0.0,
        ),
        Panel("skirt", outline, puff=0.8, lift=0.2),
    ]
    if garment.subtype == "pencil skirt":
        parts += _pencil_front(garment, waist, band, end_y, rng)
    else:
        pleated = garment.subtype == "pleated skirt"
        parts += skirt_folds(waist, hem, _TOP + band, end_y, rng, 11 if pleated else 0)
        if not pleated:
            stitch = bottom[1:-1] * np.array([0.985, 1.0]) - np.array([0.0, 0.05])
            parts.append(Stroke("hem", stitch, 0.007, -0.2, 0.024))
    parts += _skirt_band(garment, waist, band)
    return Cut(tuple(parts), (0.0, _TOP + 0.6 * drop), 0.4, 0.95)


def _skirt_side(
    garment: Garment, waist: float, end_y: float, band: float, rng: np.random.Generator
) -> tuple[float, Points]:
    """Half width of the hem, and the right side from the waistband down to it."""
    drop = end_y - _TOP
    if garment.subtype == "pencil skirt":
        hem = 0.42 + float(rng.uniform(-0.04, 0.03))
        side = smooth(
            (waist, _TOP + band), (0.46, _TOP + 0.4), (0.48, min(end_y - 0.2, 1.6)), (hem, end_y)
        )
    else:
        wide = (
            float(rng.uniform(0.2, 0.42))
            if garment.subtype == "a-line skirt"
            else float(rng.uniform(0.2, 0.34))
        )
        hem = waist + wide * min(drop, 1.5) + 0.1
        side = curve(
            (waist, _TOP + band),
            (waist + 0.12, _TOP + 0.25 * drop),
            (hem - 0.08, _TOP + 0.6 * drop),
            (hem, end_y),
        )
    return hem, side


def hem_line(hem: float, y: float, sag: float, rng: np.random.Generator, wave: float) -> Points:
    """The lower edge of a skirt from right to left, hanging lower in the middle, in soft waves."""
    count = 15
    points: list[Point] = []
    for i in range(count):
        t = 1 - 2 * i / (count - 1)
        lift = wave * (1 if i % 2 else -1) * float(rng.uniform(0.3, 1.0))
        points.append((hem * t, y + sag * (1 - t * t) + (lift if 0 < i < count - 1 else 0.0)))
    return smooth(*points, steps=4)


def skirt_folds(
    waist: float, hem: float, top: float, end_y: float, rng: np.random.Generator, pleats: int = 0
) -> list[Part]:
    """Folds that fan out from the waist; pressed pleats with their edges when `pleats` is given."""
    parts: list[Part] = []
    if pleats:
        for i in range(1, pleats):
            t = 2 * i / pleats - 1
            line = at((t * waist, top), (t * hem, end_y + 0.04 * (1 - t * t)))
            parts.append(Stroke("pleat", line, 0.011, -0.3))
            shifted = line + np.array([0.03, 0.0])
            parts.append(Fold(shifted, 0.05, 0.5))
        return parts
    count = int(rng.integers(6, 10))
    for i in range(count):
        t = 2 * (i + 0.5) / count - 1 + float(rng.uniform(-0.06, 0.06))
        start = top + float(rng.uniform(0.0, 0.35)) * (end_y - top)
        s = (start - top) / (end_y - top)
        x = t * (waist + (hem - waist) * s)
        line = bend(
            (x, start), (0.6 * x + 0.4 * t * hem, 0.5 * (start + end_y)), (t * hem * 0.98, end_y)
        )
        parts.append(Fold(line, float(rng.uniform(0.05, 0.1)), 0.7 if i % 2 else -0.7))
    return parts


def _pencil_front(
    garment: Garment, waist: float, band: float, end_y: float, rng: np.random.Generator
) -> list[Part]:
    parts: list[Part] = []
    metal: Fabric = "metal"
    if garment.material == "denim":
        pocket = curve(
            (waist * 0.6, _TOP + band),
            (waist * 0.64, _TOP + 0.24),
            (0.42, _TOP + 0.26),
            (0.45, _TOP + 0.3),
        )
        for move, ink in ((0.0, -0.36), (0.02, 0.0)):
            stitch = Stroke(
                "pocket",
                pocket + np.array([0.0, move]),
                0.008,
                ink,
                0.0 if move == 0 else 0.02,
                metal if move else None,
            )
            parts += [stitch, mirrored(stitch)]
        parts.append(Stroke("front seam", at((0.0, _TOP + band), (0.0, end_y)), 0.012, -0.34))
        places = [(0.035, _TOP + 0.2 + (end_y - _TOP - 0.35) * k / 4) for k in range(5)]
        parts += buttons(places, 0.022, "metal")
    elif garment.material == "leather":
        parts.append(Stroke("zip", at((0.0, _TOP + band), (0.0, end_y)), 0.022, 0.0, 0.012, metal))
    else:
        dart = Stroke("dart", at((0.2, _TOP + band), (0.22, _TOP + 0.32)), 0.008, -0.28)
        parts += [dart, mirrored(dart)]
        if rng.random() < 0.5:
            parts.append(
                Stroke("slit", at((0.24, end_y - 0.28), (0.25, end_y + 0.02)), 0.012, -0.45)
            )
    for k in range(4):
        y = 1.35 + 0.07 * k
        side = -1.0 if k % 2 else 1.0
        parts.append(
            Fold(at((side * 0.46, y), (side * 0.16, y + 0.05)), 0.04, -0.4 if k % 2 else 0.35)
        )
    return parts


def _skirt_band(garment: Garment, waist: float, band: float) -> list[Part]:
    line = bend((-waist, _TOP), (0.0, _TOP + 0.035), (waist, _TOP))
    outline = join(line, (line * np.array([1.01, 1.0]) + np.array([0.0, band]))[::-1])
    fabric: Fabric = "main" if garment.pattern == "plain" else "plain"
    parts: list[Part] = [
        Panel("waistband", outline, fabric, puff=0.35, lift=0.5),
        Stroke("band seam", line + np.array([0.0, band]), 0.01, -0.32),
    ]
    if garment.material == "denim":
        parts += buttons([(0.0, _TOP + 0.02 + band / 2)], 0.024, "metal")
    return parts
