"""The thirteen colour names, the shades within each, and how a shade becomes an RGB value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..types import COLOURS as COLOURS

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Shade:
    """A word for a part of a colour.

    Attributes:
        colour: One of `COLOURS`.
        rgb: Its middle, 0..255.
        share: How often it is drawn, relative to the others of the same colour.
    """

    colour: str
    rgb: RGB
    share: int = 1


SHADES: dict[str, Shade] = {
    "black": Shade("black", (34, 34, 37), 4),
    "white": Shade("white", (243, 242, 239), 4),
    "off-white": Shade("white", (236, 232, 222)),
    "ivory": Shade("white", (241, 236, 224)),
    "grey": Shade("grey", (138, 140, 144), 3),
    "silver": Shade("grey", (184, 187, 191)),
    "charcoal": Shade("grey", (82, 84, 89)),
    "beige": Shade("beige", (213, 194, 163), 3),
    "cream": Shade("beige", (230, 216, 186)),
    "sand": Shade("beige", (202, 180, 142)),
    "khaki": Shade("beige", (187, 172, 132)),
    "brown": Shade("brown", (112, 72, 46), 3),
    "chocolate": Shade("brown", (80, 52, 38)),
    "camel": Shade("brown", (166, 116, 66)),
    "red": Shade("red", (198, 30, 38), 3),
    "scarlet": Shade("red", (218, 42, 32)),
    "crimson": Shade("red", (168, 22, 46)),
    "maroon": Shade("red", (116, 24, 36)),
    "burgundy": Shade("red", (122, 28, 52)),
    "pink": Shade("pink", (238, 152, 178), 3),
    "blush": Shade("pink", (238, 196, 198)),
    "rose": Shade("pink", (222, 116, 144)),
    "fuchsia": Shade("pink", (214, 56, 138)),
    "orange": Shade("orange", (238, 124, 36), 3),
    "coral": Shade("orange", (244, 124, 92)),
    "peach": Shade("orange", (246, 178, 128)),
    "rust": Shade("orange", (192, 84, 34)),
    "yellow": Shade("yellow", (246, 208, 56), 3),
    "mustard": Shade("yellow", (208, 162, 42)),
    "lemon": Shade("yellow", (248, 230, 112)),
    "gold": Shade("yellow", (218, 176, 66)),
    "green": Shade("green", (54, 138, 74), 3),
    "olive": Shade("green", (106, 110, 58)),
    "emerald": Shade("green", (22, 128, 92)),
    "mint": Shade("green", (160, 214, 180)),
    "sage": Shade("green", (150, 172, 140)),
    "teal": Shade("green", (18, 112, 108)),
    "blue": Shade("blue", (48, 98, 186), 3),
    "light blue": Shade("blue", (150, 188, 224), 2),
    "sky blue": Shade("blue", (124, 180, 230)),
    "royal blue": Shade("blue", (34, 70, 180)),
    "turquoise": Shade("blue", (58, 170, 196)),
    "navy": Shade("navy", (32, 40, 78), 3),
    "dark blue": Shade("navy", (28, 44, 96)),
    "purple": Shade("purple", (114, 62, 150), 3),
    "lilac": Shade("purple", (186, 158, 212)),
    "lavender": Shade("purple", (196, 182, 226)),
    "plum": Shade("purple", (98, 44, 92)),
    "violet": Shade("purple", (128, 80, 190)),
}

_DENIM: dict[str, tuple[str, RGB]] = {
    "blue": ("blue", (78, 110, 156)),
    "light blue": ("light blue", (142, 172, 206)),
    "navy": ("navy", (42, 54, 88)),
}


def shades_of(colour: str) -> tuple[str, ...]:
    """The shade words of a colour, each as often as its share."""
    return tuple(w for w, s in SHADES.items() if s.colour == colour for _ in range(s.share))


def shade_rgb(shade: str, material: str, rng: np.random.Generator) -> RGB:
    """An RGB value of a shade, moved a little at random within the name."""
    middle = SHADES[shade].rgb
    if material == "denim" and shade in _DENIM:
        middle = _DENIM[shade][1]
    light = int(rng.integers(-7, 8))
    r, g, b = (int(c) + light + int(rng.integers(-5, 6)) for c in middle)
    return (_byte(r), _byte(g), _byte(b))


def lab(rgb: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """CIE Lab (D65) of sRGB values.

    Args:
        rgb: Values 0..255, (..., 3).

    Returns:
        L 0..100, a and b, (..., 3).
    """
    c = np.asarray(rgb, dtype=np.float64) / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ np.transpose(to_xyz) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def nearest_colour(rgb: npt.ArrayLike) -> str:
    """The colour name whose shades come nearest to one RGB value, by Lab distance."""
    words = list(SHADES)
    anchors = lab([SHADES[w].rgb for w in words])
    distance = np.square(anchors - lab(rgb)).sum(axis=-1)
    return SHADES[words[int(distance.argmin())]].colour


def luminance(rgb: RGB) -> float:
    """Perceived brightness 0..1, good enough to choose a contrast."""
    return (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]) / 255.0


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """The colour that lies `share` of the way from a to b."""
    r, g, bl = (_byte(round(x + (y - x) * share)) for x, y in zip(a, b, strict=True))
    return (r, g, bl)


def _byte(value: int) -> int:
    return max(0, min(255, value))
