"""Flowers and leaves of floral cloth, and the pictures of a print: all polygons, no fonts."""

from __future__ import annotations

import math

import numpy as np
from PIL import ImageDraw

from .colours import RGB
from .geometry import Points, at, box, ellipse, join, mirror, smooth, thick, turned


def draw_flower(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    radius: float,
    petals: int,
    turn: float,
    colours: tuple[RGB, RGB],
) -> None:
    """Draw a blossom: petals round a middle, in the colours of both."""
    x, y = centre
    for i in range(petals):
        angle = turn + 2 * math.pi * i / petals
        px, py = x + 0.6 * radius * math.cos(angle), y + 0.6 * radius * math.sin(angle)
        r = radius * 0.45
        draw.ellipse((px - r, py - r, px + r, py + r), fill=colours[0])
    r = radius * 0.28
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colours[1])


def draw_leaf(
    draw: ImageDraw.ImageDraw, x: float, y: float, length: float, turn: float, colour: RGB
) -> None:
    """Draw a leaf that starts at a point."""
    c, s = math.cos(turn), math.sin(turn)
    shape = ((0.0, 0.0), (0.35, 0.17), (0.7, 0.14), (1.0, 0.0), (0.7, -0.14), (0.35, -0.17))
    draw.polygon(
        [(x + length * (c * u - s * v), y + length * (s * u + c * v)) for u, v in shape],
        fill=colour,
    )


Shape = tuple[Points, bool]
"""A closed outline, and whether it is ink (else the cloth shows in it)."""


def print_picture(rng: np.random.Generator) -> list[Shape]:
    """A chest print within about -0.5..0.5, both ways; later shapes lie on top."""
    names = tuple(_PRINTS)
    return _PRINTS[names[int(rng.integers(len(names)))]](rng)


def _heart(rng: np.random.Generator) -> list[Shape]:
    half = smooth((0, -0.2), (0.2, -0.42), (0.44, -0.32), (0.44, -0.04), (0.2, 0.26), (0, 0.46))
    return _ink([join(half, mirror(half))])


def _star(rng: np.random.Generator) -> list[Shape]:
    count = int(rng.choice([5, 5, 6, 8]))
    inner = 0.2 if count == 5 else 0.27
    tips: list[tuple[float, float]] = []
    for i in range(2 * count):
        r = 0.48 if i % 2 == 0 else inner
        a = math.pi * i / count - math.pi / 2
        tips.append((r * math.cos(a), r * math.sin(a)))
    return _ink([at(*tips)])


def _sun(rng: np.random.Generator) -> list[Shape]:
    rays = [turned(box(-0.026, -0.5, 0.026, -0.34), 2 * math.pi * i / 12) for i in range(12)]
    return _ink([ellipse((0, 0), 0.27, 0.27, 28), *rays])


def _peaks(rng: np.random.Generator) -> list[Shape]:
    """Mountains in a round badge."""
    left = at((-0.42, 0.22), (-0.12, -0.22), (0.18, 0.22))
    right = at((-0.02, 0.22), (0.2, -0.08), (0.42, 0.22))
    ring = thick(smooth(*_ring(0.46), closed=True), 0.05)
    return _ink([ring, left, right, ellipse((0.2, -0.24), 0.07, 0.07)])


def _ring(radius: float) -> list[tuple[float, float]]:
    turns = [2 * math.pi * i / 16 for i in range(17)]
    return [(radius * math.cos(t), radius * math.sin(t)) for t in turns]


def _letters(rng: np.random.Generator) -> list[Shape]:
    """Block strokes that read as lettering from afar."""
    strokes: list[Points] = []
    count = int(rng.integers(4, 7))
    wide = 1.0 / count
    for i in range(count):
        left = -0.5 + i * wide
        strokes += _letter(int(rng.integers(6)), left + 0.08 * wide, wide * 0.8)
    if rng.random() < 0.6:
        strokes.append(box(-0.5, 0.24, 0.5, 0.28))
    return _ink(strokes)


def _letter(which: int, left: float, wide: float) -> list[Points]:
    top, bottom, pen = -0.18, 0.18, wide * 0.26
    right = left + wide
    post = box(left, top, left + pen, bottom)
    other = box(right - pen, top, right, bottom)
    bars = [box(left, y, right, y + pen * 0.9) for y in (top, -pen * 0.45, bottom - pen * 0.9)]
    return [
        [post, *bars],
        [post, other, bars[1]],
        [post, other, bars[0], bars[2]],
        [bars[0], box((left + right - pen) / 2, top, (left + right + pen) / 2, bottom)],
        [post, bars[2]],
        [post, other, bars[0], bars[1]],
    ][which]


def _badge(rng: np.random.Generator) -> list[Shape]:
    """Nested shapes: a diamond or a disc with a smaller one cut out."""
    round_shape = bool(rng.random() < 0.5)
    shapes: list[Shape] = []
    for i, r in enumerate((0.48, 0.36, 0.22)):
        diamond = at((0, -r), (r, 0), (0, r), (-r, 0))
        shapes.append((ellipse((0, 0), r, r, 28) if round_shape else diamond, i != 1))
    return shapes


def _waves(rng: np.random.Generator) -> list[Shape]:
    rows: list[Points] = []
    for i in range(4):
        y = -0.3 + 0.2 * i
        crests = [(-0.48 + 0.12 * k, y + (0.05 if k % 2 else -0.05)) for k in range(9)]
        rows.append(thick(smooth(*crests), 0.07))
    return _ink(rows)


def _leafy(rng: np.random.Generator) -> list[Shape]:
    leaf = smooth((0, -0.5), (0.13, -0.3), (0.1, -0.12), (0, -0.04))
    one = join(leaf, mirror(leaf))
    stem = thick(smooth((0, -0.05), (0.02, 0.2), (0, 0.48)), 0.045)
    return _ink([turned(one, a) for a in (-1.7, -1.0, -0.35, 0.35, 1.0, 1.7)] + [stem])


def _cat(rng: np.random.Generator) -> list[Shape]:
    """A face with ears; eyes and nose in the cloth's colour."""
    half = smooth((0, -0.2), (0.14, -0.22), (0.3, -0.1), (0.36, 0.12), (0.22, 0.34), (0, 0.4))
    ears = [
        at((0.1, -0.16), (0.32, -0.44), (0.36, 0.0)),
        at((-0.1, -0.16), (-0.32, -0.44), (-0.36, 0.0)),
    ]
    face = join(half, mirror(half))
    eyes = [ellipse((-0.14, 0.04), 0.045, 0.06), ellipse((0.14, 0.04), 0.045, 0.06)]
    nose = at((-0.04, 0.16), (0.04, 0.16), (0, 0.21))
    return _ink([*ears, face]) + [(hole, False) for hole in (*eyes, nose)]


def _ink(shapes: list[Points]) -> list[Shape]:
    return [(shape, True) for shape in shapes]


_PRINTS = {
    "heart": _heart,
    "star": _star,
    "sun": _sun,
    "peaks": _peaks,
    "letters": _letters,
    "lettering": _letters,
    "badge": _badge,
    "waves": _waves,
    "leafy": _leafy,
    "cat": _cat,
}
