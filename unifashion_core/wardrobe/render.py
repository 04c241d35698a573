"""A garment as a picture: its parts drawn on cloth, lit, and laid on a background."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..errors import InputError
from . import backdrop
from .colours import RGB, luminance, mix
from .cuts import cut
from .garment import Garment, rgb, stream
from .geometry import Cut, Fabric, Fold, Panel, Points, Stroke, bend, smooth
from .motifs import print_picture
from .shading import (
    GLOSS,
    Field,
    blur_mask,
    clip,
    fabric_heights,
    fine_noise,
    fold_heights,
    light,
)
from .swatches import Swatch, flat_colour, make_swatch
from .view import View, make_view, straight_view

Style = Literal["studio", "amateur"]

_TEXTURED: tuple[Fabric, ...] = ("main", "plain", "second", "rib", "inside")
_LIGHT = (-0.55, -0.83)
_HUNG = ("t-shirt", "longsleeve", "shirt", "outwear", "dress")
_THIN = 0.65
"""The most puff of a panel that lies thinly on the one below."""


def render(
    garment: Garment,
    size: int = 256,
    *,
    background: int | None = None,
    supersample: int = 2,
    style: Style = "studio",
) -> Image.Image:
    """Draw a garment flat on a background.

    Args:
        garment: What to draw; it alone decides shape and cloth.
        size: Side of the square picture in pixels, 16..2048.
        background: Seed of the scene: background, light, camera, wrinkles. None takes the
            garment's own. The same garment under other seeds is another photo of it.
        supersample: Drawn pixels per picture pixel along a side, 1..4; more is smoother and slower.
        style: "studio" is clean, for looking at; "amateur" varies floor, light, angle and noise
            as photos of one's own clothes do, for training.

    Returns:
        The picture, RGB.

    Raises:
        InputError: If a number or the style is outside what is allowed.
    """
    return render_with_mask(
        garment, size, background=background, supersample=supersample, style=style
    )[0]


def render_with_mask(
    garment: Garment,
    size: int = 256,
    *,
    background: int | None = None,
    supersample: int = 2,
    style: Style = "studio",
) -> tuple[Image.Image, Image.Image]:
    """As `render`, with the mask of the garment.

    Returns:
        The picture, RGB, and its mask, L, 255 = garment.
    """
    _check(size, supersample, style)
    scene = garment.seed if background is None else background
    pieces = cut(garment)
    view = make_view(pieces, size * supersample, stream(scene, f"view {style}"), style)
    canvas = _Canvas(garment, pieces, view, size, supersample)
    canvas.draw_parts()
    rng = stream(scene, f"scene {style}")
    lit = canvas.lit(rng, style)
    ground = _ground(rng, size, style, garment)
    if style == "amateur" and garment.category in _HUNG and rng.random() < 0.2:
        ground = _hang(ground, view, supersample, rng)
    picture = _lay_down(lit, canvas.mask_field(), ground, rng, style)
    if style == "amateur":
        picture = _photograph(picture, rng)
    image = Image.fromarray(clip(picture + 0.5, 0, 255).astype(np.uint8))
    return image, canvas.mask


def render_cloth(
    garment: Garment, size: int, supersample: int = 2
) -> tuple[Field, Field, View, Cut]:
    """A garment alone, seen straight from above, for a mannequin to wear.

    Returns:
        Its lit colours 0..255, (size, size, 3); its mask 0..1, (size, size); the view, in pixels
        of `size * supersample`; its parts.
    """
    _check(size, supersample, "studio")
    pieces = cut(garment)
    view = straight_view(pieces, size * supersample)
    canvas = _Canvas(garment, pieces, view, size, supersample)
    canvas.draw_parts()
    lit = canvas.lit(stream(garment.seed, "scene studio"), "studio")
    return clip(lit, 0, 255), canvas.mask_field(), view, pieces


def _check(size: int, supersample: int, style: str) -> None:
    if not 16 <= size <= 2048:
        raise InputError(f"Render: size {size} is outside 16..2048. Choose a size within.")
    if not 1 <= supersample <= 4:
        raise InputError(f"Render: supersample {supersample} is outside 1..4. Use 2 or 3.")
    if style not in ("studio", "amateur"):
        raise InputError(f"Render: unknown style '{style}'. Use studio or amateur.")


class _Canvas:
    """The drawn state of a picture: colours on the fine grid, heights and shade on the final."""

    def __init__(
        self, garment: Garment, pieces: Cut, view: View, size: int, supersample: int
    ) -> None:
        self.garment, self.cut, self.view = garment, pieces, view
        self.size, self.factor = size, supersample
        self.fine = size * supersample
        self.unit = view.unit / supersample  # final pixels of a garment unit
        self.albedo = Image.new("RGBA", (self.fine, self.fine), (*rgb(garment)[0], 255))
        self.full_mask = Image.new("L", (self.fine, self.fine), 0)
        self.mask = Image.new("L", (size, size), 0)
        self.heights = np.zeros((size, size), dtype=np.float32)
        self.shade = np.ones((size, size), dtype=np.float32)
        self.folds: list[tuple[Fold, Points]] = []
        self.swatches: dict[Fabric, Swatch] = {}
        self.colours: dict[Fabric, RGB] = {}

    def draw_parts(self) -> None:
        for part in self.cut.parts:
            if isinstance(part, Panel):
                self._panel(part)
                if part.name == "body":
                    self._print()
            elif isinstance(part, Stroke):
                self._stroke(part)
            else:
                self.folds.append((part, self.view.project(part.points) / self.factor))
        self.mask = self.full_mask.reduce(self.factor) if self.factor > 1 else self.full_mask

    def mask_field(self) -> Field:
        return np.asarray(self.mask, dtype=np.float32) * np.float32(1 / 255)

    def lit(self, rng: np.random.Generator, style: Style) -> Field:
        """Colours under the light, 0..255, (size, size, 3)."""
        gloss = GLOSS[self.garment.material]
        rough = 0.12 if style == "studio" else float(rng.uniform(0.25, 1.0))
        heights = self.heights + fabric_heights(rng, gloss, self.cut.grain, self.size, rough)
        heights += fold_heights(self.folds, self.size, self.unit) * np.float32(0.4 + 0.3 * rough)
        turn = 0.0 if style == "studio" else float(rng.uniform(-1.0, 1.0))
        c, s = math.cos(turn), math.sin(turn)
        direction = (_LIGHT[0] * c - _LIGHT[1] * s, _LIGHT[0] * s + _LIGHT[1] * c)
        factor, shine = light(heights, self.unit, gloss, direction)
        flat = self.albedo.reduce(self.factor) if self.factor > 1 else self.albedo
        colours = np.asarray(flat)[..., :3].astype(np.float32)
        factor = factor * self.shade
        # black cloth still shows its folds, so a little light is added before it is shaded
        return (colours + 5) * factor[..., None] + (shine * 255)[..., None] - 3

    def _swatch(self, fabric: Fabric) -> Swatch:
        if fabric not in self.swatches:
            small = 0.55 if self.garment.category in ("shoes", "hat") else 1.0
            self.swatches[fabric] = make_swatch(self.garment, fabric, self.view.unit, small)
        return self.swatches[fabric]

    def _colour(self, fabric: Fabric) -> RGB:
        if fabric not in self.colours:
            self.colours[fabric] = flat_colour(self.garment, fabric)
        return self.colours[fabric]

    def _panel(self, panel: Panel) -> None:
        points = self.view.project(panel.outline)
        frame = _frame(points, self.fine, self.factor)
        if frame is None:
            return
        left, top, right, bottom = frame
        stencil = Image.new("L", (right - left, bottom - top), 0)
        corners = [(float(x) - left, float(y) - top) for x, y in points]
        ImageDraw.Draw(stencil).polygon(corners, fill=255)
        self.albedo.paste(self._cloth(panel, frame), (left, top), stencil)
        self.full_mask.paste(255, frame, stencil)
        if panel.puff or panel.lift:
            self._relief(panel, stencil, frame)

    def _cloth(self, panel: Panel, frame: tuple[int, int, int, int]) -> Image.Image:
        left, top, right, bottom = frame
        if panel.fabric not in _TEXTURED:
            colour = mix(self._colour(panel.fabric), (0, 0, 0), 1 - panel.tone)
            return Image.new("RGBA", (right - left, bottom - top), (*colour, 255))
        picture = _sample(self._swatch(panel.fabric), self.view, panel, frame)
        if panel.tone == 1.0:
            return picture
        return picture.point([min(255, round(i * panel.tone)) for i in range(256)] * 4)

    def _relief(self, panel: Panel, stencil: Image.Image, frame: tuple[int, int, int, int]) -> None:
        """Round the panel's edges, and let it throw a shadow on what lies below."""
        reach = max(2, round(0.16 * self.unit))
        left, top, right, bottom = (v // self.factor for v in frame)
        room = (
            max(0, left - reach),
            max(0, top - reach),
            min(self.size, right + reach),
            min(self.size, bottom + reach),
        )
        small = stencil.reduce(self.factor) if self.factor > 1 else stencil
        local = Image.new("L", (room[2] - room[0], room[3] - room[1]), 0)
        local.paste(small, (left - room[0], top - room[1]))
        inside = np.asarray(local, dtype=np.float32) * np.float32(1 / 255)
        window = (slice(room[1], room[3]), slice(room[0], room[2]))
        outside = 1 - inside
        full = panel.puff > _THIN
        near = blur_mask(local, max(0.9, (0.04 if full else 0.024) * self.unit))
        if panel.lift:
            dark = 1 - near * outside * ((0.5 if full else 0.75) * panel.lift)
            self.shade[window] = self.shade[window] * dark * outside + inside
        rise = near
        if full:
            rise = (near + blur_mask(local, max(1.2, 0.1 * self.unit))) * np.float32(0.5)
        rise = clip(2 * rise - 1, 0, 1)
        rise = rise * (2 - rise)
        # at its edge a panel lies on what is below; further in a full one hides that, a thin
        # one (collar, pocket) adds its thickness to it
        cover = inside * rise
        below = self.heights[window]
        if full:
            below = below * (1 - cover)
        self.heights[window] = below + np.float32(0.62 * panel.puff) * cover

    def _stroke(self, stroke: Stroke) -> None:
        points = self.view.project(stroke.points)
        width = max(1, round(stroke.width * self.view.unit))
        base = self._colour(stroke.fabric or "main")
        draw = ImageDraw.Draw(self.albedo)
        colour = (*_inked(base, stroke.ink), 255)
        for piece in _dashes(points, stroke.dash * self.view.unit):
            draw.line(piece, fill=colour, width=width, joint="curve")
        if stroke.ink < 0 and not stroke.dash and stroke.fabric is None:
            self.folds.append((Fold(stroke.points, 0.03, -0.14), points / self.factor))

    def _print(self) -> None:
        if self.garment.pattern != "print" or self.cut.print_at is None:
            return
        rng = stream(self.garment.seed, "print")
        draw = ImageDraw.Draw(self.albedo)
        ink, cloth = self._colour("second"), self._colour("plain")
        place, wide = np.array(self.cut.print_at), self.cut.print_size
        for shape, inked in print_picture(rng):
            points = self.view.project(shape * wide + place)
            flat = [(float(x), float(y)) for x, y in points]
            draw.polygon(flat, fill=(*(ink if inked else cloth), 255))


def _frame(points: Points, fine: int, factor: int) -> tuple[int, int, int, int] | None:
    """The box round points, on the final grid and inside the picture."""
    low = np.floor(points.min(axis=0) / factor).astype(int) * factor - factor
    high = np.ceil(points.max(axis=0) / factor).astype(int) * factor + factor
    left, top = max(0, int(low[0])), max(0, int(low[1]))
    right, bottom = min(fine, int(high[0])), min(fine, int(high[1]))
    return (left, top, right, bottom) if right > left and bottom > top else None


def _sample(
    swatch: Swatch, view: View, panel: Panel, frame: tuple[int, int, int, int]
) -> Image.Image:
    """The cloth under a box of the picture, RGBA."""
    left, top, right, bottom = frame
    x = view.garment_x[top:bottom, left:right]
    y = view.garment_y[top:bottom, left:right]
    side = swatch.side
    scale = side / swatch.period
    c, s = math.cos(panel.angle) * scale, math.sin(panel.angle) * scale
    ox, oy = panel.origin
    # far positive offsets keep the whole cloth above zero, where truncation is rounding down
    shift = 64.0 * side
    u = (x * np.float32(c) - y * np.float32(s) + np.float32(shift - ox * c + oy * s)).astype(
        np.int32
    )
    v = (x * np.float32(s) + y * np.float32(c) + np.float32(shift - ox * s - oy * c)).astype(
        np.int32
    )
    np.bitwise_and(u, side - 1, out=u)
    np.bitwise_and(v, side - 1, out=v)
    v *= side
    v += u
    taken: npt.NDArray[np.uint32] = swatch.pixels[v]
    return Image.frombytes("RGBA", (right - left, bottom - top), taken.tobytes())


def _inked(base: RGB, ink: float) -> RGB:
    if ink >= 0:
        return mix(base, (255, 250, 240), ink)
    if luminance(base) < 0.16:
        return mix(base, (150, 150, 156), -ink * 0.5)  # a dark seam on black would not be seen
    return mix(base, (16, 14, 20), -ink)


def _dashes(points: Points, length: float) -> list[list[tuple[float, float]]]:
    """A line as one piece, or as stitches of a length with gaps between."""
    if length <= 0:
        return [[(float(x), float(y)) for x, y in points]]
    steps = np.sqrt(np.square(np.diff(points, axis=0)).sum(axis=1))
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(1, int(along[-1] / max(length * 1.7, 3.0)))
    pieces: list[list[tuple[float, float]]] = []
    for i in range(count):
        ends = (i * along[-1] / count, (i + 0.6) * along[-1] / count)
        pieces.append([_point_at(points, along, t) for t in ends])
    return pieces


def _point_at(
    points: Points, along: npt.NDArray[np.float64], distance: float
) -> tuple[float, float]:
    """The point of a line at a distance from its start."""
    i = min(int(np.searchsorted(along, distance, side="right")) - 1, len(points) - 2)
    share = (distance - along[i]) / (along[i + 1] - along[i] + 1e-9)
    x, y = points[i] + (points[i + 1] - points[i]) * share
    return float(x), float(y)


def _ground(rng: np.random.Generator, size: int, style: Style, garment: Garment) -> Field:
    if style == "amateur":
        return backdrop.amateur(rng, size)
    pale = luminance(flat_colour(garment, "plain")) > 0.84
    return backdrop.studio(rng, size) * (0.87 if pale else 1.0)


def _hang(ground: Field, view: View, factor: int, rng: np.random.Generator) -> Field:
    """Draw the hook of a hanger above the neck."""
    tone = ((70, 66, 64), (176, 178, 182), (150, 108, 70))[int(rng.integers(3))]
    hook = smooth((0.0, 0.1), (0.0, -0.1), (0.07, -0.2), (0.01, -0.3), (-0.07, -0.23))
    bar = bend((-0.34, 0.12), (0.0, -0.12), (0.34, 0.12))
    fine = ground.shape[0] * factor
    sheet = Image.new("L", (fine, fine), 0)
    for line, width in ((hook, 0.025), (bar, 0.06)):
        points = [(float(x), float(y)) for x, y in view.project(line)]
        wide = max(1, round(width * view.unit))
        ImageDraw.Draw(sheet).line(points, fill=255, width=wide, joint="curve")
    weight = np.asarray(sheet.reduce(factor), dtype=np.float32)[..., None] / 255
    return ground * (1 - weight) + weight * np.array(tone, dtype=np.float32)


def _lay_down(
    lit: Field, mask: Field, ground: Field, rng: np.random.Generator, style: Style
) -> Field:
    """Put the lit garment with its shadow on a background."""
    size = mask.shape[0]
    picture = Image.fromarray((mask * 255).astype(np.uint8))
    strength = 0.34 if style == "studio" else float(rng.uniform(0.2, 0.6))
    wide = _moved(blur_mask(picture, size * 0.022), round(size * 0.012), round(size * 0.018))
    close = _moved(blur_mask(picture, size * 0.006), round(size * 0.003), round(size * 0.005))
    shadow = 1 - (wide * 0.6 + close * 0.4) * strength
    ground = ground * shadow[..., None]
    weight = mask[..., None]
    return ground * (1 - weight) + lit * weight


def _moved(field: Field, right: int, down: int) -> Field:
    moved = np.zeros_like(field)
    moved[down:, right:] = field[: field.shape[0] - down, : field.shape[1] - right]
    return moved


def _photograph(picture: Field, rng: np.random.Generator) -> Field:
    """Exposure, white balance, uneven light and sensor noise of a phone's photo."""
    size = picture.shape[0]
    exposure = float(rng.uniform(0.78, 1.1))
    warm = float(rng.uniform(-0.05, 0.07))
    tint = float(rng.uniform(-0.02, 0.02))
    balance = np.array([1 + warm, 1 + tint, 1 - warm], dtype=np.float32) * exposure
    cast = 1 + fine_noise(rng, 2, 2, size) * float(rng.uniform(0, 0.12))
    contrast = float(rng.uniform(0.85, 1.08))
    out = (picture * balance - 118) * contrast + 118
    grain = rng.integers(-64, 64, (size, size, 1), dtype=np.int8).astype(np.float32)
    return out * cast[..., None] + grain * np.float32(rng.uniform(0.01, 0.09))
