"""Places along a person's arms and legs in a map of parts: hands, sleeves' ends, feet."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .keypoints import Point, Skeleton
from .labels import Ids, Part

Mask = NDArray[np.bool_]
Sleeve = Literal["keep", "none", "short", "elbow", "long"]

_ON_TORSO = (Part.UPPER, Part.COAT, Part.DRESS, Part.JUMPSUIT)

# In torso lengths. Along an arm, from the finger tips: what is left for a sleeve of that length.
_HAND_LENGTH = 0.36
_SLEEVE_FROM_TIP: dict[Sleeve, float] = {"elbow": 0.86, "short": 1.12}
# Along shoulder - elbow - wrist: 0, 1 and 2.
_SLEEVE_TO: dict[Sleeve, float] = {"none": 0.1, "short": 0.55, "elbow": 1.05}


def with_hands(parts: Ids, skeleton: Skeleton | None, torso: float) -> Ids:
    """The parts, with hands told from arms: no parse map's label set does.

    Args:
        parts: A `Part` a pixel, (H, W).
        skeleton: Joints in their pixels; None: the hand is what lies near the finger tips.
        torso: Mid-shoulder to mid-hip in pixels.
    """
    if np.isin(parts, (Part.LEFT_HAND, Part.RIGHT_HAND)).any():
        return parts
    parts = parts.copy()
    for side, arm, hand in (
        ("left", Part.LEFT_ARM, Part.LEFT_HAND),
        ("right", Part.RIGHT_ARM, Part.RIGHT_HAND),
    ):
        here = parts == arm
        if not here.any():
            continue
        wrist = skeleton.get(f"{side}_wrist") if skeleton else None
        elbow = skeleton.get(f"{side}_elbow") if skeleton else None
        if wrist is not None and elbow is not None:
            parts[here & (_along(parts.shape, elbow, wrist) > 1.0)] = hand
        else:
            tip = _from_tip(here, np.isin(parts, _ON_TORSO))
            parts[here & (tip < _HAND_LENGTH * torso)] = hand
    return parts


def sleeved(parts: Ids, skeleton: Skeleton | None, torso: float, sleeve: Sleeve) -> Mask:
    """The arms' pixels that a sleeve of this length may cover; arguments as in `with_hands`."""
    arms = np.isin(parts, (Part.LEFT_ARM, Part.RIGHT_ARM))
    if sleeve in ("keep", "long"):
        return arms
    found = np.zeros(parts.shape, bool)
    for side, arm in (("left", Part.LEFT_ARM), ("right", Part.RIGHT_ARM)):
        here = parts == arm
        joints = [
            skeleton.get(f"{side}_{name}") if skeleton else None
            for name in ("shoulder", "elbow", "wrist")
        ]
        shoulder, elbow, wrist = joints
        if shoulder is not None and elbow is not None:
            at = _along(parts.shape, shoulder, elbow)
            if wrist is not None:
                lower = 1.0 + _along(parts.shape, elbow, wrist)
                at = np.where(
                    _distance(parts.shape, elbow, wrist) < _distance(parts.shape, shoulder, elbow),
                    np.maximum(lower, 1.0),
                    at,
                )
            found |= here & (at <= _SLEEVE_TO[sleeve])
        elif sleeve != "none" and here.any():
            whole = here | (parts == (Part.LEFT_HAND if side == "left" else Part.RIGHT_HAND))
            tip = _from_tip(whole, np.isin(parts, _ON_TORSO))
            found |= here & (tip >= _SLEEVE_FROM_TIP[sleeve] * torso)
    return found


def bare_feet(parts: Ids, skeleton: Skeleton) -> Mask:
    """Legs' pixels beyond the ankles."""
    feet = np.zeros(parts.shape, bool)
    for side, leg in (("left", Part.LEFT_LEG), ("right", Part.RIGHT_LEG)):
        knee, ankle = skeleton.get(f"{side}_knee"), skeleton.get(f"{side}_ankle")
        if knee is not None and ankle is not None:
            feet |= (parts == leg) & (_along(parts.shape, knee, ankle) > 1.0)
    return feet


def _along(shape: tuple[int, ...], start: Point, end: Point) -> NDArray[np.float32]:
    """Place of each pixel along a bone: 0 at its start, 1 at its end, beyond it more."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(dx * dx + dy * dy, 1e-6)
    x = ((np.arange(shape[1]) - start[0]) * dx / length).astype(np.float32)
    y = ((np.arange(shape[0]) - start[1]) * dy / length).astype(np.float32)
    return x[None, :] + y[:, None]


def _distance(shape: tuple[int, ...], start: Point, end: Point) -> NDArray[np.float32]:
    """Distance of each pixel to a bone."""
    at = np.clip(_along(shape, start, end), 0.0, 1.0)
    x = np.arange(shape[1], dtype=np.float32)[None] - start[0] - at * np.float32(end[0] - start[0])
    y = (
        np.arange(shape[0], dtype=np.float32)[:, None]
        - start[1]
        - at * np.float32(end[1] - start[1])
    )
    return np.hypot(x, y).astype(np.float32)


def _from_tip(arm: Mask, garment: Mask) -> NDArray[np.float32]:
    """Way of each pixel of an arm to its finger tips, within the arm; infinite elsewhere."""
    rows, columns = np.nonzero(arm)
    if garment.any():
        top = int(np.flatnonzero(garment.any(1))[0])
    else:
        top = int(rows[0])
    # The shoulder's end is the highest; of a raised arm it is the one next to the garment's top.
    height = np.abs(rows.astype(np.int64) - top)
    start = np.zeros(arm.shape, bool)
    start[rows[height == height.min()], columns[height == height.min()]] = True
    way = _ways(arm, start)
    far = np.isinf(way) & arm
    if far.any():  # in pieces, such as skin at the shoulder: the hand is in the piece farthest down
        low = far & (np.arange(arm.shape[0])[:, None] == np.nonzero(far)[0].max())
        tips = low
    else:
        tips = arm & (way == way[arm].max())
    return _ways(arm, tips)


def _ways(inside: Mask, start: Mask) -> NDArray[np.float32]:
    """Length of the shortest way to `start` inside a mask, by turns over sides and corners."""
    rows, columns = np.nonzero(inside)
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    open_ = np.zeros((height + 2, width + 2), bool)
    open_[1:-1, 1:-1] = inside[top : top + height, left : left + width]
    found = np.full(open_.shape, np.inf, np.float32)
    frontier = np.flatnonzero(np.pad(start[top : top + height, left : left + width], 1) & open_)
    flat, free = found.reshape(-1), open_.reshape(-1).copy()
    flat[frontier], free[frontier] = 0.0, False
    across = width + 2
    sides = np.array([-1, 1, -across, across])
    corners = np.array([-across - 1, -across + 1, across - 1, across + 1])
    for turn in range(1, height * width):
        # sides alone, then sides and corners, makes an octagon: within 6 % of the true length
        steps = sides if turn % 5 in (1, 3, 4) else np.concatenate([sides, corners])
        reached = (frontier[:, None] + steps[None]).reshape(-1)
        frontier = np.unique(reached[free[reached]])
        if not len(frontier):
            break
        flat[frontier], free[frontier] = turn, False
    whole = np.full(inside.shape, np.inf, np.float32)
    whole[top : top + height, left : left + width] = found[1:-1, 1:-1]
    return whole
