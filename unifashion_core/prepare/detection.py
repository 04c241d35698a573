"""Find persons in a picture: MediaPipe's detector, its anchors, and its weighted suppression."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import torch
from PIL import Image
from torch import Tensor

from .networks.person_detector import ANCHOR_GRIDS, DETECTOR_SIDE, PersonDetector
from .square import Square, numbers

LEAST_SCORE = 0.5
"""Below it an anchor says nothing (min_score_thresh of MediaPipe's graph)."""

SURE_SCORE = 0.85
"""From here on one look is enough."""

_MARGIN, _LONG = 1.2, 2
_SAME_PERSON = 0.3  # min_suppression_threshold


@dataclass(frozen=True)
class Detection:
    """One person as the detector sees them.

    Attributes:
        score: 0..1.
        box: Left, top, right, bottom of head and shoulders, in the picture's pixels.
        keypoints: x, y of mid hip, a point on the circle around the whole body, mid shoulder, a
            point on the circle around the upper body, (4, 2), in the picture's pixels; also
            beyond the picture.
    """

    score: float
    box: tuple[float, float, float, float]
    keypoints: Tensor

    @property
    def square(self) -> Square:
        """An upright square around the whole body, where the landmarks are looked for.

        Source: MediaPipe, pose_detection_to_roi.pbtxt (Apache-2.0): from the mid hip, a radius to
        the second point, which gives the turn too; 1.25 times as large.
        """
        x, y, to_x, to_y = numbers(self.keypoints[:2])
        radius = math.hypot(to_x - x, to_y - y)
        turn = math.pi / 2 - math.atan2(y - to_y, to_x - x)
        turn -= 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))
        return Square(x, y, 2 * radius * 1.25, turn)


def detect_persons(image: Image.Image, network: PersonDetector) -> list[Detection]:
    """The persons of a picture, surest first; none if there is none.

    A picture much longer than wide, or wider than long, is looked at in squares as well where the
    whole of it shows nobody.
    """
    found = _persons_in(image, network, Square.around(image.size))
    if found or max(image.size) < _LONG * min(image.size):
        return found
    for square in _squares_along(image.size):
        for person in _persons_in(image, network, square):
            if not any(_same(person, other) for other in found):
                found.append(person)
    return sorted(found, key=lambda person: -person.score)


def _persons_in(image: Image.Image, network: PersonDetector, square: Square) -> list[Detection]:
    """The persons of a square.

    Where the first look is not sure, two more (mirrored; with a margin around the square) are
    taken, and a score is the mean of the three: coats and shoes that look like a person once seldom
    do so thrice.
    """
    found = _look(image, network, square)
    if not found or found[0].score >= SURE_SCORE:
        return found
    wider = replace(square, side=square.side * _MARGIN)
    others = [_look(image, network, square, mirrored=True), _look(image, network, wider)]
    for i, person in enumerate(found):
        again = [
            max((other.score for other in look if _same(person, other)), default=0.0)
            for look in others
        ]
        found[i] = replace(person, score=(person.score + sum(again)) / (1 + len(again)))
    return sorted(found, key=lambda person: -person.score)


def _squares_along(size: tuple[int, int]) -> list[Square]:
    """Squares of the shorter side along the longer one, each half over the last."""
    width, height = size
    short, rest = min(size), max(size) - min(size)
    count = math.ceil(rest / (short / 2)) + 1
    places = [short / 2 + rest * i / (count - 1) for i in range(count)]
    if width > height:
        return [Square(place, height / 2, short) for place in places]
    return [Square(width / 2, place, short) for place in places]


def _look(
    image: Image.Image, network: PersonDetector, square: Square, *, mirrored: bool = False
) -> list[Detection]:
    pixels = square.cut(image, DETECTOR_SIDE).to(network.trunk.stem.weight) * 2 - 1
    boxes, logits = network(pixels.flip(3) if mirrored else pixels)
    scores = logits[0].float().cpu().clamp(-100, 100).sigmoid()
    likely = (scores >= LEAST_SCORE).nonzero().squeeze(1)
    if not len(likely):
        return []
    found = _decode(boxes[0].float().cpu()[likely], _anchors()[likely])
    if mirrored:
        found[..., 0] = 1 - found[..., 0]
        found[:, :2, 0] = found[:, :2, 0].flip(1)  # left and right of the box
    return [_to_picture(s, points, square) for s, points in _suppress(scores[likely], found)]


def _same(one: Detection, other: Detection) -> bool:
    boxes = [torch.tensor(person.box).reshape(2, 2) for person in (one, other)]
    return bool(_overlap(boxes[0], boxes[1][None]) > _SAME_PERSON)


@cache
def _anchors() -> Tensor:
    """Centres, in 0..1, (2254, 2)."""
    grids: list[Tensor] = []
    for side, count in ANCHOR_GRIDS:
        places = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(places, places, indexing="ij")
        grids.append(torch.stack((x, y), -1).reshape(-1, 2).repeat_interleave(count, 0))
    return torch.cat(grids)


def _decode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Raw boxes (N, 12) as points in 0..1: two corners, then four key points, (N, 6, 2)."""
    pairs = boxes.reshape(-1, 6, 2) / DETECTOR_SIDE
    centre, half, keypoints = pairs[:, :1] + anchors[:, None], pairs[:, 1:2] / 2, pairs[:, 2:]
    return torch.cat((centre - half, centre + half, keypoints + anchors[:, None]), 1)


def _suppress(scores: Tensor, points: Tensor) -> list[tuple[float, Tensor]]:
    """Of boxes that overlap the surest one, the mean weighted by score; and so on with the rest.

    Source: MediaPipe, non_max_suppression_calculator.cc (Apache-2.0), WEIGHTED.
    """
    order = scores.argsort(descending=True, stable=True)
    scores, points = scores[order], points[order]
    found: list[tuple[float, Tensor]] = []
    while len(scores):
        same = _overlap(points[0], points) > _SAME_PERSON
        same[0] = True
        weights = scores[same]
        mean = (points[same] * weights[:, None, None]).sum(0) / weights.sum()
        found.append((float(scores[0]), mean))
        scores, points = scores[~same], points[~same]
    return found


def _overlap(one: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of a box with others, whose first two points are their corners."""
    low, high = torch.maximum(one[0], others[:, 0]), torch.minimum(one[1], others[:, 1])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (others[:, 1] - others[:, 0]).prod(-1)
    return shared / (areas + (one[1] - one[0]).prod() - shared).clamp(min=1e-9)


def _to_picture(score: float, points: Tensor, square: Square) -> Detection:
    points = square.to_picture(points)
    left, top, right, bottom = numbers(points[:2])
    return Detection(score, (left, top, right, bottom), points[2:])
