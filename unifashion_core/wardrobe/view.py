"""The camera: garment space to picture pixels and back, with the small waves that cloth lies in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from .geometry import Cut, Panel, Points
from .shading import Field


@dataclass(frozen=True)
class View:
    """A mapping of garment space to pixels.

    Attributes:
        matrix: Homography from garment units to pixels, (3, 3).
        waves: Amplitude, frequencies and phases of the cloth's drift, (W, 6).
        unit: Pixels of a garment unit in the middle of the picture.
        garment_x: Garment x of each pixel, (H, W).
        garment_y: Garment y of each pixel, (H, W).
    """

    matrix: npt.NDArray[np.float64]
    waves: npt.NDArray[np.float64]
    unit: float
    garment_x: Field
    garment_y: Field

    def project(self, points: Points) -> Points:
        """Garment units to pixels, (N, 2)."""
        moved = points + _drift(self.waves, points)
        flat = np.column_stack([moved, np.ones(len(moved))])
        w = flat @ np.transpose(self.matrix)
        return w[:, :2] / w[:, 2:]


def make_view(pieces: Cut, side: int, rng: np.random.Generator, style: str) -> View:
    """Aim the camera so that the garment fills the frame.

    Args:
        pieces: The garment.
        side: Side of the drawn picture in pixels.
        rng: Chooses turn, distance and waves.
        style: "studio" looks straight; "amateur" is turned, off centre and in perspective.
    """
    everything = np.vstack([p.outline for p in pieces.parts if isinstance(p, Panel)])
    low, high = everything.min(axis=0), everything.max(axis=0)
    centre, extent = (low + high) / 2, high - low
    studio = style == "studio"
    turn = math.radians(float(rng.uniform(-2.0, 2.0) if studio else rng.normal(0, 6)))
    turn = max(-0.262, min(0.262, turn))
    fill = float(rng.uniform(0.78, 0.84) if studio else rng.uniform(0.72, 0.99))
    unit = fill * side / max(float(extent[0]), float(extent[1]))
    lean = (0.0, 0.0) if studio else (float(rng.normal(0, 0.035)), float(rng.normal(0, 0.06)))
    slack = (1 - fill) * side * 0.4
    off = np.array([0.0, 0.0] if studio else rng.uniform(-slack, slack, 2))
    matrix = _matrix(centre, turn, unit, lean, side / 2 + off)
    waves = _draw_waves(rng, 0.008 if studio else 0.02)
    x, y = _inverse_map(matrix, waves, side)
    return View(matrix, waves, unit, x, y)


def straight_view(pieces: Cut, side: int, fill: float = 0.92) -> View:
    """Look straight at a garment that lies without a wave: places on it can be worked out."""
    everything = np.vstack([p.outline for p in pieces.parts if isinstance(p, Panel)])
    low, high = everything.min(axis=0), everything.max(axis=0)
    unit = fill * side / float((high - low).max())
    middle = np.array([side / 2, side / 2])
    matrix = _matrix((low + high) / 2, 0.0, unit, (0.0, 0.0), middle)
    waves = np.zeros((1, 6))
    x, y = _inverse_map(matrix, waves, side)
    return View(matrix, waves, unit, x, y)


def _matrix(
    centre: npt.NDArray[np.float64],
    turn: float,
    unit: float,
    lean: tuple[float, float],
    middle: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    to_centre = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1]], dtype=np.float64)
    c, s = math.cos(turn) * unit, math.sin(turn) * unit
    rotate = np.array([[c, -s, 0], [s, c, 0], [lean[0], lean[1], 1]], dtype=np.float64)
    shift = np.array([[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]], dtype=np.float64)
    return shift @ rotate @ to_centre


def _draw_waves(rng: np.random.Generator, size: float) -> npt.NDArray[np.float64]:
    count = 4
    waves = np.empty((count, 6))
    for i in range(count):
        frequency = float(rng.uniform(1.5, 3.0)) * (1 + i)
        angle = float(rng.uniform(0, 2 * math.pi))
        amplitude = size / (1 + 0.7 * i)
        waves[i] = (
            frequency * math.cos(angle),
            frequency * math.sin(angle),
            float(rng.uniform(0, 2 * math.pi)),
            amplitude * float(rng.uniform(-1, 1)),
            amplitude * float(rng.uniform(-1, 1)),
            0.0,
        )
    return waves


def _drift(waves: npt.NDArray[np.float64], points: Points) -> Points:
    phase = points @ np.transpose(waves[:, :2]) + waves[:, 2]
    return np.sin(phase) @ waves[:, 3:5]


def _inverse_map(
    matrix: npt.NDArray[np.float64], waves: npt.NDArray[np.float64], side: int
) -> tuple[Field, Field]:
    """Garment coordinates of every pixel, worked out on a coarse grid and drawn out."""
    knots = 33
    along = np.linspace(0.5, side - 0.5, knots)
    px, py = np.meshgrid(along, along)
    flat = np.column_stack([px.ravel(), py.ravel(), np.ones(px.size)])
    w = flat @ np.transpose(np.linalg.inv(matrix))
    points = w[:, :2] / w[:, 2:]
    points = points - _drift(waves, points)
    # the knots are the middles of the corner pixels, so the picture is the box between them
    step = (side - 1) / (knots - 1)
    edge = 0.5 / step
    box = (0.5 - edge, 0.5 - edge, knots - 0.5 + edge, knots - 0.5 + edge)
    box = (max(0.0, box[0]), max(0.0, box[1]), min(float(knots), box[2]), min(float(knots), box[3]))
    fields: list[Field] = []
    for axis in (0, 1):
        grid = np.reshape(points[:, axis], (knots, knots)).astype(np.float32)
        drawn = Image.fromarray(grid).resize((side, side), Image.Resampling.BILINEAR, box=box)
        fields.append(np.asarray(drawn, dtype=np.float32))
    return fields[0], fields[1]
