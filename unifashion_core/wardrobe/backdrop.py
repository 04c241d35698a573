"""What a garment lies on: studio paper, or the floors, sheets and carpets of amateur photos."""

from __future__ import annotations

import numpy as np

from .shading import Field, clip, fine_noise

Picture = Field
"""RGB 0..255, (H, W, 3), float32."""

_PAPERS = (
    (240, 236, 230),
    (232, 236, 240),
    (240, 230, 228),
    (228, 236, 230),
    (236, 232, 240),
    (244, 240, 228),
    (226, 230, 234),
    (238, 226, 214),
)
_WOODS = (
    (168, 124, 84),
    (120, 84, 58),
    (196, 158, 116),
    (142, 132, 124),
    (92, 66, 50),
    (208, 182, 150),
)
_CLOTHS = (
    (196, 36, 44),
    (206, 60, 140),
    (232, 228, 222),
    (214, 196, 170),
    (150, 162, 178),
    (90, 96, 110),
    (236, 214, 190),
    (120, 150, 130),
    (240, 150, 120),
    (64, 70, 96),
)
_WALLS = ((222, 216, 206), (236, 236, 234), (204, 206, 208), (230, 222, 196), (190, 200, 206))
_TILES = ((206, 196, 182), (226, 224, 220), (168, 160, 152), (190, 150, 120))


def studio(rng: np.random.Generator, size: int) -> Picture:
    """Pale paper with a slow change of light and a little vignette."""
    paper = _flat(_pick(rng, _PAPERS), size)
    waves = fine_noise(rng, 2, 2, size)
    y, x = _grid(size)
    far = (x - 0.5) * (x - 0.5) + (y - 0.48) * (y - 0.48)
    return paper * (1.015 - 0.2 * far + 0.008 * waves)[..., None]


def amateur(rng: np.random.Generator, size: int) -> Picture:
    """Wood, cloth, carpet, tiles or a wall, lit from one side."""
    names = (_wood, _wood, _wood, _cloth, _cloth, _cloth, _wall, _tiles, _carpet)
    picture = names[int(rng.integers(len(names)))](rng, size)
    y, x = _grid(size)
    slope = float(rng.uniform(-0.3, 0.3)) * (x - 0.5) + float(rng.uniform(-0.3, 0.3)) * (y - 0.5)
    far = (x - 0.5) * (x - 0.5) + (y - 0.5) * (y - 0.5)
    return picture * (1 + slope - float(rng.uniform(0, 0.35)) * far)[..., None]


def _pick(
    rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...]
) -> tuple[float, float, float]:
    r, g, b = colours[int(rng.integers(len(colours)))]
    light = float(rng.uniform(-12, 10))
    return (r + light, g + light, b + light + float(rng.uniform(-5, 5)))


def _flat(colour: tuple[float, float, float], size: int) -> Picture:
    picture = np.empty((size, size, 3), dtype=np.float32)
    picture[:] = np.array(colour, dtype=np.float32)
    return picture


def _grid(size: int) -> tuple[Field, Field]:
    along = (np.arange(size, dtype=np.float32) + 0.5) / np.float32(size)
    return along[:, None], along[None, :]


def _wood(rng: np.random.Generator, size: int) -> Picture:
    """Planks with a grain."""
    upright = bool(rng.random() < 0.5)
    planks = int(rng.integers(3, 8))
    y, _ = _grid(size)
    shift = float(rng.uniform(0, 1))
    row = y * planks + shift
    which = np.floor(row)[:, 0].astype(int)
    tones = rng.uniform(0.86, 1.1, planks + 2).astype(np.float32)
    seam = np.minimum(row - np.floor(row), 1 - (row - np.floor(row))) * (size / planks)
    grain = fine_noise(rng, 3, 70, size) * 0.5 + fine_noise(rng, 6, 24, size) * 0.5
    shade = tones[which][:, None] * (1 + 0.075 * grain) * np.where(seam < 0.9, 0.68, 1.0)
    if upright:
        shade = np.ascontiguousarray(np.transpose(shade))
    return _flat(_pick(rng, _WOODS), size) * shade[..., None].astype(np.float32)


def _cloth(rng: np.random.Generator, size: int) -> Picture:
    """A bed sheet or a blanket with wrinkles, at times with a faint pattern."""
    along, across = (int(n) for n in rng.integers(2, 9, 2))
    waves = fine_noise(rng, along, across, size) + 0.5 * fine_noise(rng, 2 * across, along, size)
    ridges = fine_noise(rng, across, 2 * along, size) + 0.4 * waves
    creases = 1 - np.minimum(1, np.abs(ridges) * 2.5)
    heights = waves * 0.6 + float(rng.uniform(0.02, 0.12)) * creases
    heights *= float(rng.uniform(0.3, 1.0))
    slope = np.zeros_like(heights)
    slope[1:, 1:] = heights[1:, 1:] - heights[:-1, :-1]
    shade = clip(1 + slope * (size / 36), 0.72, 1.2)
    picture = _flat(_pick(rng, _CLOTHS), size) * shade[..., None]
    if rng.random() < 0.25:
        second = _flat(_pick(rng, _CLOTHS), size)
        picture = picture + (second - picture) * (0.5 * _plaid(rng, size))[..., None]
    return picture.astype(np.float32)


def _plaid(rng: np.random.Generator, size: int) -> Field:
    y, x = _grid(size)
    count = float(rng.uniform(5, 14))
    a = ((y * count) % 1.0 < 0.45).astype(np.float32)
    b = ((x * count) % 1.0 < 0.45).astype(np.float32)
    return 0.5 * (a + b) if rng.random() < 0.6 else a * np.ones_like(b)


def _wall(rng: np.random.Generator, size: int) -> Picture:
    texture = fine_noise(rng, 40, 40, size) * 0.012 + fine_noise(rng, 2, 2, size) * 0.04
    return _flat(_pick(rng, _WALLS), size) * (1 + texture)[..., None]


def _tiles(rng: np.random.Generator, size: int) -> Picture:
    """Floor tiles, the joints at an angle."""
    y, x = _grid(size)
    lean, count = float(rng.uniform(-0.6, 0.6)), float(rng.uniform(1.6, 4.2))
    u, v = (x + lean * y) * count, (y - lean * x) * count
    joint = np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v))) * (size / count)
    texture = 1 + 0.045 * fine_noise(rng, 9, 9, size) + 0.02 * fine_noise(rng, 40, 40, size)
    shade = texture * np.where(joint < 0.018 * size, 0.78, 1.0)
    return (_flat(_pick(rng, _TILES), size) * shade[..., None]).astype(np.float32)


def _carpet(rng: np.random.Generator, size: int) -> Picture:
    """Woven pile in two or three colours."""
    ground, figure = _flat(_pick(rng, _CLOTHS), size), _flat(_pick(rng, _CLOTHS), size)
    knots = int(rng.integers(5, 15))
    level = fine_noise(rng, knots, knots, size)
    weight = clip((np.abs(level) - 0.28) * 9, 0, 1) * float(rng.uniform(0.2, 0.8))
    pile = 1 + 0.07 * fine_noise(rng, size // 3, size // 3, size)
    return ((ground + (figure - ground) * weight[..., None]) * pile[..., None]).astype(np.float32)
