"""Cloth as square tiles that repeat: a pattern in the garment's colours, and the material's weave.

A tile is sampled by texture coordinates, so the same cloth can lie flat or be worn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .colours import RGB, luminance, mix
from .garment import Garment, contrast_rgb, rgb, stream
from .geometry import Fabric
from .motifs import draw_flower, draw_leaf
from .shading import Field, clip

_SIDES = (64, 128, 256, 512, 1024)
"""Sides of a tile in pixels: powers of two, so that it repeats by masking bits."""

Weights = Field


@dataclass(frozen=True)
class Swatch:
    """A repeating piece of cloth.

    Attributes:
        pixels: Red, green, blue and 255 as the four bytes of a number, row by row, (S * S,).
        side: S, a power of two.
        period: Side of a tile in garment units.
    """

    pixels: npt.NDArray[np.uint32]
    side: int
    period: float


def make_swatch(garment: Garment, fabric: Fabric, unit: float, scale: float = 1.0) -> Swatch:
    """The cloth of one part of a garment.

    Args:
        garment: Gives colours, pattern and material.
        fabric: Which cloth of the garment.
        unit: Pixels of a garment unit where it will be drawn: how fine it has to be.
        scale: Size of the pattern against the garment, such as 0.5 for shoes.
    """
    first, second = rgb(garment)[0], contrast_rgb(garment)
    rng = stream(garment.seed, f"cloth {garment.pattern}")
    patterned = fabric == "main" and garment.pattern not in ("plain", "print")
    make, period = _PATTERNS[garment.pattern](garment, rng) if patterned else (None, 0.9)
    period *= scale if patterned else 1.0
    side = next((s for s in _SIDES if s >= 0.8 * period * unit), _SIDES[-1])
    shade = _weave(garment, fabric, period, side)
    if make is None:
        return Swatch(_shaded(_tone(garment, fabric, first, second), shade), side, period)
    pixels = np.empty((side, side, 4), dtype=np.uint8)
    pixels[..., :3] = clip(make(side, first, second) * shade[..., None], 0, 255)
    pixels[..., 3] = 255
    return Swatch(np.frombuffer(pixels.tobytes(), dtype=np.uint32), side, period)


def _shaded(colour: RGB, shade: Weights) -> npt.NDArray[np.uint32]:
    """One colour in the brightness of each thread, in 256 steps of it: packed pixels, (S * S,)."""
    steps = np.linspace(0.75, 1.25, 256)[:, None] * np.array(colour)
    table = np.full((256, 4), 255, dtype=np.uint8)
    table[:, :3] = clip(steps, 0, 255)
    packed = np.frombuffer(table.tobytes(), dtype=np.uint32)
    return packed[clip((shade - 0.75) * 510, 0, 255).astype(np.uint8)].ravel()


def flat_colour(garment: Garment, fabric: Fabric) -> RGB:
    """The one colour that stands for a cloth, for lines and small parts."""
    first, second = rgb(garment)[0], contrast_rgb(garment)
    return _tone(garment, fabric, first, second)


def _tone(garment: Garment, fabric: Fabric, first: RGB, second: RGB) -> RGB:
    if fabric == "second":
        return second
    if fabric == "inside":
        return mix(first, (24, 22, 30), 0.38 if luminance(first) > 0.25 else 0.3)
    if fabric == "dark":
        return mix(first, (20, 18, 24), 0.72)
    if fabric == "sole":
        return _sole(garment, first)
    if fabric == "metal":
        return (196, 192, 184) if garment.material != "denim" else (188, 140, 84)
    if fabric == "label":
        return (238, 236, 230) if luminance(first) < 0.6 else mix(first, (60, 60, 70), 0.5)
    return first


def _sole(garment: Garment, first: RGB) -> RGB:
    if garment.subtype == "sneakers":
        return (240, 238, 232) if luminance(first) < 0.8 else (226, 222, 212)
    if garment.subtype in ("sandals", "loafers", "boots") and luminance(first) > 0.3:
        return mix(first, (70, 44, 28), 0.75)
    return mix(first, (24, 22, 24), 0.7)


Make = Callable[[int, RGB, RGB], Field]
"""Draws a pattern on a tile of a side in two colours, (S, S, 3)."""


def _blend(first: RGB, second: RGB, weight: Weights) -> Field:
    a = np.array(first, dtype=np.float32)
    b = np.array(second, dtype=np.float32)
    return a + (b - a) * weight[..., None]


def _along(side: int, count: int) -> Weights:
    """0..1 along each of `count` repeats of a tile, (S,)."""
    return ((np.arange(side, dtype=np.float32) * (count / side)) % 1.0).astype(np.float32)


def _stripes(garment: Garment, rng: np.random.Generator) -> tuple[Make, float]:
    count = 4
    period = count * float(rng.uniform(0.085, 0.26))
    share = float(rng.choice([0.5, 0.42, 0.34, 0.25, 0.14]))
    lined = rng.random() < 0.22  # a fine line beside each broad one
    upright = garment.direction == "vertical"

    def make(side: int, first: RGB, second: RGB) -> Field:
        along = _along(side, count)
        on = along < share
        if lined:
            on |= (along > share + 0.12) & (along < share + 0.19)
        grid = np.repeat(on.astype(np.float32)[:, None], side, axis=1)
        return _blend(first, second, np.ascontiguousarray(np.transpose(grid)) if upright else grid)

    return make, period * (0.8 if upright else 1.0)


def _dots(garment: Garment, rng: np.random.Generator) -> tuple[Make, float]:
    count = 4  # even, so that every other row can be moved by half a step
    period = count * float(rng.uniform(0.09, 0.26))
    radius = float(rng.uniform(0.2, 0.36))

    def make(side: int, first: RGB, second: RGB) -> Field:
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) * (count / side)
        row = np.floor(y)
        dx = (x + 0.5 * (row % 2)) % 1.0 - 0.5
        dy = y - row - 0.5
        edge = side / (3 * count)
        weight = clip((radius - np.sqrt(dx * dx + dy * dy)) * edge + 0.5, 0, 1)
        return _blend(first, second, weight.astype(np.float32))

    return make, period


def _checks(garment: Garment, rng: np.random.Generator) -> tuple[Make, float]:
    period = 4 * float(rng.uniform(0.085, 0.24))
    style = 1 if garment.subtype == "flannel shirt" else int(rng.integers(3))

    def make(side: int, first: RGB, second: RGB) -> Field:
        along = _along(side, 4)
        if style == 0:  # gingham
            on = (along < 0.5).astype(np.float32)
            return _blend(first, second, (on[:, None] + on[None, :]) * 0.5)
        # tartan: a broad band and a fine line; or a window pane: the fine line alone
        broad = (along < 0.42).astype(np.float32) * (0.42 if style == 1 else 0.0)
        fine = (along > 0.66) & (along < (0.73 if style == 1 else 0.78))
        line = np.maximum(broad, fine.astype(np.float32) * (0.85 if style == 1 else 0.9))
        weight = 1 - (1 - line[:, None]) * (1 - line[None, :])
        return _blend(first, second, weight.astype(np.float32))

    return make, period


def _floral(garment: Garment, rng: np.random.Generator) -> tuple[Make, float]:
    cells = int(rng.choice([4, 4, 6]))  # even, for the half steps of every other row
    petals = int(rng.integers(5, 8))
    jitter = rng.uniform(-1, 1, (cells, cells, 4))
    period = cells * float(rng.uniform(0.13, 0.26))

    def make(side: int, first: RGB, second: RGB) -> Field:
        picture = Image.new("RGB", (side, side), first)
        draw = ImageDraw.Draw(picture)
        green = mix(mix(first, second, 0.45), (70, 120, 70), 0.45)
        heart = mix(second, (250, 200, 70), 0.75)
        for row, column in itertools.product(range(cells), range(cells)):
            dx, dy, grow, turn = (float(v) for v in jitter[row, column])
            step = side / cells
            x = ((column + 0.5 + 0.5 * (row % 2) + 0.14 * dx) * step) % side
            y = (row + 0.5 + 0.14 * dy) * step
            radius = step * (0.35 + 0.09 * grow)
            for px, py in _wrapped(x, y, step, side):
                draw_leaf(draw, px, py, radius * 1.35, 3 * turn + 0.6, green)
                draw_leaf(draw, px, py, radius * 1.25, 3 * turn + 3.4, green)
                draw_flower(draw, (px, py), radius, petals, 3 * turn, (second, heart))
        return np.asarray(picture).astype(np.float32)

    return make, period


def _wrapped(x: float, y: float, margin: float, side: int) -> list[tuple[float, float]]:
    """A place and its repeats across the tile's edges."""
    xs = [x] + ([x - side] if x > side - margin else []) + ([x + side] if x < margin else [])
    ys = [y] + ([y - side] if y > side - margin else []) + ([y + side] if y < margin else [])
    return [(px, py) for px in xs for py in ys]


_PATTERNS = {"stripes": _stripes, "dots": _dots, "checks": _checks, "floral": _floral}


def _wave(side: int, count: int) -> Weights:
    """A triangle wave -1..1 along a tile, `count` times: the same to the bit on every machine."""
    return (np.abs(_along(side, count) - 0.5) * 4 - 1).astype(np.float32)


def _weave(garment: Garment, fabric: Fabric, period: float, side: int) -> Weights:
    """Brightness of the threads, about 1, (S, S)."""
    rng = stream(garment.seed, f"weave {fabric}")
    grain = rng.integers(-128, 128, (side, side), dtype=np.int8).astype(np.float32) / 128
    if fabric == "rib":
        return 1 + 0.10 * _wave(side, max(4, round(44 * period)))[None, :] + 0.02 * grain
    if garment.material == "denim":
        twill = np.arange(side)[None, :] + np.arange(side)[:, None]
        lines = _wave(side, side // 4)[twill % side]
        return 1 + 0.045 * lines + 0.075 * grain
    if garment.material in ("knit", "straw"):
        columns = max(4, round((26 if garment.material == "knit" else 30) * period))
        u = _wave(side, columns)
        slant = (np.arange(side)[:, None] + np.abs(u * side / 85).astype(int)[None, :]) % side
        stitches = 0.5 * u[None, :] + 0.6 * _wave(side, columns)[slant]
        return (1 + 0.085 * stitches + 0.03 * grain).astype(np.float32)
    if garment.material == "wool":
        return 1 + 0.085 * grain
    if garment.material in ("satin", "leather"):
        return 1 + 0.012 * grain
    return 1 + 0.028 * grain
