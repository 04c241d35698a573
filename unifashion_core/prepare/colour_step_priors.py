"""What a pixel of a person may be: by its place in the body, and by its colour."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .colour_step_geometry import CHIN, BodyPlanes
from .colour_step_models import colour_density
from .colour_step_waist import Waist, find_waist

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Kind(IntEnum):
    """What the colour step tells apart."""

    HAIR = 0
    SKIN = 1
    UPPER = 2
    LOWER = 3


_FEW = 12  # samples below which a kind has no colours of its own
_FLOOR = 0.02  # density of any colour in any kind: shadows, prints, jewellery
_UNKNOWN = 0.05  # density of all colours in a kind without samples
_SKIN_LAB, _SKIN_SPREAD = (62.0, 14.0, 18.0), (20.0, 6.0, 7.0)  # of people of all complexions


def kind_priors(lab: Plane, inside: Mask, body: BodyPlanes) -> tuple[Plane, Waist]:
    """Probability of each `Kind` for each pixel by itself, (H, W, 4), and where the waist is."""
    shown = _by_colour(lab, inside, body) + np.float32(_FLOOR)
    waist = find_waist(shown[..., Kind.UPPER], shown[..., Kind.LOWER], inside, body)
    weights = _by_place(body, waist) * shown
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32), waist


def skin_likeness(lab: Plane, inside: Mask, body: BodyPlanes) -> Plane:
    """How likely a colour is on this person's skin, (H, W)."""
    difference = (lab - np.array(_SKIN_LAB, np.float32)) / np.array(_SKIN_SPREAD, np.float32)
    any_skin = np.exp(-0.5 * np.square(difference).sum(-1))
    samples = lab[(body.face < 0.75) & inside & (body.face_down > -0.3)]
    if len(samples) < _FEW:  # the head is cut off: the neck, where it looks like skin
        neck = (body.along > -0.35) & (body.along < -0.02) & (np.abs(body.face_across) < 1.0)
        samples = lab[neck & inside & (any_skin > 0.2)]
    if len(samples) < _FEW:
        return np.float32(0.6) * any_skin
    return np.maximum(colour_density(lab, samples, 3, 40.0) * 5, 0.05 * any_skin).clip(0, 1)


def _by_colour(lab: Plane, inside: Mask, body: BodyPlanes) -> Plane:
    arms, legs = body.arms, body.legs
    skin = skin_likeness(lab, inside, body)
    head = inside & (body.face_down < CHIN - 0.4) & (body.face_down > -3.2)
    head &= (np.abs(body.face_across) < 3.0) & (arms.distance > 1.2)
    hair = head & ((body.face > 1.25) | (body.face_down < -1.2))
    top = inside & (body.along > 0.2) & (body.along < 0.58)
    top &= np.abs(body.across) < 0.85 * body.shoulder
    free = top & (arms.distance > 1.1)
    bottom = inside & (body.along > 1.1) & (legs.distance < 1.0) & (arms.distance > 1.2)
    thigh = bottom & (legs.place < 0.4)
    shown = np.empty((*lab.shape[:2], 4), np.float32)
    shown[..., Kind.HAIR] = _density(lab, [hair], 3, 20.0)
    shown[..., Kind.SKIN] = skin
    shown[..., Kind.UPPER] = _density(lab, [*_bare(free, skin), free, top], 5, 8.0)
    shown[..., Kind.LOWER] = _density(
        lab, [*_bare(thigh, skin), thigh, bottom & (legs.place < 0.7)], 5, 8.0
    )
    return shown


def _bare(zone: Mask, skin: Plane) -> list[Mask]:
    """A zone without what looks like skin, unless that is most of it: a garment in that colour."""
    cloth = zone & (skin < 0.4)
    return [cloth] if 3 * int(cloth.sum()) >= int(zone.sum()) else []


def _density(lab: Plane, zones: list[Mask], clusters: int, spread: float) -> Plane:
    """By the first zone that has enough pixels."""
    for zone in zones:
        samples = lab[zone]
        if len(samples) >= _FEW:
            return colour_density(lab, samples, clusters, spread)
    return np.full(lab.shape[:2], _UNKNOWN, np.float32)


def _by_place(body: BodyPlanes, waist: Waist) -> Plane:
    v, across = body.along, np.abs(body.across)
    down, aside = body.face_down, np.abs(body.face_across)
    arm = _rise((1.0 - body.arms.distance) * 6) * (body.face > 1.3)
    lower = _rise((v - waist.along) / waist.width) * (v > 0.35)
    head = (down < CHIN) & (aside < 3.0) & (v < 0.2)
    hanging = (aside < 3.6) & (down > -3.5) & (v < 0.9)
    neck = (down >= CHIN - 0.3) & (v < 0.12 * (across < 0.18)) & (aside < 1.5)
    chest = (v > -0.2) & (v < 0.4) & (across < 0.8 * body.shoulder)
    made = np.empty((*v.shape, 4), np.float32)
    made[..., Kind.HAIR] = np.where(
        head,
        np.where(body.face < 1.0, 0.15, 1.0),
        np.where(hanging, 0.3 * np.exp(-np.maximum(down - CHIN, 0) / 4), 1e-3),
    )
    made[..., Kind.SKIN] = np.maximum.reduce(
        [
            1.0 * (body.face < 1.05),
            0.9 * neck,
            0.35 * chest,
            0.5 * arm,
            0.9 * body.hand,
            0.12 * ((v > 0.5) & (v < 1.0)),
            0.5 * _rise((body.legs.place - 0.25) * 12) * (v > 1.05),
            np.full_like(v, 0.03),
        ]
    )
    upper = _rise((v + 0.1) / 0.05) * (1 - lower) * (down > CHIN - 0.2)
    sleeve = 0.6 * arm * (body.arms.place < 2.05)
    made[..., Kind.UPPER] = np.maximum(upper, sleeve) * np.where(head & (v < -0.02), 0.02, 1) + 1e-3
    made[..., Kind.LOWER] = lower * (1 - 0.75 * arm) + 0.002 * (v > 0.5)
    return made + np.float32(1e-3)


def _rise(x: Plane) -> Plane:
    return (1 / (1 + np.exp(-np.clip(x, -30, 30)))).astype(np.float32)
