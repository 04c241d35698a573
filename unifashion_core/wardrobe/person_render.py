"""A person as a picture, with all that the drawing knows: landmarks, parts, clothes, origins."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ..errors import InputError
from .colours import mix
from .garment import stream
from .geometry import Points, bend, ellipse, thick
from .person import LOWER, RGB, UPPER, Person
from .person_body import (
    HEAD,
    PARTS,
    UPPER_ARM,
    arm_bones,
    foot_outline,
    hair_behind,
    hair_on_top,
    hand_outline,
    head_outline,
    landmarks,
    leg_bones,
    limb_outline,
    mirrored,
    neck_outline,
    torso_outline,
)
from .person_cloth import Cloth, Worn, make_cloth, wear
from .shading import Field, clip, fine_noise

ASPECT = 0.75
"""Width of the picture over its height, as of VITON-HD."""

REGIONS = ("upper", "lower", "dress")

_WALLS: tuple[tuple[RGB, RGB], ...] = (
    ((196, 214, 238), (226, 232, 240)),
    ((208, 226, 206), (236, 240, 228)),
    ((238, 216, 214), (244, 234, 226)),
    ((226, 218, 240), (240, 236, 246)),
    ((240, 228, 200), (246, 242, 230)),
    ((206, 206, 210), (234, 234, 236)),
    ((190, 222, 226), (230, 242, 242)),
)
_BOTTOMS = {"full": 3.78, "knees": 2.55, "hips": 1.95}


@dataclass(frozen=True)
class PersonPicture:
    """A drawn person.

    Attributes:
        image: RGB, 3:4.
        landmarks: MediaPipe's 33 points in pixels, (33, 2), also where they are hidden or outside.
        parts: Index into `person_body.PARTS` of the body below the clothes, (H, W), uint8.
        worn: Region by name ("upper", "lower", "dress") to the pixels of its garment that show,
            (H, W), bool.
        coverage: Region by name to how much of each pixel shows its garment, 0..1, (H, W).
        source: Region by name to where each shown pixel is on the flat garment, (H, W, 2), x and y
            as shares of its side; nan elsewhere.
        flat: Region by name to the flat garment on white, RGB, square.
        flat_mask: Region by name to how much of each pixel of `flat` is garment, 0..1, (S, S).
    """

    image: Image.Image
    landmarks: npt.NDArray[np.float64]
    parts: npt.NDArray[np.uint8]
    worn: dict[str, npt.NDArray[np.bool_]]
    coverage: dict[str, Field]
    source: dict[str, Field]
    flat: dict[str, Image.Image]
    flat_mask: dict[str, Field]


def region_of(category: str) -> str:
    """Which region a category is worn on."""
    return "upper" if category in UPPER else "lower" if category in LOWER else "dress"


def render_person(person: Person, height: int = 512, *, supersample: int = 2) -> PersonPicture:
    """Draw a person.

    Args:
        person: From `sample_person`.
        height: Of the picture, 64..2048; its width is three quarters of it.
        supersample: Drawn pixels per picture pixel along a side, 1..4.

    Raises:
        InputError: If a number is outside what is allowed.
    """
    if not 64 <= height <= 2048 or not 1 <= supersample <= 4:
        raise InputError(
            f"Person: height {height}, supersample {supersample}; wanted 64 to 2048, and 1 to 4."
        )
    width = round(ASPECT * height)
    scene = _Scene(person, (width * supersample, height * supersample))
    scene.draw()
    return scene.finished(supersample)


@dataclass
class _Scene:
    person: Person
    size: tuple[int, int]
    to_picture: npt.NDArray[np.float64] = field(init=False)
    unit: float = field(init=False)

    def __post_init__(self) -> None:
        wide, high = self.size
        rng = stream(self.person.seed, "frame")
        top = -0.86 - float(rng.uniform(0.04, 0.22))
        bottom = _BOTTOMS[self.person.framing]
        self.unit = high / (bottom - top)
        shift = float(rng.uniform(-0.12, 0.12))
        c, s = math.cos(self.person.lean), math.sin(self.person.lean)
        turn = np.array([[c, -s], [s, c]]) * self.unit
        foot = np.array([0.0, 3.4])
        place = np.array([wide / 2 + shift * self.unit, (3.4 - top) * self.unit])
        self.to_picture = np.column_stack([turn, place - turn @ foot])
        self.canvas = self._wall(stream(self.person.seed, "wall"))
        self.parts = Image.new("L", self.size, 0)
        self.layers: dict[str, tuple[Field, Field]] = {}
        self.cloths: dict[str, Cloth] = {}
        for garment in self.person.garments:
            region = region_of(garment.category)
            self.cloths[region] = make_cloth(garment, self.unit * 0.62)
            empty = np.zeros((self.size[1], self.size[0]), np.float32)
            nowhere = np.full((self.size[1], self.size[0], 2), np.nan, np.float32)
            self.layers[region] = (empty, nowhere)

    def draw(self) -> None:
        person = self.person
        for outline in hair_behind(person):
            self._paint([outline], person.hair, 1)
        self._legs()
        self._clothes("behind")
        self._paint([torso_outline(person)], person.skin, 4)
        self._arms(None, parts=True)
        self._paint([neck_outline(person)], person.skin, 3, 0.35)
        self._neck_shadow()
        for region in ("lower", "dress", "upper"):
            if region in self.cloths:
                self._body_of(region)
        self._arms(self._bare_from(), parts=False)
        for region in ("dress", "upper"):
            if region in self.cloths:
                for layer in ("left", "right"):
                    self._wear(region, layer)
        self._head()

    def _body_of(self, region: str) -> None:
        if region == "lower":
            for layer in ("left", "right"):
                self._wear(region, layer)
        self._wear(region, "body")

    def _clothes(self, layer: str) -> None:
        for region in self.cloths:
            self._wear(region, layer)

    def _legs(self) -> None:
        widths = tuple(w * (0.3 + 0.7 * self.person.width) for w in (0.2, 0.115, 0.068))
        for side in (1, 0):
            bones = leg_bones(self.person, side)
            thigh, calf = limb_outline(bones, (widths[0], widths[1], widths[2]))
            self._paint([mirrored(calf, side)], self.person.skin, 13 + side)
            self._paint([mirrored(thigh, side)], self.person.skin, 11 + side)
            self._paint([mirrored(foot_outline(bones), side)], self.person.shoes, 15 + side)

    def _bare_from(self) -> float:
        """From which distance along the arm it lies bare over the clothes."""
        sleeves = {g.sleeve for g in self.person.garments if g.category not in LOWER}
        return 1.2 if "long" in sleeves else 0.3 if "short" in sleeves else 0.2

    def _arms(self, start: float | None, *, parts: bool) -> None:
        """The arms below the clothes, or from a distance on, to be drawn over them."""
        wide = 0.35 + 0.65 * self.person.width
        for side in (1, 0):
            bones = arm_bones(self.person, side)
            upper, lower = limb_outline(bones, (0.092 * wide, 0.078 * wide, 0.054 * wide))
            pieces = [upper, lower, hand_outline(bones, wide)]
            if start is not None:
                pieces[0] = _cut_off(upper, bones.joints[0], bones.upper, start)
                if start > UPPER_ARM:
                    pieces = [_cut_off(lower, bones.joints[1], bones.lower, start - UPPER_ARM)]
                    pieces.append(hand_outline(bones, wide))
            placed = [mirrored(p, side) for p in pieces]
            self._paint(placed, self.person.skin, None)
            if parts:
                for part, piece in zip((5, 7, 9), placed, strict=True):
                    self._mark(piece, part + side)

    def _neck_shadow(self) -> None:
        shade = ellipse((0.0, -0.13), 0.13, 0.1)
        self._paint([shade], mix(self.person.skin, (60, 20, 20), 0.16), None, 0.0, 0.02)

    def _head(self) -> None:
        person = self.person
        x, y = HEAD
        skin = person.skin
        for side in (-1, 1):
            self._paint([ellipse((x + side * 0.2, y + 0.03), 0.035, 0.055)], skin, 2)
        self._paint([head_outline(person)], skin, 2)
        for side in (-1, 1):
            cheek = ellipse((x + side * 0.105, y + 0.1), 0.05, 0.038)
            self._paint([cheek], mix(skin, (224, 84, 84), 0.2), None, 0.0, 0.018)
            self._eye(x + side * 0.085, y - 0.03, side)
        nose = thick(
            bend((x + 0.006, y + 0.0), (x + 0.03, y + 0.055), (x - 0.012, y + 0.06)), 0.013
        )
        self._paint([nose], mix(skin, (90, 30, 20), 0.3), None, 0.0)
        lips = mix(skin, (176, 40, 56), 0.55)
        mouth = bend((x - 0.066, y + 0.135), (x, y + 0.185), (x + 0.066, y + 0.135))
        self._paint([thick(mouth, 0.024)], lips, None, 0.0)
        for outline in hair_on_top(person):
            self._paint([outline], person.hair, 1)

    def _eye(self, x: float, y: float, side: int) -> None:
        self._paint([ellipse((x, y), 0.036, 0.02)], (250, 248, 246), None, 0.0)
        self._paint([ellipse((x, y), 0.017, 0.019)], (52, 38, 32), None, 0.0)
        brow = bend((x - side * 0.04, y - 0.052), (x, y - 0.078), (x + side * 0.045, y - 0.05))
        dark = mix(self.person.hair, (30, 24, 22), 0.5)
        self._paint([thick(brow, 0.016)], dark, None, 0.0)

    def _wall(self, rng: np.random.Generator) -> Field:
        wide, high = self.size
        top, bottom = _WALLS[int(rng.integers(len(_WALLS)))]
        y = np.linspace(0.0, 1.0, high, dtype=np.float32)[:, None, None]
        canvas = np.array(top, np.float32) * (1 - y) + np.array(bottom, np.float32) * y
        canvas = np.repeat(canvas, wide, axis=1)
        line = int(self.to_picture[1] @ np.array([0.0, 3.3, 1.0]))
        if line < high:
            floor = np.array(mix(bottom, (90, 76, 66), 0.22), np.float32)
            fade = np.linspace(0.0, 0.1, high - line, dtype=np.float32)[:, None, None]
            canvas[line:] = floor * (1 + fade)
        side = max(wide, high)
        light = fine_noise(rng, 2, 2, side)[:high, :wide, None] * np.float32(0.02)
        canvas = clip(canvas * (1 + light), 0, 255)
        return self._floor_shadow(canvas)

    def _floor_shadow(self, canvas: Field) -> Field:
        legs = [leg_bones(self.person, s).joints[2] for s in (0, 1)]
        left, right = -legs[1][0] - 0.2, legs[0][0] + 0.34
        spot = ellipse(((left + right) / 2, 3.56), (right - left) / 2 + 0.1, 0.1, 40)
        stencil = Image.new("L", self.size, 0)
        ImageDraw.Draw(stencil).polygon(self._pixels(spot), fill=255)
        soft = stencil.filter(ImageFilter.GaussianBlur(0.06 * self.unit))
        return canvas * (1 - 0.38 * np.asarray(soft, dtype=np.float32)[..., None] / 255)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        placed: Points = points @ np.transpose(self.to_picture[:, :2]) + self.to_picture[:, 2]
        return [(float(x), float(y)) for x, y in placed]

    def _mark(self, outline: Points, part: int) -> None:
        ImageDraw.Draw(self.parts).polygon(self._pixels(outline), fill=part)

    def _paint(
        self,
        outlines: list[Points],
        colour: RGB,
        part: int | None,
        round_: float = 1.0,
        soft: float = 0.0,
    ) -> None:
        """Fill outlines as one piece, darker to its edges and away from the light."""
        corners = [self._pixels(outline) for outline in outlines]
        everything = np.array([c for some in corners for c in some])
        pad = 3 + round((0.08 + 2 * soft) * self.unit)
        low = np.maximum(np.floor(everything.min(axis=0)).astype(int) - pad, 0)
        high = np.minimum(np.ceil(everything.max(axis=0)).astype(int) + pad, np.array(self.size))
        if (high <= low).any():
            return
        left, top, right, bottom = int(low[0]), int(low[1]), int(high[0]), int(high[1])
        stencil = Image.new("L", (right - left, bottom - top), 0)
        draw = ImageDraw.Draw(stencil)
        for some in corners:
            draw.polygon([(x - left, y - top) for x, y in some], fill=255)
        shade = _roundness(stencil, self.unit) if round_ else None
        if soft:
            stencil = stencil.filter(ImageFilter.GaussianBlur(soft * self.unit))
        alpha = np.asarray(stencil, dtype=np.float32) * np.float32(1 / 255)
        tone = np.array(colour, np.float32)
        if shade is not None:
            tone = tone * (1 + (shade - 1) * np.float32(round_))[..., None]
        window = (slice(top, bottom), slice(left, right))
        self.canvas[window] += (tone - self.canvas[window]) * alpha[..., None]
        if part is not None:
            for outline in outlines:
                self._mark(outline, part)
        if not soft:
            self._hide(window, alpha)

    def _hide(self, window: tuple[slice, slice], alpha: Field) -> None:
        for shown, _ in self.layers.values():
            shown[window] *= 1 - alpha

    def _wear(self, region: str, layer: str) -> None:
        worn = wear(self.cloths[region], layer, self.person, self.to_picture, self.size)
        if worn is None:
            return
        left, top, right, bottom = worn.box
        window = (slice(top, bottom), slice(left, right))
        if layer != "behind":
            self._cast(worn, window)
        stencil = Image.fromarray((worn.alpha * 255).astype(np.uint8))
        shade = 1 + (_roundness(stencil, self.unit) - 1) * np.float32(0.55)
        tone = clip(worn.colours * shade[..., None], 0, 255)
        alpha = worn.alpha[..., None]
        self.canvas[window] += (tone - self.canvas[window]) * alpha
        self._hide(window, worn.alpha)
        shown, source = self.layers[region]
        shown[window] += worn.alpha
        inside = worn.alpha > 0.25
        source[window][inside] = worn.source[inside]

    def _cast(self, worn: Worn, window: tuple[slice, slice]) -> None:
        """A soft shadow on what the cloth lies over."""
        stencil = Image.fromarray((worn.alpha * 255).astype(np.uint8))
        reach = max(1.0, 0.03 * self.unit)
        soft = np.asarray(stencil.filter(ImageFilter.GaussianBlur(reach)), dtype=np.float32)
        body = (np.asarray(self.parts)[window] > 0) & (np.asarray(self.parts)[window] != 1)
        self.canvas[window] *= 1 - (0.3 / 255) * (soft * body)[..., None]

    def finished(self, factor: int) -> PersonPicture:
        fine = Image.fromarray(clip(self.canvas + 0.5, 0, 255).astype(np.uint8))
        image = fine.reduce(factor) if factor > 1 else fine
        step = factor // 2
        pick = (slice(step, None, factor), slice(step, None, factor))
        worn = {
            name: (shown[pick] > 0.5) & ~np.isnan(places[pick][..., 0])
            for name, (shown, places) in self.layers.items()
        }
        source: dict[str, Field] = {}
        for name, (_, places) in self.layers.items():
            known: Field = np.array(places[pick])
            known[~worn[name]] = np.nan
            source[name] = known
        turned: Points = landmarks(self.person) @ np.transpose(self.to_picture[:, :2])
        points = turned + self.to_picture[:, 2]
        return PersonPicture(
            image,
            points / factor,
            np.ascontiguousarray(np.asarray(self.parts)[pick]),
            worn,
            {name: _reduced(shown, factor) for name, (shown, _) in self.layers.items()},
            source,
            {name: _on_white(cloth) for name, cloth in self.cloths.items()},
            {name: cloth.whole for name, cloth in self.cloths.items()},
        )


def part_names() -> tuple[str, ...]:
    """Names of the parts that `PersonPicture.parts` counts."""
    return PARTS


def _reduced(fine: Field, factor: int) -> Field:
    """Means over squares of factor x factor values, (H, W) to (H / factor, W / factor)."""
    high, wide = fine.shape[0] // factor, fine.shape[1] // factor
    mean: Field = np.mean(np.reshape(fine, (high, factor, wide, factor)), axis=(1, 3))
    return mean


def _roundness(stencil: Image.Image, unit: float) -> Field:
    """Light on a rounded piece: 1 in its middle, darker to the lower right edge, (h, w)."""
    near = np.asarray(stencil.filter(ImageFilter.GaussianBlur(0.045 * unit)), dtype=np.float32)
    wide = np.asarray(stencil.filter(ImageFilter.BoxBlur(0.09 * unit)), dtype=np.float32)
    height = (near + wide) * np.float32(0.5 / 255)
    gy, gx = np.zeros_like(height), np.zeros_like(height)
    gy[1:-1] = height[2:] - height[:-2]
    gx[:, 1:-1] = height[:, 2:] - height[:, :-2]
    slope = (gx * np.float32(0.55) + gy * np.float32(0.83)) * np.float32(0.05 * unit)
    return clip(0.84 + 0.17 * height + 1.1 * slope, 0.55, 1.14)


def _cut_off(
    outline: Points, start: tuple[float, float], along: tuple[float, float], least: float
) -> Points:
    """An outline without what lies before a distance along a bone."""
    a, way = np.array(start), np.array(along)
    t = (outline - a) @ way
    return outline + np.maximum(least - t, 0.0)[:, None] * way


def _on_white(cloth: Cloth) -> Image.Image:
    whole = cloth.whole[..., None]
    picture = cloth.colours * whole + 255 * (1 - whole)
    return Image.fromarray(picture.astype(np.uint8))
