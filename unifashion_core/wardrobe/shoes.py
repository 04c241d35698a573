"""Cuts of shoes, always a pair: from above, or from the side where the heel matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .garment import Garment, stream
from .geometry import (
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
    smooth,
    thick,
    turned,
)
from .torso import mirrored


def cut_shoes(garment: Garment) -> Cut:
    """Any pair of shoes."""
    rng = stream(garment.seed, "shape")
    if garment.subtype in ("heels", "boots") or (
        garment.subtype == "sneakers" and rng.random() < 0.5
    ):
        return _side_pair(_SIDES[garment.subtype](garment, rng), rng)
    return _top_pair(_TOPS[garment.subtype](garment, rng), rng)


def _top_pair(right: list[Part], rng: np.random.Generator) -> Cut:
    """A right shoe from above (toe up) and its mirror image, a little turned."""
    gap = float(rng.uniform(0.27, 0.33))
    lean = float(rng.uniform(-0.04, 0.12))
    one = [_placed(p, lean, (gap, 0.0)) for p in right]
    other = [_placed(mirrored(p), -lean, (-gap, float(rng.uniform(-0.04, 0.04)))) for p in right]
    return Cut((*other, *one), None, 0.2, 0.2)


def _side_pair(shoe: list[Part], rng: np.random.Generator) -> Cut:
    """One shoe from the side, and its twin behind it."""
    step = (float(rng.uniform(0.14, 0.24)), float(rng.uniform(-0.34, -0.22)))
    back = [_placed(p, -0.05, step) for p in shoe]
    flip = rng.random() < 0.5
    parts = [*back, *shoe]
    return Cut(tuple(mirrored(p) for p in parts) if flip else tuple(parts), None, 0.2, 0.2)


def _placed(part: Part, turn: float, move: Point) -> Part:
    if isinstance(part, Panel):
        outline = turned(part.outline, turn) + np.array(move)
        return replace(part, outline=outline, angle=part.angle - turn)
    return replace(part, points=turned(part.points, turn) + np.array(move))


def _sole_outline(grow: float, wide: float) -> Points:
    """A right sole from above: the big toe on the inner (left) side."""
    g, w = grow, wide
    return smooth(
        (-0.02, -0.72 - g),
        (0.13 * w + g, -0.62 - g * 0.5),
        (0.215 * w + g, -0.36),
        (0.18 * w + g, 0.02),
        (0.165 * w + g, 0.4),
        (0.1 * w + g, 0.62 + g * 0.6),
        (0.0, 0.66 + g),
        (-0.1 * w - g, 0.62 + g * 0.6),
        (-0.15 * w - g, 0.4),
        (-0.13 * w - g, 0.04),
        (-0.19 * w - g, -0.34),
        (-0.16 * w - g, -0.62 - g * 0.5),
        closed=True,
        steps=4,
    )


def _sneaker_top(garment: Garment, rng: np.random.Generator) -> list[Part]:
    # Size: one drawing, its outlines in the order they lie on each other.
    wide = float(rng.uniform(0.95, 1.08))
    opening = smooth(
        (-0.085, 0.12),
        (0.0, 0.06),
        (0.085, 0.12),
        (0.11, 0.36),
        (0.07, 0.56),
        (0.0, 0.6),
        (-0.07, 0.56),
        (-0.11, 0.36),
        closed=True,
        steps=4,
    )
    tongue = smooth(
        (-0.075, -0.3),
        (0.075, -0.3),
        (0.085, 0.1),
        (0.07, 0.2),
        (-0.07, 0.2),
        (-0.085, 0.1),
        closed=True,
        steps=3,
    )
    toe = bend((-0.17 * wide, -0.45), (0.0, -0.36), (0.19 * wide, -0.45))
    parts: list[Part] = [
        Panel("sole", _sole_outline(0.035, wide), "sole", puff=0.4, lift=0.2),
        Panel("upper", _sole_outline(0.0, wide), puff=1.0, lift=0.3),
        Panel("opening", opening, "inside", puff=0.0, lift=0.0),
        Panel("insole", ellipse((0.0, 0.4), 0.075, 0.16), "label", puff=0.0, lift=0.0, tone=0.7),
        Panel("tongue", tongue, "plain", puff=0.5, lift=0.4, tone=0.95),
        Stroke("toe cap", toe, 0.012, -0.3),
        Stroke("collar", join(opening, opening[:1]), 0.022, -0.2),
    ]
    for k in range(5):
        y = -0.26 + 0.09 * k
        half = 0.085 + 0.006 * k
        lace = bend((-half, y), (0.0, y - 0.035), (half, y + 0.01))
        parts.append(Panel("lace", thick(lace, 0.026), "sole", puff=0.3, lift=0.6))
        parts += [
            Panel("eyelet", ellipse((s * half, y), 0.012, 0.012, 8), "dark", puff=0.0, lift=0.0)
            for s in (-1.0, 1.0)
        ]
    for side in (-1.0, 1.0):
        loop = smooth(
            (0.0, 0.1), (side * 0.1, 0.04), (side * 0.17, 0.1), (side * 0.1, 0.15), (0.0, 0.1)
        )
        parts.append(Panel("bow", thick(loop, 0.022), "sole", puff=0.3, lift=0.6))
    return parts


def _loafer_top(garment: Garment, rng: np.random.Generator) -> list[Part]:
    wide = float(rng.uniform(0.9, 1.02))
    opening = smooth(
        (-0.095, 0.0),
        (0.0, -0.09),
        (0.095, 0.0),
        (0.12, 0.3),
        (0.075, 0.55),
        (0.0, 0.59),
        (-0.075, 0.55),
        (-0.12, 0.3),
        closed=True,
        steps=4,
    )
    apron = smooth((-0.115, -0.02), (-0.12, -0.4), (0.0, -0.55), (0.13, -0.4), (0.12, -0.02))
    strap = join(
        bend((-0.17 * wide, -0.16), (0.0, -0.24), (0.19 * wide, -0.16)),
        bend((0.19 * wide, -0.05), (0.0, -0.13), (-0.16 * wide, -0.05)),
    )
    return [
        Panel("sole", _sole_outline(0.022, wide), "sole", puff=0.3, lift=0.2),
        Panel("upper", _sole_outline(0.0, wide), puff=1.0, lift=0.3),
        Stroke("apron", apron, 0.014, -0.34),
        Fold(apron, 0.05, 0.6),
        Panel("opening", opening, "inside", puff=0.0, lift=0.0),
        Panel("insole", ellipse((0.0, 0.38), 0.08, 0.18), "label", puff=0.0, lift=0.0, tone=0.66),
        Panel("strap", strap, "plain", puff=0.5, lift=0.6),
        Stroke("slot", at((-0.045, -0.14), (0.05, -0.14)), 0.018, -0.6),
        Stroke("collar", join(opening, opening[:1]), 0.016, -0.25),
    ]


def _sandal_top(garment: Garment, rng: np.random.Generator) -> list[Part]:
    wide = float(rng.uniform(0.94, 1.05))
    base: Fabric = "sole"
    parts: list[Part] = [
        Panel("sole", _sole_outline(0.03, wide), base, puff=0.5, lift=0.2, tone=0.85),
        Panel("insole", _sole_outline(0.0, wide), base, puff=0.4, lift=0.0),
        Fold(ellipse((0.0, 0.42), 0.08, 0.12), 0.08, -0.5),
    ]
    style = int(rng.integers(3))
    w = 0.235 * wide
    bands = {
        0: [(-0.4, 0.15), (-0.12, 0.12)],
        1: [(-0.38, 0.07), (-0.24, 0.07), (-0.1, 0.07), (0.2, 0.06)],
        2: [(0.25, 0.055)],
    }[style]
    for y, deep in bands:
        top = bend((-w, y), (0.0, y - 0.07), (w + 0.015, y))
        strap = join(top, (top + np.array([0.0, deep]))[::-1])
        parts.append(Panel("strap", strap, "plain", puff=0.6, lift=0.8))
        parts.append(Stroke("strap stitches", top + np.array([0.0, 0.018]), 0.006, -0.22, 0.02))
    if style == 2:  # a thong between the toes
        for end in ((-w, 0.0), (w, 0.02)):
            line = curve((-0.03, -0.44), (-0.02, -0.3), (end[0] * 0.7, -0.2), end)
            parts.append(Panel("strap", thick(line, 0.06), "plain", puff=0.6, lift=0.8))
    elif style == 0:
        for y in (-0.34, -0.07):
            buckle = box(w * 0.45, y - 0.035, w * 0.45 + 0.07, y + 0.045)
            parts.append(Stroke("buckle", join(buckle, buckle[:1]), 0.014, 0.0, 0.0, "metal"))
    return parts


def _sneaker_side(garment: Garment, rng: np.random.Generator) -> list[Part]:
    """Toe to the right."""
    # Size: one drawing, its outlines in the order they lie on each other.
    high = float(rng.choice([-0.3, -0.3, -0.52]))
    upper = join(
        bend((-0.62, 0.22), (-0.68, 0.0), (-0.6, high)),
        bend((-0.6, high), (-0.42, high + 0.1), (-0.2, high + 0.02)),
        curve((-0.2, high + 0.02), (0.05, -0.16), (0.2, 0.0), (0.46, 0.04)),
        curve((0.46, 0.04), (0.6, 0.06), (0.68, 0.14), (0.68, 0.24)),
    )
    sole = join(
        smooth((-0.66, 0.2), (-0.3, 0.24), (0.1, 0.23), (0.5, 0.22), (0.72, 0.2)),
        smooth(
            (0.74, 0.24), (0.66, 0.335), (0.3, 0.35), (-0.3, 0.35), (-0.62, 0.345), (-0.68, 0.28)
        ),
    )
    toe = join(
        curve((0.34, 0.03), (0.4, 0.1), (0.42, 0.16), (0.42, 0.24)),
        at((0.69, 0.24)),
        curve((0.69, 0.24), (0.68, 0.12), (0.56, 0.05), (0.34, 0.03)),
    )
    heel = join(
        bend((-0.62, 0.22), (-0.68, 0.0), (-0.61, high + 0.08)),
        bend((-0.5, high + 0.14), (-0.46, 0.06), (-0.4, 0.23)),
    )
    stripe = curve((-0.3, 0.2), (-0.18, 0.05), (-0.04, -0.02), (0.1, -0.1))
    parts: list[Part] = [
        Panel("inside", ellipse((-0.4, high + 0.03), 0.19, 0.055), "inside", puff=0.0, lift=0.0),
        Panel("upper", upper, puff=1.0, lift=0.3),
        Panel(
            "toe_cap", toe, "plain" if garment.material == "leather" else "sole", puff=0.6, lift=0.2
        ),
        Panel("heel_tab", heel, "plain", puff=0.4, lift=0.3, tone=0.9),
        Panel(
            "side_stripe",
            thick(stripe, 0.07),
            "second" if garment.pattern != "plain" else "sole",
            puff=0.1,
            lift=0.2,
        ),
        Panel("sole", sole, "sole", puff=0.5, lift=0.4),
        Stroke(
            "sole line", smooth((-0.66, 0.29), (0.0, 0.305), (0.7, 0.27)), 0.01, -0.3, 0.0, "sole"
        ),
    ]
    for k in range(5):
        t = k / 4
        x, y = -0.13 + 0.36 * t, high + 0.1 + (0.02 - high - 0.1) * t
        lace = at((x - 0.07, y + 0.07), (x + 0.03, y - 0.02))
        parts.append(Panel("lace", thick(lace, 0.03), "sole", puff=0.3, lift=0.5))
    return parts


def _boot_side(garment: Garment, rng: np.random.Generator) -> list[Part]:
    # Size: one drawing, its outlines in the order they lie on each other.
    top = float(rng.choice([-0.5, -0.62, -1.0]))
    heel = float(rng.uniform(0.06, 0.2))
    shaft = 0.02 if top > -0.8 else 0.06
    upper = join(
        smooth((-0.5, 0.26), (-0.56, 0.1), (-0.5, -0.2), (-0.52 - shaft, top)),
        bend((-0.52 - shaft, top), (-0.28, top + 0.04), (-0.04 + shaft, top)),
        smooth(
            (-0.04 + shaft, top),
            (-0.06, -0.28),
            (0.04, -0.08),
            (0.3, 0.02),
            (0.55, 0.1),
            (0.62, 0.26),
        ),
    )
    sole = join(
        smooth((-0.53, 0.24), (0.0, 0.27), (0.64, 0.25)),
        smooth((0.64, 0.3), (0.3, 0.325), (-0.1, 0.32)),
        at((-0.16, 0.3 + heel), (-0.5, 0.3 + heel), (-0.53, 0.27)),
    )
    laced = top > -0.9 and rng.random() < 0.5
    parts: list[Part] = [
        Panel(
            "inside",
            ellipse((-0.28, top + 0.005), 0.24 + shaft, 0.05),
            "inside",
            puff=0.0,
            lift=0.0,
        ),
        Panel("upper", upper, puff=1.0, lift=0.3),
        Panel("sole", sole, "sole", puff=0.3, lift=0.3),
        Fold(bend((-0.1, -0.1), (-0.2, 0.0), (-0.4, -0.02)), 0.05, -0.6),
        Fold(bend((0.0, -0.05), (-0.15, 0.09), (-0.38, 0.08)), 0.05, 0.5),
        Stroke("vamp", curve((0.02, -0.1), (0.0, 0.06), (-0.05, 0.16), (-0.2, 0.25)), 0.011, -0.32),
        Stroke("heel seam", smooth((-0.3, 0.25), (-0.4, 0.06), (-0.52, 0.02)), 0.01, -0.28),
    ]
    if laced:
        for k in range(5):
            y = top + 0.08 + 0.09 * k
            x = -0.06 + 0.012 * k
            parts.append(
                Panel(
                    "lace",
                    thick(at((x - 0.12, y + 0.02), (x + 0.03, y)), 0.026),
                    "label",
                    puff=0.3,
                    lift=0.5,
                )
            )
    elif rng.random() < 0.6:  # an elastic panel
        gore = at((-0.32, top + 0.1), (-0.18, top + 0.1), (-0.2, -0.02), (-0.3, -0.02))
        parts.append(Panel("elastic", gore, "dark", puff=0.1, lift=0.0))
    else:
        parts.append(
            Stroke("zip", at((-0.27, top + 0.06), (-0.25, 0.2)), 0.02, 0.0, 0.012, "metal")
        )
    return parts


def _heel_side(garment: Garment, rng: np.random.Generator) -> list[Part]:
    """A court shoe on a heel, toe to the right."""
    # Size: one drawing, its outlines in the order they lie on each other.
    high = float(rng.uniform(0.3, 0.52))
    thin = float(rng.choice([0.035, 0.05, 0.11]))
    ground, back = 0.4, 0.4 - high
    upper = join(
        smooth((-0.52, back + 0.1), (-0.56, back - 0.05), (-0.52, back - 0.2)),
        curve((-0.52, back - 0.2), (-0.42, back + 0.06), (-0.1, back + 0.2), (0.26, ground - 0.2)),
        curve(
            (0.26, ground - 0.2),
            (0.46, ground - 0.2),
            (0.66, ground - 0.07),
            (0.74, ground - 0.015),
        ),
        curve((0.74, ground), (0.4, ground + 0.01), (0.26, ground + 0.01), (0.16, ground - 0.02)),
        curve(
            (0.16, ground - 0.02), (-0.06, ground - 0.1), (-0.24, back + 0.16), (-0.3, back + 0.13)
        ),
    )
    inside = join(
        curve((-0.52, back - 0.19), (-0.42, back + 0.06), (-0.1, back + 0.2), (0.27, ground - 0.2)),
        curve((0.27, ground - 0.2), (0.08, back + 0.06), (-0.2, back - 0.04), (-0.44, back - 0.17)),
    )
    heel = at(
        (-0.53, back + 0.06),
        (-0.28, back + 0.13),
        (-0.5 + thin + 0.05, ground - 0.1),
        (-0.5 + thin, ground + 0.015),
        (-0.5, ground + 0.015),
    )
    sole = thick(
        curve((0.74, ground), (0.4, ground + 0.015), (0.2, ground + 0.01), (-0.02, ground - 0.12)),
        0.022,
    )
    parts: list[Part] = [
        Panel("heel", heel, "plain", puff=0.6, lift=0.2, tone=0.9),
        Panel(
            "heel_tip", box(-0.5, ground, -0.5 + thin, ground + 0.02), "dark", puff=0.0, lift=0.0
        ),
        Panel("inside", inside, "label", puff=0.0, lift=0.0, tone=0.72),
        Panel("upper", upper, puff=1.0, lift=0.2),
        Panel("sole", sole, "dark", puff=0.0, lift=0.0),
    ]
    if rng.random() < 0.45:
        strap = bend((-0.52, back - 0.16), (-0.33, back - 0.27), (-0.16, back - 0.2))
        loop = join(strap, bend((-0.16, back - 0.2), (-0.3, back - 0.1), (-0.52, back - 0.13)))
        parts.insert(0, Panel("strap", thick(loop, 0.035), "plain", puff=0.4, lift=0.4))
    if rng.random() < 0.3:
        bow = smooth((0.0, 0.0), (0.06, -0.05), (0.1, 0.0), (0.05, 0.035), closed=True)
        spot = np.array([0.4, ground - 0.17])
        parts += [
            Panel("bow", b + spot, "plain", puff=0.6, lift=0.7)
            for b in (bow, bow * np.array([-1, 1]))
        ]
    return parts


_TOPS: dict[str, Callable[[Garment, np.random.Generator], list[Part]]] = {
    "sneakers": _sneaker_top,
    "loafers": _loafer_top,
    "sandals": _sandal_top,
}
_SIDES: dict[str, Callable[[Garment, np.random.Generator], list[Part]]] = {
    "sneakers": _sneaker_side,
    "boots": _boot_side,
    "heels": _heel_side,
}
