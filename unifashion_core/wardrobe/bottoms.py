"""Cuts of pants and shorts."""

from __future__ import annotations

from dataclasses import dataclass

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
    box,
    curve,
    ellipse,
    join,
    mirror,
    smooth,
    thick,
)
from .torso import mirrored
from .trims import buttons

_TOP = BODY.waist[1]
_LEGS = {"short": 1.86, "knee": 2.3, "cropped": 2.85, "long": 3.34}
_THREAD = 0.5


@dataclass(frozen=True)
class Legs:
    """Measures of pants, right side, in garment units.

    Attributes:
        waist: Half width at the waistband.
        hip: Half width at the hip.
        crotch_y: Height of the crotch.
        knee: Width of a leg at the knee.
        end: Width of a leg at its hem.
        end_y: Height of the hem.
        spread: How far the hem's inner edge stands from the middle.
    """

    waist: float
    hip: float
    crotch_y: float
    knee: float
    end: float
    end_y: float
    spread: float


_FITS: dict[str, tuple[float, float, float]] = {
    # kind: width at the knee, at the hem, and how far either may vary
    "jeans": (0.285, 0.235, 0.05),
    "trousers": (0.3, 0.275, 0.06),
    "joggers": (0.3, 0.2, 0.04),
    "leggings": (0.225, 0.16, 0.02),
    "shorts": (0.42, 0.44, 0.04),
    "denim shorts": (0.42, 0.43, 0.03),
    "swim shorts": (0.44, 0.47, 0.03),
}


def draw_legs(garment: Garment, rng: np.random.Generator) -> Legs:
    """Measures by seed, in the length of the garment."""
    knee, end, vary = _FITS[garment.subtype]
    change = float(rng.uniform(-vary, vary))
    tight = garment.subtype == "leggings"
    return Legs(
        waist=0.365 + float(rng.uniform(-0.02, 0.04)) - (0.045 if tight else 0.0),
        hip=0.435 + float(rng.uniform(-0.02, 0.03)) - (0.05 if tight else 0.0),
        crotch_y=BODY.crotch_y + float(rng.uniform(-0.05, 0.06)),
        knee=knee + change,
        end=end + change * float(rng.uniform(0.6, 1.8)),
        end_y=_LEGS[garment.length or "long"] + float(rng.uniform(-0.08, 0.06)),
        spread=float(rng.uniform(0.02, 0.12)),
    )


def _leg(legs: Legs, band: float) -> Points:
    """The right half of the front, from the middle of the waist round to the crotch."""
    top = _TOP + band
    long = legs.end_y > 2.5
    gap = legs.spread if long else 0.4 * legs.spread
    inner = gap + 0.02
    outer_end = inner + legs.end
    outer: list[Point] = [
        (legs.waist, top),
        (legs.hip - 0.004, top + 0.3),
        (legs.hip + 0.012, legs.crotch_y + 0.02),
    ]
    if long:
        knee_x = 0.55 * gap + legs.knee + 0.03
        outer.append((knee_x, BODY.knee_y))
    outer.append((outer_end, legs.end_y))
    hem = bend(
        (outer_end, legs.end_y),
        (inner + 0.5 * legs.end, legs.end_y + 0.025),
        (inner, legs.end_y + 0.005),
    )
    up = curve(
        (inner, legs.end_y),
        (0.7 * inner, 0.5 * (legs.end_y + legs.crotch_y)),
        (0.02, legs.crotch_y + 0.12),
        (0.0, legs.crotch_y),
    )
    return join(at((0.0, top)), smooth(*outer), hem, up)


def cut_pants(garment: Garment) -> Cut:
    """Jeans, trousers, joggers, leggings and all shorts."""
    rng = stream(garment.seed, "shape")
    legs = draw_legs(garment, rng)
    elastic = garment.subtype in ("joggers", "leggings", "swim shorts")
    band = 0.09 if garment.subtype != "leggings" else 0.12
    half = _leg(legs, band)
    right = Panel("leg_right", join(half, at((0.0, legs.crotch_y))), puff=0.8, lift=0.2, angle=0.03)
    parts: list[Part] = [_waist_inside(legs), right, mirrored(right)]
    parts += _leg_folds(legs, rng)
    if garment.subtype in ("joggers",):
        parts += _ankle_ribs(legs)
    else:
        parts += _hems(legs, garment)
    parts += _front(garment, legs, band)
    parts += _elastic_band(legs, band, garment) if elastic else _sewn_band(legs, band, garment)
    place = (0.27, legs.crotch_y + 0.08) if garment.category == "shorts" else (0.24, 1.5)
    return Cut(tuple(parts), place, 0.2, 0.7)


def _waist_inside(legs: Legs) -> Panel:
    return Panel(
        "waist_inside",
        ellipse((0.0, _TOP + 0.005), legs.waist * 0.97, 0.035),
        "inside",
        puff=0.0,
        lift=0.0,
    )


def _leg_folds(legs: Legs, rng: np.random.Generator) -> list[Part]:
    folds: list[Part] = []
    c = legs.crotch_y
    for side in (-1.0, 1.0):
        for k in range(3):
            start = (side * 0.02, c - 0.03 + 0.05 * k)
            reach = float(rng.uniform(0.14, 0.3))
            rise = float(rng.uniform(-0.12, 0.02)) + 0.07 * k
            folds.append(
                Fold(at(start, (side * reach, c + rise)), 0.04, -0.5 if k % 2 == 0 else 0.4)
            )
        if legs.end_y > 2.5:
            middle = 0.5 * (0.6 * legs.spread + legs.knee)
            for k in range(3):
                y = BODY.knee_y - 0.12 + 0.11 * k + float(rng.uniform(-0.03, 0.03))
                wide = float(rng.uniform(0.08, 0.15))
                folds.append(
                    Fold(
                        bend(
                            (side * (middle - wide), y),
                            (side * middle, y + 0.05),
                            (side * (middle + wide), y - 0.01),
                        ),
                        0.045,
                        -0.4 if k % 2 else 0.35,
                    )
                )
        folds.append(
            Fold(
                at((side * legs.hip * 0.9, _TOP + 0.4), (side * legs.hip * 0.5, c - 0.05)),
                0.05,
                -0.3,
            )
        )
    return folds


def _hems(legs: Legs, garment: Garment) -> list[Part]:
    gap = legs.spread if legs.end_y > 2.5 else 0.4 * legs.spread
    inner = gap + 0.02
    y = legs.end_y - 0.055
    line = bend(
        (inner + 0.005, y),
        (inner + 0.5 * legs.end, y + 0.02),
        (inner + legs.end - 0.005, y - 0.005),
    )
    ink = _THREAD if garment.material == "denim" else -0.22
    fabric: Fabric | None = "metal" if garment.material == "denim" else None
    one = Stroke("hem", line, 0.008, 0.0 if fabric else ink, 0.024, fabric)
    return [one, mirrored(one)]


def _ankle_ribs(legs: Legs) -> list[Part]:
    inner = legs.spread + 0.02
    cuff = Panel(
        "cuff_right",
        at(
            (inner, legs.end_y - 0.02),
            (inner + legs.end, legs.end_y - 0.02),
            (inner + legs.end * 0.86, legs.end_y + 0.09),
            (inner + legs.end * 0.12, legs.end_y + 0.09),
        ),
        "rib",
        puff=0.6,
        lift=0.3,
    )
    return [cuff, mirrored(cuff)]


def _front(garment: Garment, legs: Legs, band: float) -> list[Part]:
    """Fly, pockets, creases."""
    top, c = _TOP + band, legs.crotch_y
    denim = garment.material == "denim"
    middle = Stroke("front seam", bend((0.0, top), (0.012, c - 0.2), (0.0, c)), 0.012, -0.34)
    parts: list[Part] = [middle]
    if garment.subtype == "leggings":
        return parts
    pocket = curve(
        (legs.waist * 0.62, top),
        (legs.waist * 0.66, top + 0.16),
        (legs.hip * 0.9, top + 0.17),
        (legs.hip * 0.985, top + 0.2),
    )
    if garment.subtype in ("trousers", "joggers", "shorts", "swim shorts"):
        pocket = bend(
            (legs.waist * 0.8, top), (legs.hip * 0.9, top + 0.16), (legs.hip * 0.985, top + 0.3)
        )
    edge = Stroke("pocket", pocket, 0.012, -0.36)
    parts += [edge, mirrored(edge)]
    if denim:
        for move in (0.018, 0.032):
            stitch = Stroke(
                "stitches", pocket + np.array([-0.2 * move, move]), 0.006, 0.0, 0.02, "metal"
            )
            parts += [stitch, mirrored(stitch)]
    if garment.subtype in ("jeans", "denim shorts", "trousers", "shorts"):
        fly = curve((0.075, top), (0.075, top + 0.2), (0.07, top + 0.3), (0.0, top + 0.34))
        parts.append(
            Stroke("fly", fly, 0.008, 0.0 if denim else -0.24, 0.02, "metal" if denim else None)
        )
    return parts + (_pressed(legs, top) if garment.subtype == "trousers" else [])


def _pressed(legs: Legs, top: float) -> list[Part]:
    """The ironed creases of long trousers."""
    if legs.end_y <= 2.5:
        return []
    x0, x1 = legs.hip * 0.5, legs.spread + 0.02 + legs.end * 0.5
    line = at((x0, top + 0.2), (x1, BODY.knee_y), (x1, legs.end_y - 0.03))
    return [Fold(line, 0.03, 0.55), Fold(mirror(line), 0.03, 0.55)]


def _band_line(legs: Legs) -> Points:
    return bend((-legs.waist, _TOP), (0.0, _TOP + 0.035), (legs.waist, _TOP))


def _sewn_band(legs: Legs, band: float, garment: Garment) -> list[Part]:
    line = _band_line(legs)
    outline = join(line, (line * np.array([1.015, 1.0]) + np.array([0.0, band]))[::-1])
    denim = garment.material == "denim"
    lower = line + np.array([0.0, band])
    parts: list[Part] = [
        Panel("waistband", outline, "plain" if denim else "main", puff=0.35, lift=0.45),
        Stroke("band seam", lower, 0.01, -0.32),
    ]
    for x in (-0.62, 0.62, -0.25, 0.25):
        left = x * legs.waist - 0.016
        loop = box(left, _TOP + 0.0, left + 0.034, _TOP + band + 0.025)
        parts += [
            Panel("loop", loop, "plain", puff=0.3, lift=0.6),
            Stroke("loop edge", join(loop, loop[:1]), 0.006, -0.25),
        ]
    button: Fabric = "metal" if denim else "dark"
    return parts + buttons([(0.0, _TOP + 0.02 + band * 0.5)], 0.024, button)


def _elastic_band(legs: Legs, band: float, garment: Garment) -> list[Part]:
    line = _band_line(legs)
    outline = join(line, (line * np.array([1.02, 1.0]) + np.array([0.0, band]))[::-1])
    parts: list[Part] = [
        Panel("waistband", outline, "rib", puff=0.5, lift=0.35),
        Stroke("band seam", line + np.array([0.0, band]), 0.009, -0.28),
    ]
    if garment.subtype == "leggings":
        return parts
    y = _TOP + band * 0.6
    for side in (-1.0, 1.0):
        tail = curve(
            (0.01 * side, y),
            (0.05 * side, y + 0.1),
            (0.02 * side, y + 0.18),
            (0.06 * side, y + 0.27),
        )
        parts.append(Panel("drawstring", thick(tail, 0.02), "label", puff=0.3, lift=0.8))
    return parts
