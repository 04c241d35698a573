"""The torso and the sleeves that tops, dresses and coats share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .garment import Garment
from .geometry import (
    BODY,
    Fabric,
    Fold,
    Panel,
    Part,
    Point,
    Points,
    Stroke,
    at,
    bend,
    both,
    curve,
    join,
    mirror,
    smooth,
    thick,
)

_HEMS = {"cropped": 1.0, "regular": 1.42, "short": 1.98, "knee": 2.34, "long": 3.05}


@dataclass(frozen=True)
class Torso:
    """Measures of the panel that covers the chest, in garment units.

    Attributes:
        neck: Half width of the neck opening.
        shoulder: End of the shoulder, right side.
        underarm: Where side and sleeve meet, right side.
        waist: Half width at the waist.
        hem: Half width at the hem.
        hem_y: Height of the hem.
        sag: How much lower the hem hangs in the middle.
    """

    neck: float
    shoulder: Point
    underarm: Point
    waist: float
    hem: float
    hem_y: float
    sag: float = 0.02


def draw_torso(garment: Garment, rng: np.random.Generator) -> Torso:
    """Measures by seed, in the length of the garment."""
    loose = float(rng.uniform(-0.04, 0.07))
    shaped = max(-0.01, float(rng.uniform(-0.06, 0.06)))
    neck = float(rng.uniform(0.17, 0.215))
    hem_y = _HEMS[garment.length or "regular"] + float(rng.uniform(-0.07, 0.07))
    under = BODY.underarm[1] + float(rng.uniform(-0.05, 0.03))
    drop = float(rng.uniform(0.07, 0.12))
    chest = BODY.underarm[0] + loose
    return Torso(
        neck=neck,
        shoulder=(BODY.shoulder[0] + 0.5 * loose, drop),
        underarm=(chest, under),
        waist=chest - 0.02 - shaped,
        hem=chest + float(rng.uniform(-0.02, 0.035)),
        hem_y=hem_y,
        sag=float(rng.uniform(0.0, 0.035)),
    )


def neckline(name: str | None, torso: Torso) -> Points:
    """Right half of the front neck edge, from its lowest point to the shoulder."""
    n = torso.neck
    top = (n, 0.0)
    if name == "v":
        return bend((0.0, 0.40), (0.45 * n, 0.23), top)
    if name == "scoop":
        return curve((0.0, 0.30), (0.75 * n, 0.30), (1.02 * n, 0.2), (1.12 * n, 0.01))
    if name in ("collar", "polo"):
        return bend((0.0, 0.13), (0.7 * n, 0.1), top)
    if name == "lapel":
        return bend((0.0, 0.62), (0.35 * n, 0.35), top)
    if name == "turtleneck":
        return bend((0.0, 0.05), (0.6 * n, 0.05), top)
    return curve((0.0, 0.145), (0.55 * n, 0.145), (0.95 * n, 0.09), top)


def body_outline(torso: Torso, neck: Points, sleeveless: bool = False) -> Points:
    """The front as a closed outline: neck edge, shoulder, armhole, side, hem."""
    sx, sy = torso.shoulder
    ux, uy = torso.underarm
    if sleeveless:
        sx -= 0.09
        hole = curve(
            (sx, sy - 0.02), (sx - 0.05, sy + 0.2), (sx - 0.04, uy - 0.04), (ux - 0.02, uy)
        )
    else:
        hole = curve((sx, sy), (sx - 0.06, sy + 0.14), (sx - 0.07, uy - 0.12), (ux, uy))
    side = smooth(
        (ux, uy),
        (0.35 * ux + 0.65 * torso.waist, 0.5 * (uy + BODY.waist[1])),
        *_below_waist(torso),
    )
    hem = bend(
        (torso.hem, torso.hem_y),
        (0.5 * torso.hem, torso.hem_y + torso.sag),
        (0.0, torso.hem_y + torso.sag),
    )
    return both(join(neck, hole, side, hem))


def _below_waist(torso: Torso) -> list[Point]:
    end = (torso.hem, torso.hem_y)
    if torso.hem_y < BODY.waist[1] + 0.12:
        return [(0.4 * torso.waist + 0.6 * torso.hem, torso.hem_y)]
    middle = (torso.waist, BODY.waist[1] - 0.05)
    return [middle, end]


@dataclass(frozen=True)
class Arm:
    """Measures of a sleeve.

    Attributes:
        length: Along the upper edge, in garment units.
        angle: How far it stands off from straight down, radians.
        wide: Width at its end.
        cuff: Depth of the cuff, 0 for a plain hem.
        cuff_fabric: What the cuff is made of.
        full: How much the sleeve bulges.
    """

    length: float
    angle: float
    wide: float
    cuff: float = 0.0
    cuff_fabric: Fabric = "rib"
    full: float = 0.02


def draw_arm(sleeve: str, rng: np.random.Generator, cuff: float = 0.0) -> Arm:
    """Measures of a short or long sleeve by seed."""
    spread = float(rng.uniform(0.0, 1.0))
    reach = float(rng.uniform(-0.05, 0.06))
    if sleeve == "short":
        return Arm(0.44 + reach, 0.62 + 0.3 * spread, 0.33, full=0.01)
    return Arm(1.34 + reach, 0.25 + 0.3 * spread, 0.185, cuff, full=0.035)


def sleeve(torso: Torso, arm: Arm, name: str = "sleeve") -> list[Part]:
    """Both sleeves with cuffs, seams and creases, in drawing order."""
    right = _right_sleeve(torso, arm)
    parts: list[Part] = []
    for part in right:
        parts += [_named(part, f"{name}_right"), _named(mirrored(part), f"{name}_left")]
    return parts


def _named(part: Part, name: str) -> Part:
    if isinstance(part, Panel):
        return replace(part, name=part.name.replace("sleeve", name))
    return part


def mirrored(part: Part) -> Part:
    """A part on the other side of the middle."""
    if isinstance(part, Panel):
        return replace(
            part,
            outline=mirror(part.outline),
            angle=-part.angle,
            origin=(-part.origin[0], part.origin[1]),
        )
    return replace(part, points=mirror(part.points))


def _right_sleeve(torso: Torso, arm: Arm) -> list[Part]:
    s, u = np.array(torso.shoulder), np.array(torso.underarm)
    along = np.array([math.sin(arm.angle), math.cos(arm.angle)])
    out = np.array([along[1], -along[0]])
    outer, inner = s + along * arm.length, s + along * arm.length - out * arm.wide
    upper = curve(
        _p(s),
        _p(s + along * 0.3 * arm.length + out * (0.03 + arm.full)),
        _p(s + along * 0.7 * arm.length + out * (0.01 + arm.full)),
        _p(outer),
    )
    low = u + along * 0.45 * (arm.length - 0.3) if arm.length > 0.8 else u + along * 0.08
    lower = curve(_p(inner), _p(inner - along * 0.25 * arm.length - out * 0.02), _p(low), _p(u), 14)
    inside = _p(u + np.array([-0.14, -0.05]))
    outline = join(upper, lower, at(inside, (inside[0], torso.shoulder[1] + 0.05)))
    parts: list[Part] = [
        Panel("sleeve", outline, angle=arm.angle, origin=_p(s), puff=0.75, lift=0.35)
    ]
    if arm.cuff:
        parts += _cuff(arm, outer, inner, along)
    else:
        inset = -0.05 * along
        parts.append(Stroke("hem", at(_p(outer + inset), _p(inner + inset)), 0.007, -0.22, 0.022))
    return parts + _sleeve_folds(arm, s, u, along, out)


def _cuff(arm: Arm, outer: np.ndarray, inner: np.ndarray, along: np.ndarray) -> list[Part]:
    tight = 0.1 if arm.cuff_fabric == "rib" else -0.02
    a = outer + (inner - outer) * tight * 0.3
    b = inner + (outer - inner) * tight
    end = along * arm.cuff
    outline = at(_p(a), _p(a + end), _p(b + end), _p(b))
    return [
        Panel("sleeve_cuff", outline, arm.cuff_fabric, arm.angle, _p(a), puff=0.6, lift=0.3),
        Stroke("cuff seam", at(_p(a), _p(b)), 0.01, -0.28),
    ]


def _sleeve_folds(
    arm: Arm, s: np.ndarray, u: np.ndarray, along: np.ndarray, out: np.ndarray
) -> list[Part]:
    pit = u + np.array([0.0, -0.04])
    folds: list[Part] = [
        Fold(at(_p(pit), _p(s + along * 0.32 * min(arm.length, 0.9))), 0.05, -0.5),
        Fold(at(_p(pit - along * 0.02), _p(s + along * 0.14 + out * -0.02)), 0.045, 0.35),
    ]
    if arm.length > 0.8:
        elbow = s + along * 0.72 - out * 0.24
        for k, reach in enumerate((0.2, 0.24, 0.17)):
            start = elbow + along * (0.1 * k - 0.1)
            end = start + out * reach + along * (0.1 - 0.07 * k)
            folds.append(Fold(at(_p(start), _p(end)), 0.035, -0.55 if k != 1 else 0.45))
        wrist = s + along * (arm.length - 0.14)
        folds.append(Fold(at(_p(wrist), _p(wrist - out * 0.17 + along * 0.04)), 0.03, -0.4))
    return folds


def _p(point: np.ndarray) -> Point:
    return (float(point[0]), float(point[1]))


def body_folds(torso: Torso, rng: np.random.Generator) -> list[Part]:
    """Creases from the armholes and across the belly."""
    folds: list[Part] = []
    ux, uy = torso.underarm
    for side in (-1.0, 1.0):
        reach = float(rng.uniform(0.16, 0.34))
        start = (side * (ux - 0.03), uy + 0.01)
        folds.append(
            Fold(at(start, (side * (ux - reach), uy + float(rng.uniform(0.1, 0.3)))), 0.05, -0.5)
        )
        folds.append(Fold(at(start, (side * (ux - reach * 0.7), uy - 0.16)), 0.04, 0.35))
    for _ in range(3):
        y = float(rng.uniform(uy + 0.15, torso.hem_y - 0.08))
        x = float(rng.uniform(-0.75, 0.4)) * torso.waist
        slope = float(rng.uniform(-0.16, 0.16))
        wide = float(rng.uniform(0.18, 0.42))
        folds.append(
            Fold(
                bend((x, y), (x + wide / 2, y + slope), (x + wide, y + slope)),
                float(rng.uniform(0.04, 0.08)),
                float(rng.choice([-0.5, 0.45])),
            )
        )
    return folds


def hem_stitches(torso: Torso, up: float = 0.055, ink: float = -0.22) -> Stroke:
    """The double-stitched hem of a jersey."""
    y = torso.hem_y - up
    half = bend((0.0, y + torso.sag), (0.5 * torso.hem, y + torso.sag), (torso.hem - 0.005, y))
    return Stroke("hem", join(mirror(half), half[1:]), 0.007, ink, 0.022)


def armhole_seams(torso: Torso) -> list[Part]:
    """The seams where the sleeves are set in."""
    sx, sy = torso.shoulder
    ux, uy = torso.underarm
    seam = curve((sx, sy), (sx - 0.06, sy + 0.14), (sx - 0.07, uy - 0.12), (ux, uy))
    return [Stroke("armhole", seam, 0.01, -0.3), Stroke("armhole", mirror(seam), 0.01, -0.3)]


def bindings(torso: Torso) -> list[Part]:
    """Bound armholes of a sleeveless garment."""
    sx, sy = torso.shoulder[0] - 0.09, torso.shoulder[1] - 0.02
    ux, uy = torso.underarm
    hole = curve((sx, sy), (sx - 0.05, sy + 0.22), (sx - 0.04, uy - 0.04), (ux - 0.02, uy))
    right = Panel("binding_right", thick(hole, 0.03), "plain", puff=0.3, lift=0.2, tone=0.95)
    return [right, mirrored(right)]
