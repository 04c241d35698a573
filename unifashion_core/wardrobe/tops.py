"""Cuts of what is worn above the waist: knitted pullovers and shirts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .garment import Garment, stream
from .geometry import (
    Cut,
    Fabric,
    Panel,
    Part,
    Points,
    Stroke,
    bend,
    mirror,
)
from .torso import (
    Torso,
    armhole_seams,
    bindings,
    body_folds,
    body_outline,
    draw_arm,
    draw_torso,
    hem_stitches,
    neckline,
    sleeve,
)
from .trims import (
    back_neck,
    buttons,
    collar_leaves,
    neck_band,
    patch_pocket,
    placket,
    rib_hem,
    ribbed_collar,
    turtleneck,
)


def cut_jersey(garment: Garment) -> Cut:
    """T-shirt, tank top, longsleeve, sweater, sweatshirt: knitted pullovers."""
    rng = stream(garment.seed, "shape")
    torso = draw_torso(garment, rng)
    thick_knit = garment.subtype in ("sweater", "sweatshirt")
    neck = neckline(garment.neckline, torso)
    parts: list[Part] = []
    if garment.sleeve not in (None, "none"):
        arm = draw_arm(garment.sleeve or "short", rng, 0.1 if thick_knit else 0.0)
        if garment.sleeve == "long" and not thick_knit and rng.random() < 0.5:
            arm = replace(arm, cuff=0.06)
        parts += sleeve(torso, arm)
    parts += back_neck(torso, neck)
    parts.append(
        Panel("body", body_outline(torso, neck, garment.sleeve == "none"), puff=0.8, lift=0.3)
    )
    parts += body_folds(torso, rng)
    if garment.sleeve == "none":
        parts += bindings(torso)
    else:
        parts += armhole_seams(torso)
    parts += rib_hem(torso) if thick_knit else [hem_stitches(torso)]
    if garment.neckline == "turtleneck":
        parts += turtleneck(torso)
    else:
        parts += neck_band(neck, 0.065 if thick_knit else 0.048)
    middle = 0.62 if garment.length != "cropped" else 0.55
    lower = 0.1 if garment.neckline in ("v", "scoop") else 0.0
    size = float(rng.uniform(0.42, 0.62))
    return Cut(tuple(parts), (0.0, middle + lower), size * (0.8 if lower else 1.0), 0.45)


def cut_shirt(garment: Garment) -> Cut:
    """Shirt, flannel shirt, blouse and polo shirt."""
    rng = stream(garment.seed, "shape")
    torso = draw_torso(garment, rng)
    neck = neckline(garment.neckline, torso)
    parts: list[Part] = []
    if garment.sleeve not in (None, "none"):
        long_cuff = 0.1 if garment.sleeve == "long" else 0.0
        polo_rib = 0.05 if garment.neckline == "polo" and garment.sleeve == "short" else 0.0
        arm = draw_arm(garment.sleeve or "long", rng, long_cuff or polo_rib)
        fabric: Fabric = "rib" if garment.neckline == "polo" else "main"
        parts += sleeve(torso, replace(arm, cuff_fabric=fabric))
    if garment.neckline in ("v", "scoop"):
        parts += back_neck(torso, neck)
    sleeveless = garment.sleeve == "none"
    parts.append(Panel("body", _shirt_tail(torso, neck, sleeveless, garment), puff=0.7, lift=0.3))
    parts += body_folds(torso, rng)
    parts += bindings(torso) if sleeveless else armhole_seams(torso)
    parts += _shirt_front(garment, torso, neck, rng)
    return Cut(tuple(parts), (0.24, 0.52), 0.22, 0.5)


def _shirt_tail(torso: Torso, neck: Points, sleeveless: bool, garment: Garment) -> Points:
    if garment.subtype in ("polo shirt", "blouse"):
        return body_outline(torso, neck, sleeveless)
    return body_outline(replace(torso, sag=0.1, hem_y=torso.hem_y - 0.03), neck, sleeveless)


def _shirt_front(
    garment: Garment, torso: Torso, neck: Points, rng: np.random.Generator
) -> list[Part]:
    stitched = -0.26 if garment.material != "denim" else 0.4
    if garment.neckline == "polo":
        low = float(rng.uniform(0.4, 0.5))
        strip = [*placket(0.12, low), *buttons([(0.0, 0.2), (0.0, 0.3), (0.0, low - 0.06)])]
        hem: list[Part] = [hem_stitches(torso)]
        return [*strip, *hem, *ribbed_collar(torso)]
    if garment.neckline in ("v", "scoop"):
        low = float(neck[0][1])
        ties: list[Part] = [*neck_band(neck, 0.03, "plain"), hem_stitches(torso, 0.03)]
        return [*ties, *buttons([(0.0, low + 0.08 * k) for k in range(1, 4)], 0.014)]
    bottom = torso.hem_y + torso.sag * 2
    places = [(0.0, 0.2 + (bottom - 0.3) * k / 6) for k in range(7)]
    parts: list[Part] = [*placket(0.12, bottom + 0.01), *buttons(places)]
    pockets = int(rng.integers(3)) if garment.subtype != "blouse" else 0
    for x in (0.235, -0.235)[:pockets]:
        flap = garment.material == "denim" or garment.subtype == "flannel shirt"
        parts += patch_pocket(x, 0.46, 0.19, 0.21, flap=flap, ink=stitched)
    yoke = bend((0.0, 0.2), (0.2, 0.2), (torso.shoulder[0] - 0.02, 0.22))
    if garment.material == "denim":
        parts += [Stroke("yoke", yoke, 0.01, 0.4), Stroke("yoke", mirror(yoke), 0.01, 0.4)]
    return [*parts, *collar_leaves(torso, float(rng.uniform(0.17, 0.24)))]
