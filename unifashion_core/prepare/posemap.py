"""Pose maps, as a try-on model takes them: densepose maps of other nodes brought to one form, or a
map of body parts drawn from a skeleton.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, ShapeError
from ..imaging import to_pil
from .colour_step_geometry import complete
from .densepose import PARULA, read_densepose
from .fit import Fit
from .keypoints import Point, Skeleton

Plane = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _Limb:
    """A part between two joints; the radii are shares of the torso's length."""

    name: str
    start: str
    end: str
    radii: tuple[float, float]
    colour: tuple[int, int, int]
    beyond: float = 0.0  # how far it goes on after its end, as a share of its length


def _both(name: str, start: str, end: str, radii: tuple[float, float], *colours: Any, **more: Any):
    return [
        _Limb(f"{side}_{name}", f"{side}_{start}", f"{side}_{end}", radii, colour, **more)
        for side, colour in zip(("right", "left"), colours, strict=True)
    ]


_UNDER = [
    *_both("foot", "heel", "toe", (0.07, 0.06), (150, 90, 0), (200, 150, 60)),
    *_both("lower_leg", "knee", "ankle", (0.11, 0.07), (0, 110, 60), (110, 200, 90)),
    *_both("upper_leg", "hip", "knee", (0.18, 0.12), (0, 160, 150), (120, 220, 200)),
]
_OVER = [
    *_both("upper_arm", "shoulder", "elbow", (0.13, 0.095), (220, 60, 40), (240, 150, 50)),
    *_both("lower_arm", "elbow", "wrist", (0.09, 0.06), (190, 20, 110), (230, 110, 180)),
    *_both("hand", "wrist", "fingers", (0.06, 0.05), (120, 20, 160), (180, 120, 240), beyond=0.6),
]
_TORSO_COLOUR, _NECK_COLOUR, _HEAD_COLOUR = (40, 80, 230), (130, 140, 150), (240, 220, 60)
PART_COLOURS = {
    **{limb.name: limb.colour for limb in (*_UNDER, *_OVER)},
    "torso": _TORSO_COLOUR, "neck": _NECK_COLOUR, "head": _HEAD_COLOUR,
}  # fmt: skip
"""Colour of each body part of `draw_pose_map`, before its shading."""


def draw_pose_map(skeleton: Skeleton, height: int, width: int) -> Tensor:
    """A map of body parts from joints: a colour a part, shaded by the place in it.

    Along a part, from its upper end to its lower one, its colour grows darker; across it, from the
    photo's left to right of an upright part, it turns towards white. So each pixel tells its part
    and its place. A limb of which a joint is unseen is left out; unseen hips are put below the
    shoulders.

    Args:
        skeleton: In pixels of the map.
        height: Of the map.
        width: Of the map.

    Returns:
        (H, W, 3), float32 in 0..1, black outside the body.

    Raises:
        InputError: If the skeleton has no shoulders.
    """
    whole = complete(skeleton)
    if whole is None:
        raise InputError(
            "pose map: the skeleton has no shoulders, so the body is not known. Give keypoints of "
            "a photo that shows them, or leave the keypoints out."
        )
    torso = [whole.joints[f"{side}_{name}"] for name in ("shoulder", "hip") for side in _SIDES]
    unit = max(whole.torso() or 0.0, 1.2 * math.dist(torso[0], torso[1]), 1.0)
    canvas: Plane = np.zeros((height, width, 3), np.float32)
    ends = _joints(skeleton, whole)
    for limb in _UNDER:
        _draw_limb(canvas, limb, ends, unit)
    neck = _Limb("neck", "mid_shoulder", "chin", (0.12, 0.1), _NECK_COLOUR)
    _draw_limb(canvas, neck, ends, unit)
    _draw_torso(canvas, torso, unit)
    _draw_head(canvas, ends, unit)
    for limb in _OVER:
        _draw_limb(canvas, limb, ends, unit)
    return torch.from_numpy(canvas)  # pyright: ignore[reportUnknownMemberType] - untyped in torch


def fit_skeleton(skeleton: Skeleton, fitted: Fit) -> Skeleton:
    """A photo's skeleton in the frame that a crop of the photo was laid into."""
    left, top = fitted.box[:2]
    rows, columns = fitted.box_size
    scaled = skeleton.moved(-left, -top).scaled(
        fitted.content[1] / columns, fitted.content[0] / rows
    )
    return scaled.moved(fitted.offset[1], fitted.offset[0])


def densepose_map(image: Tensor, height: int, width: int, where: str = "densepose") -> Tensor:
    """A densepose map in the form of VITON-HD's: detectron2's parula colours over black.

    Args:
        image: (h, w, 3) in 0..1: ids, or the parula or viridis colours; any size.
        height: Of the result.
        width: Of the result; the map is squashed to it, and takes no colours between two parts'.
        where: What to call it in an error.

    Returns:
        (H, W, 3), float32 in 0..1.

    Raises:
        InputError: If it is no densepose map, or shows no person.
        ShapeError: If it is no picture.
    """
    if image.ndim != 3 or image.shape[-1] < 3:
        raise ShapeError(
            f"{where}: shape {tuple(image.shape)}, wanted (H, W, 3). Give one RGB image a photo."
        )
    ids = torch.as_tensor(read_densepose(to_pil(image[..., :3]), where).ids)
    ids = F.interpolate(ids[None, None].float(), (height, width), mode="nearest-exact")[0, 0]
    table = torch.tensor([(0, 0, 0), *PARULA[1:]], dtype=torch.float32) / 255.0
    return table[ids.long()]


def require_pose_map(pose_map: Tensor | None, wanted: str, where: str) -> Tensor:
    """The pose map that a model needs.

    Args:
        pose_map: (B, H, W, 3) or None.
        wanted: "densepose" or "body parts".
        where: The step that needs it.

    Raises:
        InputError: If there is none; the text says where to get that kind.
    """
    if pose_map is not None:
        return pose_map
    ways = {
        "densepose": "This pack can't make one: add DensePose Estimator (of the ControlNet "
        "preprocessors, comfyui_controlnet_aux) behind the person's photo and Pose Map with "
        "kind = densepose behind both; its pose goes to the input pose of Try-On Condition "
        "(commands: --pose)",
        "body parts": "Connect Pose Map, which draws one from the photo of the person",
    }
    raise InputError(f"{where}: this model needs a pose map ({wanted}), got none. {ways[wanted]}.")


_SIDES = ("right", "left")


def _joints(skeleton: Skeleton, whole: Skeleton) -> dict[str, Point]:
    """The seen joints, and the points between them that parts begin or end at."""
    joints = dict(skeleton.joints)
    for name in ("left_hip", "right_hip", "left_shoulder", "right_shoulder"):
        joints[name] = whole.joints[name]
    for side in _SIDES:
        fingers = skeleton.hands.get(side, ())
        elbow, wrist = joints.get(f"{side}_elbow"), joints.get(f"{side}_wrist")
        if fingers:
            joints[f"{side}_fingers"] = _mean(*fingers)
        elif elbow is not None and wrist is not None:
            joints[f"{side}_fingers"] = _beyond(elbow, wrist, 0.3)
    joints["mid_shoulder"] = _mean(whole.joints["left_shoulder"], whole.joints["right_shoulder"])
    eyes = _mean(whole.joints["left_eye"], whole.joints["right_eye"])
    mouth = _mean(whole.joints["left_mouth"], whole.joints["right_mouth"])
    joints["eyes"], joints["chin"] = eyes, _beyond(eyes, mouth, 0.5)
    return joints


def _mean(*points: Point) -> Point:
    return sum(p[0] for p in points) / len(points), sum(p[1] for p in points) / len(points)


def _beyond(start: Point, end: Point, share: float) -> Point:
    return end[0] + share * (end[0] - start[0]), end[1] + share * (end[1] - start[1])


def _draw_limb(canvas: Plane, limb: _Limb, joints: dict[str, Point], unit: float) -> None:
    start, end = joints.get(limb.start), joints.get(limb.end)
    if start is None or end is None:
        return
    end = _beyond(start, end, limb.beyond)
    first, last = (radius * unit for radius in limb.radii)
    view = _View.around(canvas, [start, end], max(first, last))
    if view is None:
        return
    along, across = view.on_axis(start, end)
    length = max(math.dist(start, end), 1e-3)
    place = _clip(along / length, 0, 1)
    radius = first + (last - first) * place
    distance = np.hypot(along - place * length, across) - radius
    view.paint(distance, place, across / radius, limb.colour)


def _draw_torso(canvas: Plane, corners: list[Point], unit: float) -> None:
    right_shoulder, left_shoulder, right_hip, left_hip = corners
    top, bottom = _mean(right_shoulder, left_shoulder), _mean(right_hip, left_hip)
    length = max(math.dist(top, bottom), 1e-3)
    upper = max(math.dist(right_shoulder, left_shoulder) / 2, 0.15 * unit) + 0.05 * unit
    lower = max(math.dist(right_hip, left_hip) / 2, 0.12 * unit) + 0.12 * unit
    view = _View.around(canvas, [top, bottom], max(upper, lower) + 0.1 * unit)
    if view is None:
        return
    along, across = view.on_axis(top, bottom)
    place = _clip(along / length, 0, 1)
    half = upper + (lower - upper) * place
    above = -0.08 * unit - along
    below = along - length - 0.1 * unit
    view.paint(
        np.maximum(np.abs(across) - half, np.maximum(above, below)),
        place, across / half, _TORSO_COLOUR,
    )  # fmt: skip


def _draw_head(canvas: Plane, joints: dict[str, Point], unit: float) -> None:
    eyes, chin = joints["eyes"], joints["chin"]
    face = max(math.dist(eyes, chin), 0.12 * unit)
    away = (eyes[0] - chin[0], eyes[1] - chin[1])
    scale = face / max(math.hypot(*away), 1e-3)
    up = (away[0] * scale, away[1] * scale)
    crown = (eyes[0] + up[0], eyes[1] + up[1])
    view = _View.around(canvas, [crown, chin], face * 1.2)
    if view is None:
        return
    along, across = view.on_axis(crown, chin)
    half = max(math.dist(crown, chin) / 2, 1e-3)
    wide = 0.78 * half
    distance = (np.hypot((along - half) / half, across / wide) - 1) * wide
    view.paint(distance, _clip(along / (2 * half), 0, 1), across / wide, _HEAD_COLOUR)


def _clip(x: Plane, low: float, high: float) -> Plane:
    return np.minimum(np.maximum(x, np.float32(low)), np.float32(high))


@dataclass(frozen=True)
class _View:
    """The part of the canvas that a body part may cover."""

    canvas: Plane  # a view into the whole one
    x: Plane
    y: Plane

    @classmethod
    def around(cls, canvas: Plane, points: list[Point], margin: float) -> _View | None:
        """None where nothing of it lies on the canvas."""
        height, width = canvas.shape[:2]
        left, right = min(p[0] for p in points) - margin, max(p[0] for p in points) + margin
        top, bottom = min(p[1] for p in points) - margin, max(p[1] for p in points) + margin
        x0, x1 = max(0, math.floor(left) - 1), min(width, math.ceil(right) + 2)
        y0, y1 = max(0, math.floor(top) - 1), min(height, math.ceil(bottom) + 2)
        if x0 >= x1 or y0 >= y1:
            return None
        y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        return cls(canvas[y0:y1, x0:x1], x, y)

    def on_axis(self, start: Point, end: Point) -> tuple[Plane, Plane]:
        """Pixels along the way from start to end, and across it."""
        length = max(math.dist(start, end), 1e-3)
        dx, dy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
        x, y = self.x - start[0], self.y - start[1]
        return x * dx + y * dy, x * dy - y * dx

    def paint(
        self, distance: Plane, along: Plane, across: Plane, colour: tuple[int, int, int]
    ) -> None:
        """Lay a part over what is there; `distance` in pixels from its edge, negative inside."""
        cover = _clip(0.5 - distance, 0, 1)[..., None]
        shade = (1.0 - 0.45 * along)[..., None]
        white = (0.2 * (_clip(across, -1, 1) + 1) / 2)[..., None]
        base = np.array(colour, np.float32) / 255 * shade
        self.canvas[:] = self.canvas * (1 - cover) + cover * (base + (1 - base) * white)
