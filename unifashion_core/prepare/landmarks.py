"""The 33 points of a body in a picture: MediaPipe's network on a square, with its refinement."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from .networks.pose_landmarks import LANDMARKS_SIDE, PoseLandmarks
from .square import Square

LANDMARK_NAMES = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
    "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
    "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
"""Of the 33 points, in order; left and right are the person's own."""

_BODY = len(LANDMARK_NAMES)  # the network gives some more
_KERNEL, _SURE = 7, 0.5  # kernel_size and min_confidence_to_refine
_LOOKS = (1.0, 0.9)


@dataclass(frozen=True)
class LandmarksFound:
    """What the network says of a person.

    Attributes:
        points: x, y in the picture's pixels, z in the same unit, visibility 0..1, (33, 4).
        score: Probability that there is a pose at all. It does not tell a person from a garment:
            the detector does.
        masks: The person, 0..1, over each square that was looked at, (S, 256, 256).
        squares: Those squares, S of them.
    """

    points: Tensor
    score: float
    masks: Tensor
    squares: tuple[Square, ...]


def find_landmarks(image: Image.Image, square: Square, network: PoseLandmarks) -> LandmarksFound:
    """The landmarks of the person in a square of a picture: the mean of two looks, one of them
    closer (MediaPipe takes one look).
    """
    squares = tuple(replace(square, side=square.side * scale) for scale in _LOOKS)
    pixels = torch.cat([look.cut(image, LANDMARKS_SIDE) for look in squares])
    output = network(pixels.to(network.trunk.stem.weight))
    raw, heat = output.landmarks.float().cpu(), output.heatmaps.float().cpu().sigmoid()
    points: list[Tensor] = []
    for look, said, warmth in zip(squares, raw[:, :_BODY], heat[:, :_BODY], strict=True):
        places = look.to_picture(_refine(said[:, :2] / LANDMARKS_SIDE, warmth))
        depth = said[:, 2:3] * (look.side / LANDMARKS_SIDE)
        points.append(torch.cat((places, depth, said[:, 3:4].sigmoid()), 1))
    return LandmarksFound(
        points=torch.stack(points).mean(0),
        score=float(output.presence.mean()),
        masks=output.person.float().cpu().sigmoid(),
        squares=squares,
    )


def _refine(places: Tensor, heat: Tensor) -> Tensor:
    """Move each point to the mean of the heat around it, where that is sure.

    Source: MediaPipe, refine_landmarks_from_heatmap_calculator.cc (Apache-2.0).

    Args:
        places: (33, 2) in 0..1.
        heat: (33, h, w) in 0..1.
    """
    height, width = heat.shape[1:]
    refined = places.clone()
    reach = (_KERNEL - 1) // 2
    for i, place in enumerate(places):
        column, row = int(place[0] * width), int(place[1] * height)
        if not (0 <= column < width and 0 <= row < height):
            continue
        left, top = max(0, column - reach), max(0, row - reach)
        near = heat[i, top : row + reach + 1, left : column + reach + 1]
        total = near.sum()
        if near.max() < _SURE or total <= 0:
            continue
        columns = torch.arange(left, left + near.shape[1])
        rows = torch.arange(top, top + near.shape[0])
        refined[i, 0] = (near.sum(0) * columns).sum() / total / width
        refined[i, 1] = (near.sum(1) * rows).sum() / total / height
    return refined
