"""Cuts of outer wear: jackets, coats, blazers, hoodies, cardigans and vests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .garment import Garment, stream
from .geometry import (
    Cut,
    Fabric,
    Fold,
    Panel,
    Part,
    Points,
    Stroke,
    at,
    bend,
    both,
    box,
    curve,
    ellipse,
    join,
    mirror,
    smooth,
    thick,
)
from .torso import (
    Arm,
    Torso,
    armhole_seams,
    bindings,
    body_folds,
    body_outline,
    draw_arm,
    draw_torso,
    hem_stitches,
    mirrored,
    neckline,
    sleeve,
)
from .trims import back_neck, buttons, collar_leaves, neck_band, patch_pocket, placket, rib_hem


def cut_outer(garment: Garment) -> Cut:
    """All of outer wear: what they share, then the front of the kind."""
    rng = stream(garment.seed, "shape")
    torso = _roomy(draw_torso(garment, rng), garment)
    neck = neckline("crew" if garment.neckline == "hood" else garment.neckline, torso)
    ribbed = _ribbed(garment)
    parts: list[Part] = []
    if garment.neckline == "hood":
        parts += _hood_back(torso, rng)
    if garment.sleeve != "none":
        parts += sleeve(torso, _arm(garment, rng, ribbed))
    if garment.neckline != "collar":
        parts += back_neck(torso, neck, 0.045)
    body = body_outline(torso, neck, garment.sleeve == "none")
    parts.append(Panel("body", body, puff=0.9, lift=0.3))
    parts += _puffer(torso) if _quilted(garment) else body_folds(torso, rng)
    parts += bindings(torso) if garment.sleeve == "none" else armhole_seams(torso)
    if ribbed:
        parts += rib_hem(torso)
    parts += _FRONTS[garment.subtype](garment, torso, neck, rng)
    size = 0.34 if garment.subtype == "hoodie" else 0.2
    place = (0.0, 0.55) if garment.subtype == "hoodie" else (0.24, 0.5)
    return Cut(tuple(parts), place, size, 0.45)


def _roomy(torso: Torso, garment: Garment) -> Torso:
    """Outer wear is wider than what it covers; a coat falls straighter."""
    straight = 0.02 if garment.subtype in ("coat", "hoodie", "jacket") else -0.01
    extra = 0.06 if garment.length in ("knee", "long") else 0.03
    sx, sy = torso.shoulder
    ux, uy = torso.underarm
    return replace(
        torso,
        shoulder=(sx + 0.02, sy),
        underarm=(ux + 0.03, uy + 0.03),
        waist=torso.waist + 0.03 + straight,
        hem=torso.hem + extra,
    )


def _ribbed(garment: Garment) -> bool:
    bomber = garment.subtype == "jacket" and garment.neckline == "crew"
    return garment.subtype in ("hoodie", "cardigan") or bomber


def _quilted(garment: Garment) -> bool:
    padded = garment.subtype == "vest" and garment.material == "cotton"
    return padded and garment.neckline != "v"


def _arm(garment: Garment, rng: np.random.Generator, ribbed: bool) -> Arm:
    cuff = 0.1 if ribbed else (0.09 if garment.material == "denim" else 0.0)
    arm = draw_arm("long", rng, cuff)
    fabric: Fabric = "rib" if ribbed else "main"
    return replace(arm, wide=arm.wide + 0.03, cuff_fabric=fabric, full=arm.full + 0.01)


def _puffer(torso: Torso) -> list[Part]:
    """Quilting: stitched lines with padding that swells between."""
    parts: list[Part] = []
    rows = 7
    for i in range(1, rows):
        y = 0.18 + (torso.hem_y - 0.18) * i / rows
        wide = torso.underarm[0] - (0.1 if y < torso.underarm[1] else 0.02)
        line = bend((-wide, y), (0.0, y + 0.02), (wide, y))
        parts.append(Stroke("quilting", line, 0.012, -0.3))
        parts.append(Fold(line, 0.06, -0.9))
        parts.append(Fold(line + np.array([0.0, 0.07]), 0.09, 0.8))
    return parts


def _zip(top: float, bottom: float) -> list[Part]:
    """A closed zip down the middle."""
    pull = box(-0.014, top + 0.03, 0.014, top + 0.1)
    return [
        Panel("zip_tape", box(-0.024, top, 0.024, bottom), "dark", puff=0.0, lift=0.3),
        Stroke("zip", at((0.0, top), (0.0, bottom)), 0.02, 0.0, 0.01, "metal"),
        Panel("zip_pull", pull, "metal", puff=0.0, lift=0.6),
    ]


def _slanted_pockets(y: float, x: float, ink: float = -0.4) -> list[Part]:
    edge = at((x, y), (x + 0.11, y + 0.26))
    parts: list[Part] = []
    for line in (edge, mirror(edge)):
        parts.append(Panel("welt", thick(line, 0.04), "main", puff=0.2, lift=0.5, tone=0.94))
        parts.append(Stroke("pocket", line, 0.012, ink))
    return parts


def _flap_pockets(y: float, x: float = 0.27, wide: float = 0.24) -> list[Part]:
    parts: list[Part] = []
    for side in (-1.0, 1.0):
        left, right = side * x - wide / 2, side * x + wide / 2
        flap = at((left, y), (right, y), (right - 0.006, y + 0.085), (left + 0.006, y + 0.085))
        parts.append(Panel("pocket_flap", flap, "main", puff=0.2, lift=0.6))
        parts.append(Stroke("flap edge", join(flap, flap[:1]), 0.008, -0.3))
    return parts


def _jacket(garment: Garment, torso: Torso, neck: Points, rng: np.random.Generator) -> list[Part]:
    bottom = torso.hem_y + torso.sag + (0.1 if _ribbed(garment) else 0.0)
    if garment.material == "denim":
        return _denim_front(torso, neck, garment)
    top = float(neck[0][1])
    parts = _slanted_pockets(min(0.95, torso.hem_y - 0.34), 0.2)
    parts += _zip(top, bottom)
    if garment.neckline == "crew":
        return [*parts, *neck_band(neck, 0.075)]
    parts.append(hem_stitches(torso))
    if garment.material == "leather":
        zipped = at((0.2, 0.42), (0.36, 0.5))
        parts += [Stroke("pocket zip", zipped, 0.018, 0.0, 0.01, "metal")]
    return [*parts, *collar_leaves(torso, 0.24, 0.2)]


def _denim_front(torso: Torso, neck: Points, garment: Garment) -> list[Part]:
    """Yoke, flap pockets, tapering seams and metal buttons."""
    bottom = torso.hem_y + torso.sag
    yoke = bend((0.0, 0.36), (0.2, 0.36), (torso.shoulder[0] - 0.03, 0.34))
    taper = at((0.3, 0.4), (0.19, torso.hem_y - 0.02))
    parts: list[Part] = []
    for line in (yoke, taper, taper + np.array([-0.14, 0.0])):
        for piece in (line, mirror(line)):
            parts.append(Stroke("seam", piece, 0.01, -0.3))
            parts.append(
                Stroke("stitches", piece + np.array([0.0, 0.014]), 0.007, 0, 0.02, "metal")
            )
    parts += placket(0.12, bottom, 0.085)
    if garment.sleeve != "none":
        parts += patch_pocket(0.235, 0.4, 0.2, 0.2, flap=True) + patch_pocket(
            -0.235, 0.4, 0.2, 0.2, flap=True
        )
        parts += buttons([(0.235, 0.46), (-0.235, 0.46)], 0.018, "metal")
    parts += buttons([(0.0, 0.2 + (bottom - 0.27) * k / 5) for k in range(6)], 0.022, "metal")
    half = bend((0.0, bottom - 0.1), (0.25, bottom - 0.1), (torso.hem - 0.005, torso.hem_y - 0.1))
    parts.append(Stroke("waistband", join(mirror(half), half[1:]), 0.011, -0.32))
    parts.append(
        Stroke(
            "stitches", join(mirror(half), half[1:]) + np.array([0, 0.015]), 0.007, 0, 0.02, "metal"
        )
    )
    if garment.neckline == "collar":
        return [*parts, *collar_leaves(torso, 0.24, 0.19)]
    return [*parts, *neck_band(neck, 0.05, "main")]


def _lapels(torso: Torso, low: float, wide: float) -> list[Part]:
    """A notched collar that rolls open down to a point."""
    n = torso.neck
    lapel = join(
        bend((0.0, low), (0.42 * n, 0.3), (0.9 * n, -0.01)),
        at((n + 0.06, 0.06), (n + 0.035, 0.2), (n + wide, 0.235)),
        bend((n + wide, 0.235), (0.75 * n, low - 0.1), (0.0, low)),
    )
    collar = join(
        bend((0.62 * n, -0.075), (1.05 * n, -0.085), (1.22 * n, 0.02)),
        at((n + 0.105, 0.15), (n + 0.035, 0.2), (n * 0.86, 0.06)),
    )
    stand = both(
        join(
            bend((0.0, -0.085), (0.4 * n, -0.085), (0.7 * n, -0.072)),
            at((0.86 * n, 0.04)),
            bend((0.86 * n, 0.04), (0.4 * n, 0.02), (0.0, 0.02)),
        )
    )
    right = Panel("lapel_right", lapel, angle=0.25, puff=0.35, lift=0.8)
    upper = Panel("collar_right", collar, angle=0.6, puff=0.35, lift=0.6)
    roll = Stroke("lapel edge", lapel[11:], 0.009, -0.28)
    rim = Stroke("collar edge", collar[11:14], 0.01, -0.3)
    return [
        Panel("collar_back", stand, "main", puff=0.3, lift=0.5, tone=0.92),
        right,
        mirrored(right),
        upper,
        mirrored(upper),
        roll,
        mirrored(roll),
        rim,
        mirrored(rim),
    ]


def _coat(garment: Garment, torso: Torso, neck: Points, rng: np.random.Generator) -> list[Part]:
    bottom = torso.hem_y + torso.sag
    edge = Stroke("front edge", at((0.0, 0.6), (0.0, bottom)), 0.013, -0.4)
    parts: list[Part] = []
    belted = bool(rng.random() < 0.35)
    double = bool(rng.random() < 0.5)
    start = 0.7 if garment.neckline == "lapel" else 0.3
    if double:
        edge = replace(edge, points=at((-0.11, 0.5), (-0.13, bottom)))
        places = [(x, start + 0.24 * k) for k in range(3) for x in (-0.09, 0.12)]
    else:
        count = 4 if garment.neckline == "lapel" else 5
        places = [(0.03, start + 0.26 * k) for k in range(count)]
    parts.append(edge)
    parts += _flap_pockets(1.32, 0.29)
    parts += buttons(places, 0.028, "dark")
    if belted:
        line = bend((-torso.waist - 0.02, 1.0), (0.0, 1.03), (torso.waist + 0.02, 1.0))
        belt = join(line, (line + np.array([0.0, 0.085]))[::-1])
        parts.append(Panel("belt", belt, "plain", puff=0.5, lift=0.7, tone=0.95))
        parts.append(Panel("buckle", box(-0.05, 1.0, 0.05, 1.12), "dark", puff=0.3, lift=0.6))
    if garment.neckline == "lapel":
        return [*parts, *_lapels(torso, 0.62, 0.17)]
    return [*parts, *collar_leaves(torso, 0.26, 0.21)]


def _blazer(garment: Garment, torso: Torso, neck: Points, rng: np.random.Generator) -> list[Part]:
    bottom = torso.hem_y + torso.sag
    low = float(rng.uniform(0.62, 0.8))
    edge = curve((0.0, low), (0.01, 1.0), (0.0, 1.2), (-0.07, bottom))
    welt = box(0.2, 0.52, 0.34, 0.555)
    parts: list[Part] = [
        Stroke("front edge", edge, 0.013, -0.42),
        Panel("breast_pocket", welt, "main", puff=0.2, lift=0.5),
        Stroke("welt edge", join(welt, welt[:1]), 0.007, -0.25),
        *_flap_pockets(1.1, 0.26, 0.22),
    ]
    count = int(rng.integers(1, 3))
    parts += buttons([(0.03, low + 0.06 + 0.2 * k) for k in range(count)], 0.025, "dark")
    dart = Stroke("dart", at((0.24, 0.72), (0.25, 1.1)), 0.008, -0.2)
    return [*parts, dart, mirrored(dart), *_lapels(torso, low, 0.14)]


def _hood_back(torso: Torso, rng: np.random.Generator) -> list[Part]:
    """The hood laid up behind the neck, and the dark inside of it."""
    n = torso.neck
    high = float(rng.uniform(-0.5, -0.42))
    outer = smooth(
        (0.0, high),
        (0.17, high + 0.05),
        (n + 0.09, -0.18),
        (n + 0.08, 0.06),
        (0.12, 0.16),
        (0.0, 0.19),
    )
    inner = smooth(
        (0.0, high + 0.09), (0.12, high + 0.14), (n - 0.015, -0.14), (n - 0.03, 0.05), (0.0, 0.17)
    )
    seam = Stroke("hood seam", at((0.0, high), (0.0, high + 0.09)), 0.01, -0.3)
    return [
        Panel("hood", both(outer), puff=0.9, lift=0.3),
        seam,
        Panel("hood_inside", both(inner), "inside", puff=0.5, lift=0.0),
    ]


def _hoodie(garment: Garment, torso: Torso, neck: Points, rng: np.random.Generator) -> list[Part]:
    zipped = bool(rng.random() < 0.45) and garment.pattern != "print"
    bottom = torso.hem_y + 0.1
    parts: list[Part] = []
    y = min(0.98, torso.hem_y - 0.36)
    pocket = both(at((0.0, y), (0.17, y), (0.28, y + 0.17), (0.28, y + 0.34), (0.0, y + 0.35)))
    parts += [
        Panel("pocket", pocket, puff=0.25, lift=0.4),
        Stroke("pocket seam", join(pocket, pocket[:1]), 0.01, -0.28),
    ]
    if zipped:
        parts += _zip(0.15, bottom)
    overlap = both(
        smooth(
            (0.0, 0.155),
            (0.1, 0.13),
            (torso.neck + 0.01, -0.02),
            (torso.neck + 0.07, 0.04),
            (0.13, 0.2),
            (0.0, 0.235),
        )
    )
    parts.append(Panel("hood_front", overlap, puff=0.6, lift=0.6))
    for side in (-1.0, 1.0):
        end = float(rng.uniform(0.46, 0.6))
        cord = curve((side * 0.07, 0.17), (side * 0.1, 0.3), (side * 0.06, 0.4), (side * 0.09, end))
        parts.append(Panel("drawstring", thick(cord, 0.02), "label", puff=0.3, lift=0.8))
        parts.append(
            Panel(
                "eyelet",
                ellipse((side * 0.07, 0.165), 0.018, 0.018, 12),
                "metal",
                puff=0.0,
                lift=0.3,
            )
        )
    return parts


def _cardigan(garment: Garment, torso: Torso, neck: Points, rng: np.random.Generator) -> list[Part]:
    low = float(neck[0][1])
    bottom = torso.hem_y + 0.09
    strip = Panel("button_band", box(-0.05, low - 0.03, 0.05, bottom), "rib", puff=0.3, lift=0.5)
    parts: list[Part] = [strip]
    parts.append(Stroke("band edge", at((0.05, low), (0.05, bottom)), 0.009, -0.34))
    parts += neck_band(neck, 0.08)
    count = 5 if garment.length != "knee" else 7
    places = [(0.0, low + 0.08 + (bottom - low - 0.16) * k / (count - 1)) for k in range(count)]
    fabric: Fabric = "dark" if rng.random() < 0.5 else "label"
    parts += buttons(places, 0.024, fabric)
    if rng.random() < 0.6:
        y = torso.hem_y - 0.36
        parts += patch_pocket(0.27, y, 0.23, 0.26) + patch_pocket(-0.27, y, 0.23, 0.26)
    return parts


def _vest(garment: Garment, torso: Torso, neck: Points, rng: np.random.Generator) -> list[Part]:
    bottom = torso.hem_y + torso.sag
    low = float(neck[0][1])
    if garment.material == "denim":
        return _denim_front(torso, neck, garment)
    if garment.neckline == "v" or garment.material == "wool":
        parts: list[Part] = [Stroke("front edge", at((0.0, low), (0.0, bottom)), 0.013, -0.4)]
        parts += buttons(
            [(0.025, low + 0.07 + (bottom - low - 0.18) * k / 4) for k in range(5)], 0.022, "dark"
        )
        parts += _flap_pockets(1.08, 0.25, 0.2)
        tail: list[Part] = neck_band(neck, 0.03, "main")
        return [*parts, *(collar_leaves(torso, 0.2) if garment.neckline == "collar" else tail)]
    parts = [*_zip(low, bottom), *_slanted_pockets(0.95, 0.2), hem_stitches(torso)]
    if garment.neckline == "collar":
        return [*parts, *collar_leaves(torso, 0.2, 0.18)]
    return [*parts, *neck_band(neck, 0.08)]


_FRONTS = {
    "jacket": _jacket,
    "coat": _coat,
    "blazer": _blazer,
    "hoodie": _hoodie,
    "cardigan": _cardigan,
    "vest": _vest,
}
