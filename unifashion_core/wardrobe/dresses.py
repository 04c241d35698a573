"""Cuts of dresses: a torso, with a skirt that flares from the waist or falls straight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .garment import Garment, stream
from .geometry import (
    Cut,
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
    join,
    mirror,
    smooth,
    thick,
)
from .skirts import hem_line, skirt_folds
from .torso import (
    Torso,
    armhole_seams,
    bindings,
    body_folds,
    draw_arm,
    draw_torso,
    mirrored,
    neckline,
    sleeve,
)
from .trims import back_neck, buttons, collar_leaves, neck_band, placket

_WAIST_Y = 0.93


def cut_dress(garment: Garment) -> Cut:
    """Dress, sundress, shirt dress and gown."""
    rng = stream(garment.seed, "shape")
    torso = draw_torso(garment, rng)
    end_y = torso.hem_y
    waist = 0.36 + float(rng.uniform(-0.02, 0.03))
    torso = replace(torso, waist=waist)
    narrow = garment.subtype == "dress" and rng.random() < 0.35
    drop = end_y - _WAIST_Y
    flare = 0.12 if narrow else float(rng.uniform(0.24, 0.46))
    hem = waist + 0.1 + flare * min(drop, 1.6)
    parts: list[Part] = []
    if garment.sleeve in ("short", "long"):
        cuff = 0.08 if garment.subtype == "shirt dress" and garment.sleeve == "long" else 0.0
        parts += sleeve(torso, replace(draw_arm(garment.sleeve, rng, cuff), cuff_fabric="main"))
    top, trims, neck = _bodice(garment, torso, waist)
    if garment.neckline in ("crew", "v", "scoop") and neck is not None:
        parts += back_neck(torso, neck)
    parts += trims[:1]
    parts.append(_skirt(waist, hem, end_y, rng))
    parts += skirt_folds(waist, hem, _WAIST_Y + 0.02, end_y, rng)
    parts.append(Panel("body", top, puff=0.7, lift=0.25))
    parts += _creases(torso, rng)
    parts += trims[1:]
    if garment.sleeve == "none" and garment.neckline not in ("straps", "strapless"):
        parts += bindings(torso)
    elif garment.sleeve in ("short", "long"):
        parts += armhole_seams(torso)
    parts += _waist_trim(garment, waist, rng)
    if garment.neckline == "collar":
        bottom = end_y if rng.random() < 0.6 else _WAIST_Y
        parts += placket(0.12, bottom)
        count = 9 if bottom == end_y else 5
        parts += buttons([(0.0, 0.2 + (bottom - 0.3) * k / (count - 1)) for k in range(count)])
        parts += collar_leaves(torso, 0.19)
    elif neck is not None:
        parts += neck_band(neck, 0.028, "plain" if garment.pattern == "plain" else "main")
    return Cut(tuple(parts), (0.0, 0.55), 0.4, 0.85)


def _skirt(waist: float, hem: float, end_y: float, rng: np.random.Generator) -> Panel:
    drop = end_y - _WAIST_Y
    side = curve(
        (waist, _WAIST_Y),
        (waist + 0.1, _WAIST_Y + 0.22 * drop),
        (hem - 0.07, _WAIST_Y + 0.6 * drop),
        (hem, end_y),
    )
    bottom = hem_line(hem, end_y, 0.03 + 0.05 * float(rng.random()), rng, 0.016)
    return Panel(
        "skirt", join(at((0.0, _WAIST_Y - 0.02)), side, bottom, mirror(side)), puff=0.8, lift=0.2
    )


def _bodice(
    garment: Garment, torso: Torso, waist: float
) -> tuple[Points, list[Part], Points | None]:
    """The upper part's outline, its trims (the first lies below it), and its neck edge."""
    if garment.neckline in ("straps", "strapless"):
        return _low_bodice(garment, torso, waist)
    neck = neckline(garment.neckline, torso)
    sx, sy = torso.shoulder
    ux, uy = torso.underarm
    if garment.sleeve == "none":
        sx -= 0.09
        hole = curve(
            (sx, sy - 0.02), (sx - 0.05, sy + 0.22), (sx - 0.04, uy - 0.04), (ux - 0.02, uy)
        )
    else:
        hole = curve((sx, sy), (sx - 0.06, sy + 0.14), (sx - 0.07, uy - 0.12), (ux, uy))
    side = bend((ux, uy), (0.5 * (ux + waist), 0.76), (waist, _WAIST_Y))
    return (
        both(join(neck, hole, side, at((waist, _WAIST_Y + 0.03), (0.0, _WAIST_Y + 0.045)))),
        [],
        neck,
    )


def _low_bodice(garment: Garment, torso: Torso, waist: float) -> tuple[Points, list[Part], None]:
    ux, uy = torso.underarm[0] - 0.05, torso.underarm[1] - 0.02
    edge = smooth((0.0, 0.36), (0.1, 0.31), (0.24, 0.27), (0.34, 0.36), (ux, uy))
    side = bend((ux, uy), (0.5 * (ux + waist), 0.76), (waist, _WAIST_Y))
    outline = both(join(edge, side, at((waist, _WAIST_Y + 0.03), (0.0, _WAIST_Y + 0.045))))
    back = both(
        join(bend((0.0, 0.43), (0.2, 0.42), (ux, uy - 0.01)), at((ux, uy + 0.02), (0.0, 0.5)))
    )
    trims: list[Part] = [Panel("back_inside", back, "inside", puff=0.0, lift=0.0)]
    if garment.neckline == "straps":
        line = bend((0.25, 0.29), (0.27, 0.12), (0.2, -0.03))
        strap = Panel(
            "strap_right",
            thick(line, 0.045),
            "plain" if garment.pattern == "plain" else "main",
            puff=0.3,
            lift=0.4,
        )
        behind = replace(
            strap,
            name="strap_back",
            outline=thick(bend((0.2, -0.03), (0.16, 0.2), (0.2, 0.44)), 0.04),
            tone=0.75,
            lift=0.1,
        )
        trims += [behind, mirrored(behind), strap, mirrored(strap)]
    bust = Stroke("bust seam", join(mirror(edge), edge[1:]) + np.array([0.0, 0.035]), 0.007, -0.22)
    return outline, [*trims, bust], None


def _creases(torso: Torso, rng: np.random.Generator) -> list[Part]:
    short = replace(torso, hem_y=_WAIST_Y)
    folds = [p for p in body_folds(short, rng) if isinstance(p, Fold)]
    for t in (-0.6, -0.2, 0.25, 0.65):
        x = t * torso.waist
        folds.append(Fold(at((x, _WAIST_Y + 0.04), (x * 0.9, _WAIST_Y - 0.16)), 0.04, 0.4))
    return list(folds)


def _waist_trim(garment: Garment, waist: float, rng: np.random.Generator) -> list[Part]:
    style = int(rng.integers(3))
    line = bend((-waist - 0.003, _WAIST_Y), (0.0, _WAIST_Y + 0.03), (waist + 0.003, _WAIST_Y))
    if style == 0 or garment.subtype == "gown":
        return [Stroke("waist seam", line, 0.011, -0.32)]
    if style == 1:
        sash = Panel(
            "belt",
            join(line, (line + np.array([0.0, 0.08]))[::-1]),
            "second" if garment.pattern != "plain" else "plain",
            puff=0.4,
            lift=0.6,
            tone=0.93,
        )
        return [sash, *_bow(float(rng.choice([-0.16, 0.0, 0.16])), _WAIST_Y + 0.06, sash)]
    gather = [Stroke("waist seam", line, 0.012, -0.3)]
    return [*gather, Stroke("elastic", line + np.array([0.0, 0.035]), 0.008, -0.24, 0.02)]


def _bow(x: float, y: float, sash: Panel) -> list[Part]:
    loop = smooth((0.0, 0.0), (0.07, -0.05), (0.13, -0.03), (0.12, 0.04), (0.05, 0.03), closed=True)
    tail = at((0.0, 0.0), (0.035, 0.01), (0.085, 0.26), (0.03, 0.24))
    place = np.array([x, y])
    pieces = [tail, mirror(tail), loop, mirror(loop), box(-0.022, -0.028, 0.022, 0.03)]
    return [
        replace(sash, name=f"bow_{i}", outline=p + place, lift=0.5) for i, p in enumerate(pieces)
    ]
