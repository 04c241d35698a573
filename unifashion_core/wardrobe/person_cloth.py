"""A garment on a posed body: its flat picture bent over the bones, every pixel's origin known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from .garment import Garment
from .geometry import BODY, Cut, Panel, Points
from .person import LOWER, Person
from .person_body import (
    HIP,
    SHOULDER,
    THIGH,
    UPPER_ARM,
    Bones,
    arm_bones,
    leg_bones,
    mirrored,
)
from .render import render_cloth
from .shading import Field, clip
from .view import View

_BEHIND = frozenset(
    {"back_neck", "label", "collar_back", "back_inside", "hood_inside", "hood", "waist_inside",
     "strap_back", "collar_inside"}
)  # fmt: skip
LAYERS = ("behind", "body", "right", "left")
"""Layers of a garment: seen past the neck or waist, the main part, and each sleeve or leg."""

Line = npt.NDArray[np.float64]

_STEP = 0.085  # of the mesh, garment units
_EASE = 0.24  # how far from its seam a sleeve wholly follows the arm


@dataclass(frozen=True)
class Cloth:
    """A garment's flat picture, parted into layers.

    Attributes:
        garment: Which one.
        colours: Lit, 0..255, (S, S, 3).
        masks: Of each layer, 0..1, (S, S).
        unit: Pixels of a garment unit.
        centre: Garment space at the picture's middle.
        angle: How far the sleeves stand off, radians.
    """

    garment: Garment
    colours: Field
    masks: dict[str, Field]
    unit: float
    centre: tuple[float, float]
    angle: float

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return self.colours.shape[0]

    @property
    def whole(self) -> Field:
        """How much of each pixel is garment, 0..1, (S, S)."""
        return clip(sum(self.masks.values(), start=np.zeros((1, 1), np.float32)), 0, 1)

    def pixels(self, points: Points) -> Points:
        """Garment space to pixels of the flat picture."""
        return (points - np.array(self.centre)) * self.unit + self.side / 2


@dataclass(frozen=True)
class Worn:
    """A layer in the picture.

    Attributes:
        box: Left, top, right, bottom in the picture.
        colours: 0..255, (h, w, 3).
        alpha: 0..1, (h, w).
        source: Where each pixel is on the flat picture, x and y as shares of its side, (h, w, 2).
    """

    box: tuple[int, int, int, int]
    colours: Field
    alpha: Field
    source: Field


def make_cloth(garment: Garment, unit: float) -> Cloth:
    """Draw a garment flat, about `unit` pixels a garment unit, and part it."""
    reach = 3.1 if garment.length in ("long", "knee") else 2.2
    size = int(min(max(unit * reach, 32), 1400))
    colours, mask, view, pieces = render_cloth(garment, size)
    masks = _part(pieces, view, mask, garment.category in LOWER)
    matrix = view.matrix
    middle = np.linalg.inv(matrix) @ np.array([view.garment_x.shape[0] / 2] * 2 + [1.0])
    arm = pieces.panels.get("sleeve_right")
    return Cloth(
        garment,
        colours,
        masks,
        view.unit * size / view.garment_x.shape[0],
        (float(middle[0]), float(middle[1])),
        0.0 if arm is None else arm.angle,
    )


def _part(pieces: Cut, view: View, mask: Field, lower: bool) -> dict[str, Field]:
    """Which layer each pixel of the flat picture belongs to."""
    fine = view.garment_x.shape[0]
    labels = Image.new("L", (fine, fine), len(LAYERS))
    draw = ImageDraw.Draw(labels)
    for part in pieces.parts:
        if isinstance(part, Panel):
            corners = [(float(x), float(y)) for x, y in view.project(part.outline)]
            draw.polygon(corners, fill=_layer(part, lower))
    size = mask.shape[0]
    found: dict[str, Field] = {}
    crotch = _crotch(pieces)
    for number, name in enumerate(LAYERS):
        chosen = np.asarray(labels) == number
        if lower and name in ("right", "left"):
            side = view.garment_x > 0 if name == "right" else view.garment_x < 0
            chosen = (np.asarray(labels) == 1) & side & (view.garment_y > crotch - 0.12)
        elif lower and name == "body" and "leg_right" in pieces.panels:
            chosen &= view.garment_y <= crotch + 0.02
        soft = Image.fromarray(chosen.astype(np.uint8) * 255).reduce(fine // size)
        # under the seam, so that no gap shows
        soft = soft.filter(ImageFilter.MaxFilter(3 if name in ("behind", "body") else 5))
        found[name] = np.asarray(soft, dtype=np.float32) * np.float32(1 / 255) * mask
    if lower and "leg_right" not in pieces.panels:
        found["right"] = found["left"] = np.zeros_like(mask)
    return found


def _crotch(pieces: Cut) -> float:
    leg = pieces.panels.get("leg_right")
    return float(leg.outline[-1][1]) if leg is not None else BODY.crotch_y


def _layer(panel: Panel, lower: bool) -> int:
    if panel.name in _BEHIND:
        return 0
    if not lower and panel.name.startswith("sleeve_right"):
        return 2
    if not lower and panel.name.startswith("sleeve_left"):
        return 3
    return 1


def wear(
    cloth: Cloth,
    layer: str,
    person: Person,
    to_picture: npt.NDArray[np.float64],
    size: tuple[int, int],
) -> Worn | None:
    """Bend a layer over the body.

    Args:
        cloth: From `make_cloth`.
        layer: One of `LAYERS`.
        person: Who wears it.
        to_picture: Body space to pixels, affine, (2, 3).
        size: Width and height of the picture.

    Returns:
        The layer where it shows, or None.
    """
    mask = cloth.masks[layer]
    rows, columns = np.nonzero(mask > 0.02)
    if not len(rows):
        return None
    low = np.array([columns.min(), rows.min()]) - 2.0
    high = np.array([columns.max(), rows.max()]) + 3.0
    counts = np.maximum(1, np.ceil((high - low) / (cloth.unit * _STEP))).astype(int)
    xs: Line = np.linspace(float(low[0]), float(high[0]), int(counts[0]) + 1)
    ys: Line = np.linspace(float(low[1]), float(high[1]), int(counts[1]) + 1)
    across, down = np.meshgrid(xs, ys)
    flat: Points = np.column_stack([across.ravel(), down.ravel()])
    garment = (flat - cloth.side / 2) / cloth.unit + np.array(cloth.centre)
    body = _posed(garment, cloth, layer, person)
    placed: Points = body @ np.transpose(to_picture[:, :2]) + to_picture[:, 2]
    used = _cover(mask, xs, ys)
    return _rasterised(flat, placed, counts, used, cloth, mask, size)


def _cover(
    mask: Field, xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """How much cloth there is in each cell of the mesh; a trace where a neighbour has some."""
    rows, columns = np.nonzero(mask > 0.02)
    across = _within(np.searchsorted(xs, columns, side="right") - 1, len(xs) - 2)
    down = _within(np.searchsorted(ys, rows, side="right") - 1, len(ys) - 2)
    cover = np.zeros((len(ys) + 1, len(xs) + 1))
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            cover[down + dy, across + dx] += 1e-9
    np.add.at(cover, (down + 1, across + 1), mask[rows, columns])
    return cover[1:-1, 1:-1]


def _within(places: npt.NDArray[np.intp], last: int) -> npt.NDArray[np.intp]:
    return np.minimum(np.maximum(places, 0), last)


def _rasterised(
    flat: Points,
    placed: Points,
    counts: npt.NDArray[np.int_],
    used: npt.NDArray[np.float64],
    cloth: Cloth,
    mask: Field,
    size: tuple[int, int],
) -> Worn | None:
    """Fill the mesh's triangles in the picture, and read the flat picture through them."""
    low = np.maximum(np.floor(placed.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(placed.max(axis=0)).astype(int) + 1, np.array(size))
    if (high <= low).any():
        return None
    wide = counts[0] + 1
    numbers = Image.new("I", (int(high[0] - low[0]), int(high[1] - low[1])), 0)
    draw = ImageDraw.Draw(numbers)
    moved = placed - low
    triangles: list[tuple[int, int, int]] = []
    order = np.argsort(used, axis=None, kind="stable")  # where cells overlap, the fullest is seen
    for row, column in zip(
        *np.unravel_index(order[used.ravel()[order] > 0], used.shape), strict=True
    ):
        a = int(row) * wide + int(column)
        for three in ((a, a + 1, a + wide), (a + 1, a + wide + 1, a + wide)):
            triangles.append(three)
            draw.polygon([(float(moved[i][0]), float(moved[i][1])) for i in three], len(triangles))
    ids = np.asarray(numbers)
    corners = np.array(triangles)
    affine = _inverse_affine(moved[corners], flat[corners])
    y, x = np.nonzero(ids)
    maps = affine[ids[y, x] - 1]
    read = maps[:, :, 0] * x[:, None] + maps[:, :, 1] * y[:, None] + maps[:, :, 2]
    # pixel i of the flat picture has its middle at i + 1/2
    values = _bilinear(np.dstack([cloth.colours, mask[..., None]]), (read - 0.5).astype(np.float32))
    shape = ids.shape
    colours, alpha = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
    source = np.zeros((*shape, 2), np.float32)
    colours[y, x], alpha[y, x] = values[:, :3], values[:, 3]
    source[y, x] = read / cloth.side
    return Worn((int(low[0]), int(low[1]), int(high[0]), int(high[1])), colours, alpha, source)


def _inverse_affine(
    here: npt.NDArray[np.float64], there: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """For each triangle, (T, 3, 2) each, the affine map from here to there, (T, 2, 3)."""
    ones = np.ones((*here.shape[:2], 1))
    square = np.concatenate([here, ones], axis=2)
    flat = np.abs(np.linalg.det(square)) < 1e-9
    square[flat] = np.eye(3)
    solved = np.linalg.solve(square, there)  # (T, 3, 2)
    return np.transpose(solved, (0, 2, 1)).astype(np.float32)


def _bilinear(picture: Field, places: npt.NDArray[np.float32]) -> Field:
    side = picture.shape[0]
    at = np.minimum(np.maximum(places, 0), side - 1.001)
    whole = at.astype(np.int32)
    part = (at - whole).astype(np.float32)
    x, y = whole[:, 0], whole[:, 1]
    fx, fy = part[:, :1], part[:, 1:]
    upper = picture[y, x] * (1 - fx) + picture[y, x + 1] * fx
    lower = picture[y + 1, x] * (1 - fx) + picture[y + 1, x + 1] * fx
    return upper * (1 - fy) + lower * fy


def _posed(points: Points, cloth: Cloth, layer: str, person: Person) -> Points:
    """Garment space to body space."""
    wide = points * np.array([person.width, 1.0])
    if layer not in ("right", "left"):
        return wide
    side = 0 if layer == "right" else 1
    here = mirrored(points, side)
    if cloth.garment.category in LOWER:
        bent = _on_leg(here, leg_bones(person, side), person.width)
    else:
        bent = _on_arm(here, arm_bones(person, side), cloth.angle, person.width)
    return mirrored(bent, side)


def _on_arm(points: Points, bones: Bones, rest: float, width: float) -> Points:
    """A right sleeve's points on the arm; at its seam they stay with the body."""
    along = np.array([np.sin(rest), np.cos(rest)])
    out = np.array([along[1], -along[0]])
    local = points - np.array(SHOULDER)
    t, o = local @ along, (local @ out) * (0.4 + 0.6 * width)
    bent = _bent(t, o, bones, UPPER_ARM, 0.13)
    seam = _distance(points, np.array([[0.44, 0.06], [0.40, 0.26], [0.43, 0.54]]))
    inner = points[:, 0] < 0.39
    follow = np.where(inner, 0.0, _ramp(seam / _EASE))[:, None]
    return points * np.array([width, 1.0]) * (1 - follow) + bent * follow


def _on_leg(points: Points, bones: Bones, width: float) -> Points:
    """A right trouser leg's points on the leg."""
    t, o = points[:, 1] - HIP[1], (points[:, 0] - HIP[0]) * width
    bent = _bent(t, o, bones, THIGH, 0.2)
    follow = _ramp((points[:, 1] - BODY.crotch_y + 0.12) / 0.5)[:, None]
    return points * np.array([width, 1.0]) * (1 - follow) + bent * follow


def _bent(
    t: npt.NDArray[np.float64],
    o: npt.NDArray[np.float64],
    bones: Bones,
    length: float,
    soft: float,
) -> Points:
    """Points along two bones: t along, o to their outer side."""
    start, middle = np.array(bones.joints[0]), np.array(bones.joints[1])
    up, low = np.array(bones.upper), np.array(bones.lower)
    first = start + t[:, None] * up + o[:, None] * np.array([up[1], -up[0]])
    second = middle + (t - length)[:, None] * low + o[:, None] * np.array([low[1], -low[0]])
    share = _ramp((t - length + soft) / (2 * soft))[:, None]
    return first * (1 - share) + second * share


def _ramp(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    t = np.minimum(np.maximum(t, 0.0), 1.0)
    return t * t * (3 - 2 * t)


def _distance(points: Points, line: Points) -> npt.NDArray[np.float64]:
    """Distance of points from a line of several pieces."""
    best = np.full(len(points), np.inf)
    for a, b in zip(line[:-1], line[1:], strict=True):
        way = b - a
        along = (points - a) @ way / float(way @ way)
        share = np.minimum(np.maximum(along, 0.0), 1.0)[:, None]
        off = points - a - share * way
        best = np.minimum(best, np.hypot(off[:, 0], off[:, 1]))
    return best
