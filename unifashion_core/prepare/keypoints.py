"""A person's joints, from landmarks or from the ControlNet preprocessors' POSE_KEYPOINT."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ..errors import InputError

Point = tuple[float, float]

# Left and right are the person's own.
_BODY_18 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
_BODY_25 = (
    *_BODY_18[:8], "mid_hip", *_BODY_18[8:], "left_toe", "left_small_toe", "left_heel",
    "right_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_LANDMARKS = {
    0: "nose", 2: "left_eye", 5: "right_eye", 7: "left_ear", 8: "right_ear", 9: "left_mouth",
    10: "right_mouth", 11: "left_shoulder", 12: "right_shoulder", 13: "left_elbow",
    14: "right_elbow", 15: "left_wrist", 16: "right_wrist", 23: "left_hip", 24: "right_hip",
    25: "left_knee", 26: "right_knee", 27: "left_ankle", 28: "right_ankle", 29: "left_heel",
    30: "right_heel", 31: "left_toe", 32: "right_toe",
}  # fmt: skip
_HAND_LANDMARKS = {"left": (17, 19, 21), "right": (18, 20, 22)}  # little finger, index, thumb
_LEAST_SCORE = 0.05
_NORMALISED_BELOW = 1.5  # coordinates in 0..1, a little beyond where the body leaves the picture


@dataclass(frozen=True)
class Skeleton:
    """Joints of one person in pixels of the photo; x to the right, y down, possibly outside it.

    Attributes:
        joints: By name, such as "left_elbow"; the unseen ones are absent.
        hands: Points on the fingers, by "left" and "right".
    """

    joints: Mapping[str, Point]
    hands: Mapping[str, tuple[Point, ...]] = field(default_factory=dict[str, tuple[Point, ...]])

    def get(self, name: str) -> Point | None:
        """A joint, or None where it is unseen."""
        return self.joints.get(name)

    def middle(self, joint: str) -> Point | None:
        """Between the left and the right one; the seen one where only one is."""
        seen = [self.joints[n] for n in (f"left_{joint}", f"right_{joint}") if n in self.joints]
        if not seen:
            return None
        return sum(p[0] for p in seen) / len(seen), sum(p[1] for p in seen) / len(seen)

    def torso(self) -> float | None:
        """Mid-shoulder to mid-hip in pixels, or None where one of them is unseen."""
        top, bottom = self.middle("shoulder"), self.middle("hip")
        return None if top is None or bottom is None else math.dist(top, bottom)

    def scaled(self, x: float, y: float) -> Skeleton:
        """The skeleton in a photo of another size; a pixel's centre stays a pixel's centre."""
        return self._mapped(lambda p: ((p[0] + 0.5) * x - 0.5, (p[1] + 0.5) * y - 0.5))

    def moved(self, x: float, y: float) -> Skeleton:
        """The skeleton moved by so many pixels."""
        return self._mapped(lambda p: (p[0] + x, p[1] + y))

    def _mapped(self, move: Callable[[Point], Point]) -> Skeleton:
        return Skeleton(
            {name: move(p) for name, p in self.joints.items()},
            {side: tuple(move(p) for p in points) for side, points in self.hands.items()},
        )


def from_landmarks(landmarks: Any) -> Skeleton:
    """The 33 landmarks of the built-in network as a skeleton.

    Args:
        landmarks: (33, 2 or more), x and y in pixels first: an array or a tensor.
    """
    values = np.asarray(landmarks, dtype=np.float64)
    joints = {name: (float(values[i, 0]), float(values[i, 1])) for i, name in _LANDMARKS.items()}
    hands = {
        side: tuple((float(values[i, 0]), float(values[i, 1])) for i in places)
        for side, places in _HAND_LANDMARKS.items()
    }
    return Skeleton(joints, hands)


def read_keypoints(
    frame: Any, size: tuple[int, int], *, person: int | None = None, where: str = "keypoints"
) -> Skeleton:
    """One person of a POSE_KEYPOINT frame, as the ControlNet preprocessors and OpenPose write it.

    Args:
        frame: A frame, or the list of a batch's frames, of which the first is read. Coordinates in
            0..1, in pixels of its canvas, or of the photo where it names no canvas.
        size: Width and height of the photo.
        person: Which one; None is the largest.
        where: What to call it in an error.

    Raises:
        InputError: If there is no person in it, or it is not of this form.
    """
    if isinstance(frame, Sequence) and not isinstance(frame, str) and frame:
        frame = cast("Sequence[Any]", frame)[0]
    if not isinstance(frame, Mapping) or "people" not in frame:
        raise InputError(
            f"{where}: not in POSE_KEYPOINT form, which has 'people'. Connect the POSE_KEYPOINT "
            "output of a pose preprocessor."
        )
    frame = cast("Mapping[str, Any]", frame)
    canvas = (
        float(frame.get("canvas_width") or size[0]),
        float(frame.get("canvas_height") or size[1]),
    )
    found = [_person(p, canvas, size, where) for p in frame["people"] or ()]
    found = [p for p in found if p.joints]
    if person is not None and not 0 <= person < len(found):
        raise InputError(f"{where}: person {person} asked for, {len(found)} there. Choose another.")
    if not found:
        raise InputError(
            f"{where}: no person in them. Give keypoints of a photo that shows a person, or leave "
            "them out, so that the built-in network looks for one."
        )
    return found[person] if person is not None else max(found, key=_extent)


def _extent(skeleton: Skeleton) -> float:
    points = np.array(list(skeleton.joints.values()))
    return float(np.ptp(points[:, 0]) + np.ptp(points[:, 1])) if len(points) else 0.0


def _person(
    person: Mapping[str, Any], canvas: Point, size: tuple[int, int], where: str
) -> Skeleton:
    body = _triples(person.get("pose_keypoints_2d"), where)
    if len(body) not in (0, 18, 25) and len(body) < 18:
        raise InputError(
            f"{where}: {len(body)} body points, wanted 18 or 25. Use a preprocessor for bodies."
        )
    names = _BODY_25 if len(body) == 25 else _BODY_18
    hands = {s: _triples(person.get(f"hand_{s}_keypoints_2d"), where) for s in ("left", "right")}
    points = np.concatenate([body, *hands.values()])
    seen = points[points[:, 2] > _LEAST_SCORE]
    normalised = len(seen) > 0 and float(np.abs(seen[:, :2]).max()) <= _NORMALISED_BELOW
    scale = size if normalised else (size[0] / canvas[0], size[1] / canvas[1])

    def place(point: Any) -> Point:
        return float(point[0]) * scale[0], float(point[1]) * scale[1]

    joints = {
        name: place(point)
        for name, point in zip(names, body, strict=False)
        if point[2] > _LEAST_SCORE
    }
    fingers = {
        side: tuple(place(p) for p in some if p[2] > _LEAST_SCORE) for side, some in hands.items()
    }
    return Skeleton(joints, {side: some for side, some in fingers.items() if some})


def _triples(values: Any, where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Flat x, y, score values as (N, 3)."""
    flat = np.asarray([] if values is None else values, dtype=np.float64).reshape(-1)
    if len(flat) % 3:
        raise InputError(
            f"{where}: {len(flat)} numbers, wanted x, y and score of each point. Connect the "
            "POSE_KEYPOINT output of a pose preprocessor."
        )
    return flat.reshape(-1, 3)
