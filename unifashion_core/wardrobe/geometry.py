"""Curves, and the parts that a garment is cut into.

Garment space is a standing body: x to the picture's right, y down, the hollow of the neck at
(0, 0), one unit the width of the shoulders (landmarks: `BODY`). A part has a name, so that a
mannequin can take the same panels and bend them to a pose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Point = tuple[float, float]

Fabric = Literal["main", "plain", "second", "rib", "inside", "dark", "sole", "metal", "label"]
"""What a panel is made of: the patterned cloth, its plain colour, the second colour, ribbing …"""


@dataclass(frozen=True)
class Body:
    """Landmarks of garment space: the heights and half widths that the outlines start from."""

    shoulder: Point = (0.47, 0.09)
    underarm: Point = (0.46, 0.52)
    waist: Point = (0.40, 1.0)
    hip: Point = (0.49, 1.38)
    crotch_y: float = 1.58
    knee_y: float = 2.42
    ankle_y: float = 3.36
    arm: float = 1.36  # shoulder to wrist
    elbow: float = 0.70  # shoulder to elbow


BODY = Body()


@dataclass(frozen=True)
class Panel:
    """A piece of cloth.

    Attributes:
        name: Its place on the garment, such as "body" or "sleeve_left" (left in the picture).
        outline: Corners of a closed polygon, (N, 2).
        fabric: What it is made of.
        angle: Direction of its grain: how far its length is turned from straight down, radians.
        origin: Where its texture coordinates are zero.
        puff: How round its edges look, 0 flat .. 1.
        lift: How strong a shadow it throws on the panels below, 0..1.
        tone: Factor on its brightness.
    """

    name: str
    outline: Points
    fabric: Fabric = "main"
    angle: float = 0.0
    origin: Point = (0.0, 0.0)
    puff: float = 0.6
    lift: float = 0.5
    tone: float = 1.0


@dataclass(frozen=True)
class Stroke:
    """A drawn line: a seam, a row of stitches, a lace, a zip.

    Attributes:
        name: What it is.
        points: Its course, (N, 2).
        width: In garment units.
        ink: Its colour against the cloth: below 0 darker, above 0 lighter, -1..1.
        dash: Length of a stitch, 0 for a full line.
        fabric: Draw in this instead of the cloth's own tone.
    """

    name: str
    points: Points
    width: float = 0.012
    ink: float = -0.3
    dash: float = 0.0
    fabric: Fabric | None = None


@dataclass(frozen=True)
class Fold:
    """A soft ridge of the cloth along a line; it only acts on the light.

    Attributes:
        points: Its course, (N, 2).
        width: In garment units.
        height: Above 0 a ridge, below 0 a valley.
    """

    points: Points
    width: float = 0.06
    height: float = 0.5


Part = Panel | Stroke | Fold


@dataclass(frozen=True)
class Cut:
    """A garment as parts in drawing order, and where a print would go.

    Attributes:
        parts: The lowest first.
        print_at: Middle of a chest print, None where there is no room.
        print_size: Its width in garment units.
        grain: How far folds run down the cloth: 0 in all directions .. 1 straight down.
    """

    parts: tuple[Part, ...]
    print_at: Point | None = None
    print_size: float = 0.5
    grain: float = 0.5
    panels: dict[str, Panel] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = {p.name: p for p in self.parts if isinstance(p, Panel)}
        object.__setattr__(self, "panels", named)


def at(*points: Point) -> Points:
    """Points as an array."""
    return np.array(points, dtype=np.float64)


def bend(start: Point, control: Point, end: Point, steps: int = 10) -> Points:
    """A quadratic curve, (steps + 1, 2)."""
    t = np.linspace(0.0, 1.0, steps + 1)[:, None]
    a, b, c = np.array(start), np.array(control), np.array(end)
    return (1 - t) * (1 - t) * a + 2 * (1 - t) * t * b + t * t * c


def curve(start: Point, first: Point, second: Point, end: Point, steps: int = 12) -> Points:
    """A cubic curve, (steps + 1, 2)."""
    t = np.linspace(0.0, 1.0, steps + 1)[:, None]
    s = 1 - t
    a, b, c, d = (np.array(p) for p in (start, first, second, end))
    return s * s * s * a + 3 * s * s * t * b + 3 * s * t * t * c + t * t * t * d


def smooth(*points: Point, closed: bool = False, steps: int = 6) -> Points:
    """A curve through points (Catmull-Rom)."""
    p = np.array(points, dtype=np.float64)
    before = p[-1] if closed else 2 * p[0] - p[1]
    after = [p[0], p[1]] if closed else [2 * p[-1] - p[-2]]
    q = np.vstack([before, p, *after])
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None]
    pieces = [
        0.5
        * (
            2 * b
            + (c - a) * t
            + (2 * a - 5 * b + 4 * c - d) * t * t
            + (3 * b - a - 3 * c + d) * t * t * t
        )
        for a, b, c, d in zip(q[:-3], q[1:-2], q[2:-1], q[3:], strict=True)
    ]
    return np.vstack(pieces if closed else [*pieces, p[-1:]])


def join(*pieces: Points) -> Points:
    """One outline of several pieces in order."""
    return np.vstack(pieces)


def mirror(points: Points) -> Points:
    """The same on the other side of the middle, in reverse order."""
    return points[::-1] * np.array([-1.0, 1.0])


def both(half: Points) -> Points:
    """A closed outline from its right half, which runs from the top middle to the bottom middle."""
    return np.vstack([half, mirror(half)])


def ellipse(centre: Point, rx: float, ry: float, steps: int = 20) -> Points:
    """An ellipse, (steps, 2)."""
    turns = [2 * math.pi * i / steps for i in range(steps)]
    return np.array([(centre[0] + rx * math.cos(t), centre[1] + ry * math.sin(t)) for t in turns])


def turned(points: Points, angle: float, centre: Point = (0.0, 0.0)) -> Points:
    """Points turned about a centre, radians; above 0 takes x towards y."""
    c, s = math.cos(angle), math.sin(angle)
    p = points - np.array(centre)
    x, y = p[:, 0], p[:, 1]
    return np.stack([c * x - s * y + centre[0], s * x + c * y + centre[1]], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """An upright rectangle."""
    return at((left, top), (right, top), (right, bottom), (left, bottom))


def band(top: Points, depth: float) -> Points:
    """A strip of a depth below a line."""
    return np.vstack([top, (top + np.array([0.0, depth]))[::-1]])


def thick(points: Points, width: float) -> Points:
    """A ribbon of a width along a line, as a closed outline."""
    aside = normals(points) * (width / 2)
    return np.vstack([points + aside, (points - aside)[::-1]])


def normals(points: Points) -> Points:
    """The direction square to a line at each of its points, of unit length, (N, 2)."""
    ends = np.vstack([points[:1], points, points[-1:]])
    step = ends[2:] - ends[:-2]
    length = np.sqrt(np.square(step).sum(axis=1, keepdims=True)) + 1e-9
    return np.stack([-step[:, 1], step[:, 0]], axis=1) / length


def lerp(a: Point, b: Point, t: float) -> Point:
    """The point that lies `t` of the way from a to b."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t)
