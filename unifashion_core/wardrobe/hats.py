"""Cuts of hats: cap, beanie, sun hat and bucket hat, seen from the front or a little above."""

from __future__ import annotations

import numpy as np

from .garment import Garment, stream
from .geometry import (
    Cut,
    Fabric,
    Fold,
    Panel,
    Part,
    Stroke,
    at,
    bend,
    both,
    curve,
    ellipse,
    join,
    mirror,
    smooth,
)
from .torso import mirrored


def cut_hat(garment: Garment) -> Cut:
    """Any hat."""
    rng = stream(garment.seed, "shape")
    return _HATS[garment.subtype](garment, rng)


def _cap(garment: Garment, rng: np.random.Generator) -> Cut:
    """A baseball cap, from the side or from the front."""
    visor: Fabric = "second" if garment.pattern == "print" and rng.random() < 0.5 else "plain"
    if rng.random() < 0.6:
        return _cap_side(visor, rng)
    return _cap_front(visor, rng)


def _cap_side(visor: Fabric, rng: np.random.Generator) -> Cut:
    # Size: one drawing, its outlines in the order they lie on each other.
    high = float(rng.uniform(0.46, 0.56))
    reach = float(rng.uniform(0.84, 0.98))
    crown = join(
        smooth(
            (-0.5, 0.2),
            (-0.52, -0.06),
            (-0.36, -high + 0.1),
            (-0.02, -high),
            (0.28, -high + 0.16),
            (0.43, -0.1),
            (0.45, 0.14),
        ),
        curve((0.45, 0.14), (0.2, 0.26), (-0.2, 0.3), (-0.5, 0.2)),
    )
    top = curve((0.12, 0.2), (0.4, 0.0), (0.72, 0.02), (reach, 0.22))
    bill = join(top, curve((reach, 0.22), (reach - 0.1, 0.33), (0.5, 0.26), (0.12, 0.25)))
    under = bill + np.array([0.0, 0.025])
    seams = [
        curve((-0.02, -high), (0.1, -0.3), (0.14, -0.1), (0.12, 0.22)),
        curve((-0.02, -high), (-0.28, -0.34), (-0.34, -0.1), (-0.34, 0.24)),
    ]
    row = curve((0.2, 0.215), (0.45, 0.06), (0.7, 0.075), (reach - 0.05, 0.225))
    parts: list[Part] = [
        Panel("visor_under", under, "dark", puff=0.0, lift=0.4),
        Panel("body", crown, puff=1.0, lift=0.5),
        *[Stroke("crown seam", seam, 0.011, -0.3) for seam in seams],
        *[
            Panel("eyelet", ellipse(p, 0.017, 0.017, 10), "dark", puff=0.0, lift=0.0)
            for p in ((0.26, -0.22), (-0.12, -0.26))
        ],
        Panel("button", ellipse((-0.02, -high), 0.045, 0.026), "plain", puff=0.6, lift=0.5),
        Panel("visor", bill, visor, puff=0.6, lift=0.6),
        Stroke("visor stitches", row, 0.008, -0.2, 0.025),
        Stroke(
            "visor stitches",
            row * np.array([0.94, 1.0]) + np.array([0.03, 0.03]),
            0.008,
            -0.2,
            0.025,
        ),
        Stroke(
            "band stitches",
            curve((0.1, 0.215), (-0.1, 0.24), (-0.3, 0.23), (-0.48, 0.16)),
            0.008,
            -0.2,
            0.025,
        ),
    ]
    flip = rng.random() < 0.5
    place = -0.08 if flip else 0.08
    return Cut(
        tuple(mirrored(p) for p in parts) if flip else tuple(parts), (place, -0.12), 0.32, 0.2
    )


def _cap_front(visor: Fabric, rng: np.random.Generator) -> Cut:
    high = float(rng.uniform(0.5, 0.6))
    wide = float(rng.uniform(0.46, 0.52))
    crown = both(
        smooth(
            (0.0, -high),
            (0.22, -high + 0.05),
            (wide - 0.05, -0.28),
            (wide, 0.06),
            (0.3, 0.17),
            (0.0, 0.2),
        )
    )
    edge = bend((0.0, 0.15), (0.3, 0.15), (wide - 0.05, 0.06))
    bill = both(
        join(edge, curve((wide - 0.05, 0.06), (wide + 0.06, 0.22), (0.3, 0.42), (0.0, 0.43)))
    )
    rows = [
        bend((0.0, y), (0.3, y), (wide - 0.03 - 0.03 * k, 0.14 - 0.01 * k))
        for k, y in enumerate((0.385, 0.33, 0.275))
    ]
    parts: list[Part] = [
        Panel("body", crown, puff=0.9, lift=0.2),
        Stroke("crown seam", at((0.0, -high), (0.0, 0.15)), 0.011, -0.3),
        Stroke("crown seam", bend((0.0, -high), (0.3, -0.4), (0.36, 0.12)), 0.01, -0.28),
        Stroke("crown seam", bend((0.0, -high), (-0.3, -0.4), (-0.36, 0.12)), 0.01, -0.28),
        *[
            Panel("eyelet", ellipse((x, -high * 0.62), 0.016, 0.016, 10), "dark", puff=0, lift=0)
            for x in (-0.2, 0.2)
        ],
        Panel("button", ellipse((0.0, -high), 0.04, 0.026), "plain", puff=0.6, lift=0.5),
        Panel("visor_under", bill + np.array([0.0, 0.022]), "dark", puff=0.0, lift=0.4),
        Panel("visor", bill, visor, puff=0.45, lift=0.5),
        *[Stroke("visor stitches", join(mirror(row), row[1:]), 0.008, -0.2, 0.025) for row in rows],
    ]
    return Cut(tuple(parts), (0.0, -0.17), 0.34, 0.2)


def _beanie(garment: Garment, rng: np.random.Generator) -> Cut:
    # Size: one drawing, its outlines in the order they lie on each other.
    high = float(rng.uniform(0.62, 0.82))
    wide = float(rng.uniform(0.44, 0.5))
    fold = float(rng.uniform(0.2, 0.3))
    crown = both(
        smooth(
            (0.0, -high),
            (0.2, -high + 0.07),
            (wide - 0.05, -0.28),
            (wide, 0.12),
            (wide - 0.01, 0.3),
            (0.0, 0.32),
        )
    )
    brim_top = bend((-wide - 0.02, 0.3 - fold), (0.0, 0.35 - fold), (wide + 0.02, 0.3 - fold))
    brim = join(brim_top, (brim_top * np.array([0.98, 1.0]) + np.array([0.0, fold + 0.03]))[::-1])
    parts: list[Part] = []
    if rng.random() < 0.5:
        parts += _pompom(-high - 0.06, rng)
    parts += [
        Panel("body", crown, puff=1.0, lift=0.3),
        *[
            Fold(
                bend((t * 0.1, -high + 0.05), (t * wide * 0.9, -0.3), (t * wide * 0.9, 0.1)),
                0.05,
                0.5,
            )
            for t in (-0.9, -0.55, -0.2, 0.2, 0.55, 0.9)
        ],
        Panel("brim", brim, "rib", puff=0.8, lift=0.6),
        Stroke("brim edge", brim_top, 0.01, -0.25),
    ]
    if rng.random() < 0.4:
        x = float(rng.uniform(-0.2, 0.2))
        y = 0.33 - fold / 2
        patch = at(
            (x - 0.07, y - 0.045),
            (x + 0.07, y - 0.045),
            (x + 0.07, y + 0.045),
            (x - 0.07, y + 0.045),
        )
        parts.append(Panel("patch", patch, "label", puff=0.1, lift=0.3))
    return Cut(tuple(parts), None, 0.3, 0.6)


def _pompom(y: float, rng: np.random.Generator) -> list[Part]:
    points: list[tuple[float, float]] = []
    for i in range(26):
        r = 0.15 * float(rng.uniform(0.82, 1.1))
        edge = ellipse((0.0, y), r, r, 26)[i]
        points.append((float(edge[0]), float(edge[1])))
    ball = smooth(*points, closed=True, steps=2)
    return [Panel("pompom", ball, "plain", puff=1.0, lift=0.3, tone=1.03)]


def _sun_hat(garment: Garment, rng: np.random.Generator) -> Cut:
    """A wide brim from a little above, with a ribbon."""
    wide = float(rng.uniform(0.78, 0.95))
    deep = float(rng.uniform(0.3, 0.4))
    brim_points: list[tuple[float, float]] = []
    for x, y in ellipse((0.0, 0.12), wide, deep, 24):
        wave = 1 + float(rng.uniform(-0.02, 0.02))
        brim_points.append((float(x) * wave, float(y) + 0.03 * float(x) * float(x)))
    brim = smooth(*brim_points, closed=True, steps=3)
    crown = both(smooth((0.0, -0.42), (0.2, -0.38), (0.33, -0.2), (0.37, 0.06), (0.0, 0.16)))
    top = bend((-0.365, -0.06), (0.0, 0.05), (0.365, -0.06))
    ribbon = join(top, (top + np.array([0.0, 0.12]))[::-1])
    rings = [
        Stroke(
            "braid",
            ellipse((0.0, 0.12 + 0.01 * k), wide * (0.96 - 0.09 * k), deep * (0.95 - 0.1 * k), 36),
            0.006,
            -0.16,
        )
        for k in range(5)
    ]
    parts: list[Part] = [
        Panel("brim", brim, puff=0.5, lift=0.2),
        *rings,
        Panel("body", crown, puff=1.0, lift=0.7),
        Panel(
            "ribbon", ribbon, "dark" if garment.pattern == "plain" else "second", puff=0.3, lift=0.3
        ),
    ]
    if rng.random() < 0.5:
        bow = smooth((0.0, 0.0), (0.09, -0.07), (0.15, 0.0), (0.09, 0.05), closed=True)
        for loop in (bow, mirror(bow)):
            parts.append(Panel("bow", loop + np.array([0.2, 0.03]), "dark", puff=0.5, lift=0.4))
    return Cut(tuple(parts), None, 0.3, 0.1)


def _bucket(garment: Garment, rng: np.random.Generator) -> Cut:
    """A soft crown with a brim that slopes down."""
    # Size: one drawing, its outlines in the order they lie on each other.
    high = float(rng.uniform(0.42, 0.52))
    top_wide = float(rng.uniform(0.28, 0.34))
    crown = both(
        smooth(
            (0.0, -high),
            (top_wide - 0.08, -high + 0.02),
            (top_wide, -high + 0.08),
            (0.4, 0.0),
            (0.42, 0.1),
            (0.0, 0.17),
        )
    )
    out = float(rng.uniform(0.58, 0.68))
    drop = float(rng.uniform(0.32, 0.42))
    brim = both(
        join(
            bend((0.0, 0.11), (0.25, 0.11), (0.42, 0.02)),
            curve((0.42, 0.02), (0.5, 0.1), (out - 0.03, drop - 0.16), (out, drop - 0.06)),
            curve((out, drop - 0.06), (0.45, drop + 0.07), (0.2, drop + 0.1), (0.0, drop + 0.1)),
        )
    )
    rows: list[Part] = []
    for k in (0.3, 0.55, 0.8):
        half = bend(
            (0.0, 0.11 + k * (drop - 0.02)),
            (0.28, 0.1 + k * (drop - 0.02)),
            (0.43 + k * (out - 0.45), 0.03 + k * (drop - 0.1)),
        )
        rows.append(Stroke("brim stitches", join(mirror(half), half[1:]), 0.007, -0.2, 0.022))
    parts: list[Part] = [
        Panel("body", crown, puff=0.9, lift=0.2),
        Stroke(
            "top seam",
            bend((-top_wide, -high + 0.08), (0.0, -high + 0.2), (top_wide, -high + 0.08)),
            0.01,
            -0.28,
        ),
        *[
            Panel("eyelet", ellipse((x, -0.1), 0.016, 0.016, 10), "metal", puff=0.0, lift=0.2)
            for x in (-0.3, 0.3)
        ],
        Panel("brim", brim, puff=0.6, lift=0.5),
        *rows,
    ]
    return Cut(tuple(parts), (0.0, -0.14), 0.3, 0.3)


_HATS = {"cap": _cap, "beanie": _beanie, "sun hat": _sun_hat, "bucket hat": _bucket}
