"""Collars, bands, buttons and pockets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .geometry import (
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
    box,
    ellipse,
    join,
    mirror,
    thick,
)
from .torso import (
    Torso,
    mirrored,
)


def back_neck(torso: Torso, neck: Points, dip: float = 0.055) -> list[Part]:
    """The inside of the back, seen through the neck opening, with its label."""
    top = neck[-1]
    edge = bend((float(top[0]), float(top[1])), (0.5 * float(top[0]), dip), (0.0, dip))
    outline = both(join(edge[::-1], neck[::-1]))
    tag = box(-0.045, dip + 0.015, 0.045, dip + 0.055)
    line = join(edge, mirror(edge))
    return [
        Panel("back_neck", outline, "inside", puff=0.0, lift=0.0),
        Panel("label", tag, "label", puff=0.0, lift=0.1),
        Panel("collar_back", thick(line, 0.05), "rib", puff=0.3, lift=0.4, tone=0.86),
    ]


def neck_band(neck: Points, width: float = 0.05, fabric: Fabric = "rib") -> list[Part]:
    """A ribbed band along the front neck edge."""
    line = join(mirror(neck)[: len(neck)], neck[1:])
    return [
        Panel("collar", thick(line, width), fabric, puff=0.4, lift=0.45),
        Stroke("collar seam", line + np.array([0.0, width * 0.62]), 0.008, -0.25),
    ]


def rib_hem(torso: Torso, depth: float = 0.1) -> list[Part]:
    """A ribbed waistband at the hem."""
    half = bend(
        (0.0, torso.hem_y + torso.sag - 0.01),
        (0.5 * torso.hem, torso.hem_y + torso.sag - 0.01),
        (torso.hem - 0.01, torso.hem_y - 0.01),
    )
    line = join(mirror(half), half[1:])
    tight = line * np.array([0.95, 1.0])
    outline = join(line, (tight + np.array([0.0, depth]))[::-1])
    return [
        Panel("waistband", outline, "rib", puff=0.6, lift=0.3),
        Stroke("waist seam", line, 0.012, -0.3),
    ]


def collar_leaves(torso: Torso, depth: float = 0.2, spread: float = 0.17) -> list[Part]:
    """A turned-down collar: its stand behind, and two leaves in front."""
    n = torso.neck
    back = both(
        join(bend((0.0, -0.085), (0.6 * n, -0.08), (0.86 * n, -0.03)), at((n, 0.05), (0.0, 0.13)))
    )
    leaf = join(
        bend((0.012, 0.125), (0.55 * n, 0.06), (0.80 * n, -0.06)),
        bend((0.80 * n, -0.06), (1.12 * n, -0.06), (1.2 * n, 0.045)),
        bend((1.2 * n, 0.045), (1.1 * n, 0.12), (spread, depth + 0.05)),
        bend((spread, depth + 0.05), (0.08, depth), (0.012, 0.125)),
    )
    right = Panel("collar_right", leaf, angle=0.5, puff=0.4, lift=0.8)
    edge = Stroke("collar edge", leaf[11:-4] * np.array([0.93, 0.94]), 0.006, -0.2)
    inner = both(join(bend((0.0, -0.035), (0.5 * n, -0.035), (0.8 * n, -0.01)), at((0.0, 0.14))))
    return [
        Panel("collar_back", back, "main", puff=0.3, lift=0.4, tone=0.93),
        Panel("collar_inside", inner, "inside", puff=0.0, lift=0.0),
        Panel("label", box(-0.045, 0.0, 0.045, 0.035), "label", puff=0.0, lift=0.1),
        right,
        mirrored(right),
        edge,
        mirrored(edge),
    ]


def buttons(points: list[Point], radius: float = 0.017, fabric: Fabric = "label") -> list[Part]:
    """Round buttons with a rim."""
    return [
        part
        for i, p in enumerate(points)
        for part in (
            Panel(f"button_{i}", ellipse(p, radius, radius, 14), fabric, puff=0.0, lift=0.5),
            Stroke(
                "button rim", ellipse(p, radius * 0.5, radius * 0.5, 9), 0.006, -0.35, 0.0, fabric
            ),
        )
    ]


def placket(top: float, bottom: float, wide: float = 0.075) -> list[Part]:
    """The strip of cloth that carries the buttons."""
    strip = box(-wide / 2, top, wide / 2, bottom)
    return [
        Panel("placket", strip, "main", puff=0.15, lift=0.35),
        Stroke("placket edge", at((-wide / 2, top), (-wide / 2, bottom)), 0.007, -0.3),
        Stroke("placket edge", at((wide / 2, top), (wide / 2, bottom)), 0.009, -0.36),
    ]


def patch_pocket(
    x: float, y: float, wide: float, deep: float, *, flap: bool = False, ink: float = -0.26
) -> list[Part]:
    """A sewn-on pocket with its upper edge at (x, y)."""
    point = 0.05 * deep if flap else 0.16 * deep
    shape = at(
        (x - wide / 2, y),
        (x + wide / 2, y),
        (x + wide / 2, y + deep - point),
        (x, y + deep),
        (x - wide / 2, y + deep - point),
    )
    parts: list[Part] = [
        Panel("pocket", shape, "main", puff=0.12, lift=0.3),
        Stroke("pocket seam", join(shape, shape[:1]), 0.008, ink),
    ]
    if flap:
        lid = at(
            (x - wide / 2 - 0.01, y - 0.01),
            (x + wide / 2 + 0.01, y - 0.01),
            (x + wide / 2 + 0.01, y + 0.3 * deep),
            (x, y + 0.42 * deep),
            (x - wide / 2 - 0.01, y + 0.3 * deep),
        )
        parts += [
            Panel("pocket_flap", lid, "main", puff=0.15, lift=0.5),
            Stroke("flap seam", join(lid, lid[:1]), 0.008, ink),
        ]
    else:
        parts.append(
            Stroke(
                "pocket hem",
                at((x - wide / 2, y + 0.035), (x + wide / 2, y + 0.035)),
                0.006,
                ink * 0.7,
            )
        )
    return parts


def turtleneck(torso: Torso) -> list[Part]:
    """A rolled collar that stands up the neck."""
    n = torso.neck
    roll = both(
        join(
            bend((0.0, -0.2), (0.6 * n, -0.2), (0.86 * n, -0.175)),
            bend((0.86 * n, -0.175), (0.95 * n, -0.05), (1.06 * n, 0.03)),
            bend((1.06 * n, 0.03), (0.6 * n, 0.115), (0.0, 0.12)),
        )
    )
    inner = ellipse((0.0, -0.185), 0.8 * n, 0.022)
    return [
        Panel("collar", roll, "rib", puff=0.9, lift=0.6),
        Panel("collar_inside", inner, "inside", puff=0.0, lift=0.0),
        Fold(bend((-n, -0.02), (0.0, 0.04), (n, -0.02)), 0.04, -0.4),
    ]


def ribbed_collar(torso: Torso) -> list[Part]:
    """The knitted collar of a polo shirt."""
    leaves = collar_leaves(torso, 0.15, 0.14)
    return [
        replace(p, fabric="rib") if isinstance(p, Panel) and p.fabric == "main" else p
        for p in leaves
    ]
