"""The body of a person: its bones in a pose, the outlines of its parts, and its landmarks.

Body space is garment space (`geometry`) made as wide as the person and bent to the pose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .geometry import Point, Points, at, both, curve, ellipse, join, smooth
from .person import Limb, Person

SHOULDER: Point = (0.405, 0.19)
UPPER_ARM, FOREARM, HAND = 0.70, 0.64, 0.2
HIP: Point = (0.2, 1.46)
THIGH, CALF = 0.96, 0.96
HEAD: Point = (0.0, -0.42)
HEAD_SIZE = (0.2, 0.265)

PARTS = (
    "background", "hair", "head", "neck", "torso",
    "upper_arm_left", "upper_arm_right", "forearm_left", "forearm_right", "hand_left",
    "hand_right", "thigh_left", "thigh_right", "calf_left", "calf_right", "foot_left",
    "foot_right",
)  # fmt: skip
"""Parts of the body map, by index; left and right as the person has them."""

_FACE = {
    0: (0.0, 0.04), 1: (0.055, -0.03), 2: (0.085, -0.03), 3: (0.115, -0.03),
    4: (-0.055, -0.03), 5: (-0.085, -0.03), 6: (-0.115, -0.03), 7: (0.19, 0.02), 8: (-0.19, 0.02),
    9: (0.055, 0.14), 10: (-0.055, 0.14),
}  # fmt: skip


@dataclass(frozen=True)
class Bones:
    """Joints of one side in body space, mirrored to the right half of the picture.

    Attributes:
        joints: Start, middle and end of the limb.
        upper: Direction of the first bone, unit length.
        lower: Direction of the second.
    """

    joints: tuple[Point, Point, Point]
    upper: Point
    lower: Point


def arm_bones(person: Person, side: int) -> Bones:
    """An arm: 0 in the picture's right half, 1 in its left half (told mirrored)."""
    return _bones(SHOULDER, person.arms[side], person.width, UPPER_ARM, FOREARM)


def leg_bones(person: Person, side: int) -> Bones:
    """A leg, likewise."""
    return _bones(HIP, person.legs[side], person.width, THIGH, CALF)


def _bones(start: Point, limb: Limb, width: float, first: float, second: float) -> Bones:
    upper = (math.sin(limb.upper), math.cos(limb.upper))
    lower = (math.sin(limb.lower), math.cos(limb.lower))
    a = (start[0] * width, start[1])
    b = (a[0] + first * upper[0], a[1] + first * upper[1])
    c = (b[0] + second * lower[0], b[1] + second * lower[1])
    return Bones((a, b, c), upper, lower)


def mirrored(points: Points, side: int) -> Points:
    """Points of a side where they are in the picture."""
    return points if side == 0 else points * np.array([-1.0, 1.0])


def limb_outline(bones: Bones, widths: tuple[float, float, float]) -> tuple[Points, Points]:
    """Outlines of the two halves of a limb, its half widths given at the three joints."""
    a, b, c = (np.array(j) for j in bones.joints)
    return _tapered(a, b, widths[0], widths[1]), _tapered(b, c, widths[1], widths[2])


def _tapered(
    start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], first: float, last: float
) -> Points:
    """A rounded piece from one joint to the next, a little fuller before its middle."""
    along = (end - start) / float(np.hypot(*(end - start)))
    aside = np.array([along[1], -along[0]])
    length = float(np.hypot(*(end - start)))
    full = 0.55 * first + 0.45 * last + 0.012
    right = [start + aside * first, start + along * 0.4 * length + aside * full, end + aside * last]
    left = [end - aside * last, start + along * 0.4 * length - aside * full, start - aside * first]
    cap = _cap(end, along, aside, last)
    top = _cap(start, -along, -aside, first)
    return join(smooth(*(_p(x) for x in right)), cap, smooth(*(_p(x) for x in left)), top)


def _cap(
    centre: npt.NDArray[np.float64],
    along: npt.NDArray[np.float64],
    aside: npt.NDArray[np.float64],
    radius: float,
) -> Points:
    turns = np.linspace(0.0, math.pi, 9)[1:-1]
    return np.array(
        [centre + aside * radius * math.cos(t) + along * radius * math.sin(t) for t in turns]
    )


def hand_outline(bones: Bones, width: float) -> Points:
    """A hand at the end of an arm, with its thumb on the inner side."""
    along, wrist = np.array(bones.lower), np.array(bones.joints[2])
    out = np.array([along[1], -along[0]])
    shape = smooth(
        (0.0, 0.056), (0.07, 0.07), (0.15, 0.056), (0.195, 0.01), (0.185, -0.035), (0.12, -0.06),
        (0.135, -0.088), (0.115, -0.1), (0.06, -0.078), (0.0, -0.054), closed=True,
    )  # fmt: skip
    return np.array([wrist + along * x + out * y * width for x, y in shape])


def foot_outline(bones: Bones) -> Points:
    """A shoe seen from the front, turned a little outwards."""
    x, y = bones.joints[2]
    shape = smooth(
        (-0.085, -0.1), (0.075, -0.1), (0.1, 0.0), (0.15, 0.1), (0.14, 0.165), (0.02, 0.18),
        (-0.085, 0.165), (-0.1, 0.06), closed=True,
    )  # fmt: skip
    return shape + np.array([x, y])


def torso_outline(person: Person) -> Points:
    """Shoulders to crotch."""
    half = join(
        curve((0.0, 0.0), (0.14, 0.03), (0.26, 0.09), (0.38, 0.13)),
        smooth((0.42, 0.2), (0.4, 0.4), (0.365, 0.56), (0.315, 0.95), (0.39, 1.3), (0.4, 1.5)),
        at((0.36, 1.62), (0.0, 1.66)),
    )
    return both(half) * np.array([person.width, 1.0])


def neck_outline(person: Person) -> Points:
    """From under the chin to the chest."""
    half = curve((0.0, -0.3), (0.13, -0.3), (0.09, -0.06), (0.2, 0.04))
    wide = 0.5 + 0.5 * person.width
    return both(join(half, at((0.26, 0.07), (0.0, 0.26)))) * np.array([wide, 1.0])


def head_outline(_: Person) -> Points:
    """The face down to the chin."""
    rx, ry = HEAD_SIZE
    half = smooth(
        (0.0, -ry), (0.7 * rx, -0.78 * ry), (rx, -0.1 * ry), (0.93 * rx, 0.3 * ry),
        (0.62 * rx, 0.78 * ry), (0.25 * rx, 0.99 * ry), (0.0, 1.02 * ry),
    )  # fmt: skip
    return both(half) + np.array(HEAD)


def hair_behind(person: Person) -> list[Points]:
    """Hair that hangs behind the head."""
    rx, ry = HEAD_SIZE
    x, y = HEAD
    if person.hair_style == "long":
        half = smooth(
            (0.0, -1.12 * ry), (0.9 * rx, -0.9 * ry), (1.26 * rx, 0.0), (1.35 * rx, 1.2 * ry),
            (1.45 * rx, 2.2 * ry), (0.9 * rx, 2.5 * ry), (0.0, 2.45 * ry),
        )  # fmt: skip
    elif person.hair_style == "bob":
        half = smooth(
            (0.0, -1.14 * ry), (0.9 * rx, -0.92 * ry), (1.3 * rx, -0.1 * ry), (1.32 * rx, 0.7 * ry),
            (1.1 * rx, 1.05 * ry), (0.0, 1.0 * ry),
        )  # fmt: skip
    elif person.hair_style == "bun":
        return [ellipse((x, y - 1.28 * ry), 0.42 * rx, 0.3 * ry)]
    elif person.hair_style == "curly":
        spots = [(math.sin(t), -math.cos(t)) for t in np.linspace(-2.0, 2.0, 15)]
        return [ellipse((x + 1.02 * rx * c, y + 0.98 * ry * s), 0.34 * rx, 0.27 * ry)
                for c, s in spots]  # fmt: skip
    else:
        return []
    return [both(half) + np.array(HEAD)]


def hair_on_top(person: Person) -> list[Points]:
    """The hair that frames the face; it is drawn over the head's upper part."""
    if person.hair_style == "bald":
        return []
    rx, ry = HEAD_SIZE
    side = 0.36 if person.hair_style in ("bob", "long") else 0.12
    outer = smooth(
        (0.0, -1.13 * ry), (0.72 * rx, -0.96 * ry), (1.1 * rx, -0.35 * ry), (1.06 * rx, side * ry)
    )
    inner = smooth((0.95 * rx, side * ry), (0.88 * rx, -0.3 * ry), (0.5 * rx, -0.62 * ry))
    part = -0.14 if person.seed % 2 else 0.14
    fringe = at((part * rx, -0.5 * ry))
    left = mirrored(join(outer, inner), 1)[::-1]
    return [join(outer, inner, fringe, left) + np.array(HEAD)]


def landmarks(person: Person) -> Points:
    """MediaPipe's 33 points in body space, (33, 2); left and right as the person has them."""
    points = np.zeros((33, 2))
    for index, (x, y) in _FACE.items():
        points[index] = (HEAD[0] + x, HEAD[1] + y)
    for side in (0, 1):  # the picture's right half is the person's left
        arm, leg = arm_bones(person, side), leg_bones(person, side)
        wrist, along = np.array(arm.joints[2]), np.array(arm.lower)
        out = np.array([along[1], -along[0]])
        ankle = np.array(leg.joints[2])
        found = {
            11: arm.joints[0], 13: arm.joints[1], 15: wrist,
            17: wrist + 0.16 * along + 0.04 * out, 19: wrist + 0.18 * along - 0.01 * out,
            21: wrist + 0.11 * along - 0.08 * out, 23: leg.joints[0], 25: leg.joints[1],
            27: ankle, 29: ankle + np.array([-0.02, 0.1]), 31: ankle + np.array([0.06, 0.16]),
        }  # fmt: skip
        for index, place in found.items():
            points[index + side] = mirrored(np.array([place], dtype=np.float64), side)[0]
    return points


def _p(point: npt.NDArray[np.float64]) -> Point:
    return float(point[0]), float(point[1])
