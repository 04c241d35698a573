"""Light on cloth: heights from folds and rounded edges become brightness and highlights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from .geometry import Fold, Points, normals

Field = npt.NDArray[np.floating[Any]]
"""Values on the pixels of a picture, (H, W) or (H, W, C); float32 where it is made here."""


@dataclass(frozen=True)
class Gloss:
    """How a material answers to light.

    Attributes:
        depth: Strength of folds.
        shine: Strength of highlights.
        crumple: Share of sharp creases against soft waves.
    """

    depth: float
    shine: float
    crumple: float


GLOSS: dict[str, Gloss] = {
    "cotton": Gloss(1.0, 0.05, 0.5),
    "denim": Gloss(0.9, 0.03, 0.35),
    "knit": Gloss(0.75, 0.0, 0.1),
    "leather": Gloss(1.2, 0.4, 0.4),
    "satin": Gloss(1.3, 0.35, 0.15),
    "wool": Gloss(0.65, 0.0, 0.1),
    "straw": Gloss(0.5, 0.04, 0.0),
}


def clip(field: Field, low: float, high: float) -> Field:
    """Values kept within a range."""
    return np.minimum(np.maximum(field, low), high)


def fine_noise(rng: np.random.Generator, columns: int, rows: int, size: int) -> Field:
    """Smooth random waves about -1..1, (size, size), from a lattice of columns x rows knots."""
    knots = (rng.integers(-128, 128, (rows + 3, columns + 3)) / 128).astype(np.float32)
    picture = Image.fromarray(knots).resize(
        (size, size),
        Image.Resampling.BICUBIC,
        box=(1.0, 1.0, columns + 2.0, rows + 2.0),
    )
    return np.asarray(picture, dtype=np.float32)


def blur(field: Field, radius: float) -> Field:
    """A soft copy; about a Gaussian of that radius in pixels."""
    return _box(_box(field, radius), radius)


def _box(field: Field, radius: float) -> Field:
    """Running means along both sides, in floating point, by cumulative sums."""
    n = max(1, round(radius * 0.85))
    for _ in range(2):
        padded = np.pad(field, ((n + 1, n), (0, 0)), mode="edge")
        total = np.cumsum(padded, axis=0, dtype=np.float32)
        field = np.transpose((total[2 * n + 1 :] - total[: -2 * n - 1]) / (2 * n + 1))
    return np.ascontiguousarray(field)


def blur_mask(mask: Image.Image, radius: float) -> Field:
    """A soft copy of a mask in bytes, as 0..1."""
    soft = mask.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(soft, dtype=np.float32) * np.float32(1 / 255)


def fold_heights(folds: list[tuple[Fold, Points]], size: int, unit: float) -> Field:
    """The heights of drawn folds, about -1..1.

    Args:
        folds: Each with its course in pixels, (N, 2).
        size: Side of the field in pixels.
        unit: Pixels of a garment unit.
    """
    total = np.zeros((size, size), dtype=np.float32)
    for low, high in ((0.0, 0.05), (0.05, 0.09), (0.09, 9.0)):
        chosen = [(f, p) for f, p in folds if low <= f.width < high]
        if not chosen:
            continue
        sheet = Image.new("F", (size, size), 0.0)
        draw = ImageDraw.Draw(sheet)
        widest = max(f.width for f, _ in chosen) * unit
        for fold, points in chosen:
            outline = _lens(points, max(1.2, fold.width * unit))
            draw.polygon([(float(x), float(y)) for x, y in outline], fill=float(fold.height))
        total += blur(np.asarray(sheet, dtype=np.float32), max(0.8, widest * 0.36))
    return total


def _lens(points: Points, width: float) -> Points:
    """A ribbon along a line that thins out to both ends, as a fold does."""
    if len(points) < 5:
        ends = np.linspace(0, len(points) - 1, 7)
        places = np.arange(len(points))
        columns = [np.interp(ends, places, points[:, k]) for k in (0, 1)]
        points = np.stack(columns, axis=1)
    along = np.linspace(-1.0, 1.0, len(points))[:, None]
    aside = normals(points) * ((1 - along * along) * (width / 2))
    return np.vstack([points + aside, (points - aside)[::-1]])


def fabric_heights(
    rng: np.random.Generator, gloss: Gloss, grain: float, size: int, amateur: float
) -> Field:
    """The waves and crumples that cloth has everywhere, (size, size).

    Args:
        rng: Chooses them.
        gloss: Of the material.
        grain: 0 = waves in all directions .. 1 = waves that run straight down.
        size: Side in pixels.
        amateur: 0 = freshly ironed .. 1 = out of the drawer.
    """
    wide = 4 + round(4 * grain)
    tall = max(2, 5 - round(3 * grain))
    soft = fine_noise(rng, wide, tall, size)
    middle = fine_noise(rng, 2 * wide, 2 * tall, size)
    fine = fine_noise(rng, 5 * wide, 5 * tall + 4, size)
    creases = 1 - np.minimum(1, np.abs(middle) * 4.5)
    heights = 0.55 * soft + (0.12 + 0.1 * amateur) * middle
    heights += gloss.crumple * (0.035 + 0.06 * amateur) * creases
    heights += gloss.crumple * (0.012 + 0.022 * amateur) * fine
    return heights.astype(np.float32)


def light(
    heights: Field, unit: float, gloss: Gloss, direction: tuple[float, float]
) -> tuple[Field, Field]:
    """Brightness and highlights of a surface.

    Args:
        heights: In tenths of a garment unit, (H, W).
        unit: Pixels of a garment unit.
        gloss: Of the material.
        direction: Where the light comes from, about one unit long; (-0.6, -0.8) is upper left.

    Returns:
        A factor about 1, and an amount 0..1 of white to add, each (H, W).
    """
    scale = 0.05 * unit * gloss.depth
    gy = np.zeros_like(heights)
    gx = np.zeros_like(heights)
    gy[1:-1] = (heights[2:] - heights[:-2]) * scale
    gx[:, 1:-1] = (heights[:, 2:] - heights[:, :-2]) * scale
    facing = gx * direction[0] + gy * direction[1]
    steep = np.sqrt(gx * gx + gy * gy + 1)
    lit = facing / steep
    factor = (np.where(lit > 0, lit * 0.34, lit * 0.54) + 1) / (steep * 0.28 + 0.72)
    shine = clip(lit - 0.12, 0, 1)
    return clip(factor, 0.42, 1.3), np.minimum(shine * shine * (gloss.shine * 2.2), 0.6)
