"""Where each pixel of a person lies in the body's own terms: along torso, face and limbs."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .keypoints import Point, Skeleton

Plane = NDArray[np.float32]
SIDES = ("left", "right")

# In torso lengths.
_EYE_TO_MOUTH = 0.13
_HAND = 0.34
_ARM_WIDTHS = (0.15, 0.13, 0.14)  # upper arm, forearm, hand: from the bone to the skin or sleeve
_LEG_WIDTHS = (0.2, 0.14)
# Where a limb is unseen, the figure of a person who stands upright, from mid-shoulder or mid-hip.
_STANDING: dict[str, Point] = {
    "elbow": (0.42, 0.55), "wrist": (0.46, 1.05), "knee": (0.16, 0.85), "ankle": (0.16, 1.65),
}  # fmt: skip


@dataclass(frozen=True)
class Limbs:
    """Arms or legs.

    Attributes:
        distance: To the nearest bone, in the widths of the limb: below 1 inside, (H, W).
        place: Along the limb: 0 to 1 on the first bone, to 2 on the second, to 3 beyond, (H, W).
        side: 0 = the person's left, 1 = right, (H, W).
    """

    distance: Plane
    place: Plane
    side: NDArray[np.uint8]


@dataclass(frozen=True)
class BodyPlanes:
    """A body's coordinates of every pixel, each (H, W).

    Attributes:
        along: 0 at the line of the shoulders, 1 at the line of the hips.
        across: To the side of that axis, in torso lengths.
        shoulder: Half the distance of the shoulders, in torso lengths.
        face_down: Along the face from the eyes, in units of eyes to mouth: the chin is at 1.75.
        face_across: To the side of it.
        face: Distance from the middle of the face: below 1 inside its oval.
        arms: With the hands.
        legs: With the feet.
        hand: 1 on the axis of a hand, falling to 0 around it.
        torso: Length of the torso in pixels.
    """

    along: Plane
    across: Plane
    shoulder: float
    face_down: Plane
    face_across: Plane
    face: Plane
    arms: Limbs
    legs: Limbs
    hand: Plane
    torso: float


CHIN = 1.75
"""Place of the chin on `face_down`."""


def complete(skeleton: Skeleton) -> Skeleton | None:
    """The skeleton with every joint that `body_planes` reads; None without shoulders or hips.

    Unseen hips are put below the shoulders, and unseen limbs where a standing person has them.
    """
    joints = dict(skeleton.joints)
    for pair in ("shoulder", "hip"):
        names = [f"{side}_{pair}" for side in SIDES]
        if sum(name in joints for name in names) == 1:
            other, seen = sorted(names, key=lambda name: name in joints)
            joints[other] = joints[seen]
    left, right = joints.get("left_shoulder"), joints.get("right_shoulder")
    if left is None or right is None:
        return None
    top = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    if "left_hip" not in joints:
        length = max(1.6 * math.dist(left, right), 1.0)
        for side, at in (("left", left), ("right", right)):
            joints[f"{side}_hip"] = (top[0] + 0.6 * (at[0] - top[0]), top[1] + length)
    bottom = Skeleton(joints).middle("hip")
    assert bottom is not None
    torso = max(math.dist(top, bottom), 1e-3)
    facing = 1.0 if left[0] >= right[0] else -1.0  # the person's left is on the photo's right
    for side, sign in (("left", facing), ("right", -facing)):
        for name, (x, y) in _STANDING.items():
            base = top if name in ("elbow", "wrist") else bottom
            joints.setdefault(f"{side}_{name}", (base[0] + sign * x * torso, base[1] + y * torso))
    return Skeleton(_with_face(joints, top, bottom, torso), skeleton.hands)


def _with_face(
    joints: dict[str, Point], top: Point, bottom: Point, torso: float
) -> dict[str, Point]:
    """Eyes and mouth: from the nose, or from the torso's direction, where they are unseen."""
    up = ((top[0] - bottom[0]) / torso, (top[1] - bottom[1]) / torso)
    nose = joints.get("nose", (top[0] + 0.45 * torso * up[0], top[1] + 0.45 * torso * up[1]))
    unit = _EYE_TO_MOUTH * torso
    eyes = Skeleton(joints).middle("eye")
    if eyes is None or ("left_mouth" not in joints and math.dist(eyes, nose) < 0.1 * unit):
        eyes = (nose[0] + 0.55 * unit * up[0], nose[1] + 0.55 * unit * up[1])
    if "left_eye" not in joints or "right_eye" not in joints:
        joints["left_eye"] = joints["right_eye"] = eyes
    if "left_mouth" not in joints or "right_mouth" not in joints:
        down = (nose[0] - eyes[0], nose[1] - eyes[1])
        mouth = (nose[0] + 0.8 * down[0], nose[1] + 0.8 * down[1])
        joints["left_mouth"] = joints["right_mouth"] = mouth
    return joints


def body_planes(skeleton: Skeleton, height: int, width: int) -> BodyPlanes:
    """The coordinates of every pixel, from a `complete` skeleton in the same pixels."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    top, bottom = _middle(skeleton, "shoulder"), _middle(skeleton, "hip")
    torso = max(math.dist(top, bottom), 1e-3)
    axis = ((bottom[0] - top[0]) / torso, (bottom[1] - top[1]) / torso)
    along, across = _turned(x, y, top, axis, torso)
    left = skeleton.joints["left_shoulder"]
    shoulder = abs((left[0] - top[0]) * axis[1] - (left[1] - top[1]) * axis[0]) / torso
    eyes, mouth = _middle(skeleton, "eye"), _middle(skeleton, "mouth")
    unit = max(math.dist(eyes, mouth), 0.09 * torso)
    length = math.dist(eyes, mouth)
    down = axis if length < 1e-3 else ((mouth[0] - eyes[0]) / length, (mouth[1] - eyes[1]) / length)
    face_down, face_across = _turned(x, y, eyes, down, unit)
    arms, hand = _arms(x, y, skeleton, torso)
    return BodyPlanes(
        along=along,
        across=across,
        shoulder=max(shoulder, 0.2),
        face_down=face_down,
        face_across=face_across,
        face=np.hypot((face_down - 0.45) / 1.35, face_across / 1.1),
        arms=arms,
        legs=_legs(x, y, skeleton, torso),
        hand=hand,
        torso=torso,
    )


def _middle(skeleton: Skeleton, joint: str) -> Point:
    found = skeleton.middle(joint)
    assert found is not None
    return found


def _turned(x: Plane, y: Plane, origin: Point, axis: Point, unit: float) -> tuple[Plane, Plane]:
    """Place along an axis and across it, in a unit of pixels."""
    dx, dy = x - np.float32(origin[0]), y - np.float32(origin[1])
    ax, ay = np.float32(axis[0] / unit), np.float32(axis[1] / unit)
    return dx * ax + dy * ay, dy * ax - dx * ay


def _bone(x: Plane, y: Plane, start: Point, end: Point) -> tuple[Plane, Plane]:
    """Distance to a bone in pixels, and the place along it (0 to 1, beyond it too)."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(dx * dx + dy * dy, 1e-6)
    fx, fy = x - np.float32(start[0]), y - np.float32(start[1])
    at = fx * np.float32(dx / length) + fy * np.float32(dy / length)
    inside: Any = np.clip(at, 0.0, 1.0)
    return np.hypot(fx - inside * np.float32(dx), fy - inside * np.float32(dy)), at


def _arms(x: Plane, y: Plane, skeleton: Skeleton, torso: float) -> tuple[Limbs, Plane]:
    distance = np.full(x.shape, np.inf, np.float32)
    place, side_of = np.zeros_like(distance), np.zeros(x.shape, np.uint8)
    hand = np.zeros_like(distance)
    for index, side in enumerate(SIDES):
        shoulder, elbow, wrist = (
            skeleton.joints[f"{side}_{n}"] for n in ("shoulder", "elbow", "wrist")
        )
        tip = _finger_tip(skeleton.hands.get(side, ()), elbow, wrist, torso)
        bones = [_bone(x, y, *ends) for ends in ((shoulder, elbow), (elbow, wrist), (wrist, tip))]
        relative = [d / np.float32(w * torso) for (d, _), w in zip(bones, _ARM_WIDTHS, strict=True)]
        nearest = np.argmin(relative, axis=0)
        least = np.minimum.reduce(relative)
        at = sum((nearest == i) * (i + np.clip(bones[i][1], 0.0, 1.0)) for i in range(3))
        closer = least < distance
        distance = np.where(closer, least, distance)
        place = np.where(closer, at, place).astype(np.float32)
        side_of[closer] = index
        hand = np.maximum(hand, np.exp(-0.5 * np.square(bones[2][0] / np.float32(0.12 * torso))))
    return Limbs(distance, place, side_of), hand


def _finger_tip(fingers: tuple[Point, ...], elbow: Point, wrist: Point, torso: float) -> Point:
    """End of a hand: beyond its known points, else in line with the forearm."""
    if fingers:
        x = sum(p[0] for p in fingers) / len(fingers) - wrist[0]
        y = sum(p[1] for p in fingers) / len(fingers) - wrist[1]
        return wrist[0] + 1.35 * x, wrist[1] + 1.35 * y
    length = max(math.dist(elbow, wrist), 1e-3)
    reach = _HAND * torso / length
    return wrist[0] + reach * (wrist[0] - elbow[0]), wrist[1] + reach * (wrist[1] - elbow[1])


def _legs(x: Plane, y: Plane, skeleton: Skeleton, torso: float) -> Limbs:
    distance = np.full(x.shape, np.inf, np.float32)
    place, side_of = np.zeros_like(distance), np.zeros(x.shape, np.uint8)
    for index, side in enumerate(SIDES):
        hip, knee, ankle = (skeleton.joints[f"{side}_{n}"] for n in ("hip", "knee", "ankle"))
        (above, at_above), (below, at_below) = _bone(x, y, hip, knee), _bone(x, y, knee, ankle)
        upper, lower = (
            d / np.float32(w * torso) for d, w in zip((above, below), _LEG_WIDTHS, strict=True)
        )
        least = np.minimum(upper, lower)
        at = np.where(upper < lower, np.clip(at_above, 0.0, 1.0), 1.0 + np.clip(at_below, 0.0, 1.6))
        closer = least < distance
        distance = np.where(closer, least, distance)
        place = np.where(closer, at, place).astype(np.float32)
        side_of[closer] = index
    return Limbs(distance, place, side_of)
