"""A garment as lines: edges of a photo by colour, or a drawing brought to clean lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from ..errors import InputError, ShapeError
from .connected import blur, flood, grow
from .fit import check_mask
from .lab import to_lab
from .paste import inner_distance
from .resample import resize

Kind = Literal["photo", "drawing"]
KINDS: tuple[Kind, ...] = ("photo", "drawing")

_REFERENCE = 1024  # pixels of the longer side that thickness and widths are measured at
_LARGEST = 1536  # a larger photo is drawn at this size
_FAINT = 0.35  # the palest line


@dataclass(frozen=True)
class SketchStyle:
    """How to draw.

    Attributes:
        thickness: Width of the lines in pixels of a picture of 1024, 0.5..16.
        detail: 0 = outline and main seams .. 1 = every fold and print.
    """

    thickness: float = 3.0
    detail: float = 0.5


def sketch(
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    style: SketchStyle | None = None,
    kind: Kind = "photo",
) -> torch.Tensor:
    """Draw a garment as lines.

    Args:
        image: A photo or a drawing, (H, W, 3), 0..1.
        mask: The garment in it, (H, W), 0..1: nothing is drawn outside, and its outline always is.
            None: the edges of the whole picture.
        style: Thickness and detail. A drawing keeps its own lines where its thickness is 0.
        kind: What the picture is. "drawing": pen or pencil on paper, or light lines on dark.

    Returns:
        (H, W), float32, 0..1: 1 = line, paler where an edge is weaker.

    Raises:
        ShapeError: If image and mask don't go together.
        InputError: If a number or the kind is out of range.
    """
    style = style or SketchStyle()
    _check(image, mask, style, kind)
    height, width = int(image.shape[0]), int(image.shape[1])
    work, inside = _work_size(image, mask)
    lines = _edges(work, inside, style) if kind == "photo" else _cleaned(work, inside, style)
    return resize(lines, height, width, smooth=True)


def on_paper(lines: torch.Tensor, dark_on_light: bool = False) -> torch.Tensor:
    """Lines as a picture, (H, W, 3): white on black as sketch models read them, or black on white.

    Args:
        lines: (H, W), 1 = line.
        dark_on_light: Black on white.
    """
    plane = 1.0 - lines if dark_on_light else lines
    return plane[..., None].expand(*plane.shape, 3).contiguous()


def _check(image: torch.Tensor, mask: torch.Tensor | None, style: SketchStyle, kind: str) -> None:
    if image.ndim != 3 or image.shape[-1] < 3:
        raise ShapeError(f"Sketch: image {tuple(image.shape)}, wanted (H, W, 3).")
    if mask is not None:
        check_mask(mask, (int(image.shape[0]), int(image.shape[1])), "Sketch")
    if kind not in KINDS:
        raise InputError(f"Sketch: kind '{kind}', wanted one of {', '.join(KINDS)}.")
    least = 0.0 if kind == "drawing" else 0.5
    if not least <= style.thickness <= 16.0:
        raise InputError(f"Sketch: thickness {style.thickness}, wanted {least} to 16 pixels.")
    if not 0.0 <= style.detail <= 1.0:
        raise InputError(f"Sketch: detail {style.detail}, wanted 0 to 1.")


def _work_size(
    image: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    height, width = int(image.shape[0]), int(image.shape[1])
    scale = min(1.0, _LARGEST / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = resize(image[..., :3], *size)
    return small, None if mask is None else resize(mask, *size, smooth=True)


def _edges(image: torch.Tensor, mask: torch.Tensor | None, style: SketchStyle) -> torch.Tensor:
    unit = max(image.shape[:2]) / _REFERENCE
    sigma = (3.2 - 2.2 * style.detail) * max(unit, 0.35)
    lab = to_lab(image).permute(2, 0, 1) / 100.0
    strength, angle = _gradient(_filled_out(lab, mask, sigma), sigma)
    high = 0.34 - 0.26 * style.detail
    ridge = _ridges(strength, angle)
    if mask is not None:
        ridge &= inner_distance(mask > 0.5, round(3 * sigma) + 2) > 1.5 * sigma + 1
    strong = ridge & (strength > high)
    kept = _linked(strong, ridge & (strength > 0.4 * high))
    kept = _long_enough(kept, round((26 - 18 * style.detail) * unit))
    level = (_FAINT + (1 - _FAINT) * strength / (2.5 * high)).clamp(max=1.0)
    lines = _inked(kept, level, style.thickness * unit)
    if mask is None:
        return lines
    return torch.maximum(lines * (mask > 0.5), _outline(mask, style.thickness * unit))


def _filled_out(lab: torch.Tensor, mask: torch.Tensor | None, sigma: float) -> torch.Tensor:
    """The garment's colours carried a little beyond its edge, so that the edge is no gradient."""
    if mask is None:
        return lab
    inside = (mask > 0.9).float()[None]
    near, weight = blur(lab * inside, 2 * sigma), blur(inside, 2 * sigma)
    return torch.where(inside > 0, lab, near / weight.clamp(min=1e-4))


def _gradient(planes: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Strength and direction of the steepest change of colour, by the structure tensor.

    Source: Di Zenzo 1986, A note on the gradient of a multi-image.
    """
    soft = blur(planes, sigma)
    padded = F.pad(soft[None], (1, 1, 1, 1), mode="replicate")[0]
    dx = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * (0.5 * sigma)
    dy = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * (0.5 * sigma)
    xx, yy, xy = (dx * dx).sum(0), (dy * dy).sum(0), (dx * dy).sum(0)
    root = torch.sqrt((xx - yy).square() + 4 * xy.square())
    strength = torch.sqrt(((xx + yy + root) / 2).clamp(min=0)) * 2.5
    return strength, 0.5 * torch.atan2(2 * xy, xx - yy)


def _ridges(strength: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Where the strength is the largest along its own direction, (H, W), bool."""
    height, width = strength.shape
    y = torch.arange(height, dtype=torch.float32)[:, None]
    x = torch.arange(width, dtype=torch.float32)[None]
    peak = torch.ones((height, width), dtype=torch.bool)
    for side in (1.0, -1.0):
        u = (x + side * torch.cos(angle) + 0.5) / width * 2 - 1
        v = (y + side * torch.sin(angle) + 0.5) / height * 2 - 1
        grid = torch.stack([u, v], dim=-1)[None]
        beside = F.grid_sample(
            strength[None, None], grid, padding_mode="border", align_corners=False
        )[0, 0]
        peak &= strength >= beside if side > 0 else strength > beside
    return peak


def _linked(strong: torch.Tensor, weak: torch.Tensor) -> torch.Tensor:
    """Weak edges that hang together with strong ones, corners counting as joined."""
    wide = grow(weak, 1)
    return weak & flood(strong, wide)


def _long_enough(lines: torch.Tensor, least: int) -> torch.Tensor:
    """Without lines that span fewer pixels: what an opening along its box would drop.

    A line that is shorter is told by how little of it lies within a window of `least` pixels.
    """
    if least < 3:
        return lines
    window = 2 * (least // 2) + 1
    plane = lines.float()[None, None]
    count = F.avg_pool2d(plane, window, 1, window // 2, count_include_pad=True)[0, 0]
    full = lines & (count * window * window >= 0.8 * least)
    return _linked(full, lines)


def _inked(lines: torch.Tensor, level: torch.Tensor, thickness: float) -> torch.Tensor:
    """Lines one pixel wide drawn at a thickness, with soft edges, as dark as their level."""
    reach = max(1, round(thickness / 2 + 1.5))
    distance = inner_distance(~lines, reach)
    cover = (thickness / 2 + 0.5 - distance).clamp(0.0, 1.0)
    if thickness < 1:
        cover = cover.clamp(max=1.0) + (distance < 0.5) * (thickness - cover).clamp(min=0.0)
    tone = F.max_pool2d((level * lines)[None, None], 2 * reach + 1, 1, reach)[0, 0]
    return (cover * tone).clamp(0.0, 1.0)


def _outline(mask: torch.Tensor, thickness: float) -> torch.Tensor:
    """The edge of a mask as a line on its inner side."""
    inside = mask > 0.5
    distance = inner_distance(inside, round(thickness) + 2)
    cover = (thickness + 0.5 - (distance - 0.5)).clamp(0.0, 1.0)
    return cover * inside


def _cleaned(image: torch.Tensor, mask: torch.Tensor | None, style: SketchStyle) -> torch.Tensor:
    """The lines of a drawing without paper, shadows and specks."""
    unit = max(image.shape[:2]) / _REFERENCE
    grey = to_lab(image)[..., 0] / 100.0
    if float(grey.median()) < 0.5:
        grey = 1.0 - grey  # light lines on dark
    paper = _paper(grey, 24 * unit)
    ink = ((paper - grey) / paper.clamp(min=0.05)).clamp(0.0, 1.0)
    cut = _two_groups(ink)
    soft = ((ink - 0.6 * cut) / (0.8 * cut)).clamp(0.0, 1.0)
    marks = soft > 0.5
    kept = flood(
        grow(_long_enough(marks, max(6, round((20 - 14 * style.detail) * unit))), 1), grow(marks, 1)
    )
    if mask is not None:
        kept &= mask > 0.5
    if style.thickness == 0:
        return soft * kept
    middle = _thinned(marks & kept, unit)
    return _inked(middle, torch.ones_like(grey), style.thickness * unit)


def _paper(grey: torch.Tensor, sigma: float) -> torch.Tensor:
    """The paper's own brightness: the brightest nearby, smoothed."""
    reach = max(2, round(sigma / 2))
    plane = F.max_pool2d(grey[None, None], 2 * reach + 1, 1, reach)
    return blur(plane[0], sigma)[0]


def _two_groups(values: torch.Tensor) -> float:
    """The value that parts values in two groups best, at least 0.12.

    Source: Otsu 1979, A threshold selection method from gray-level histograms.
    """
    count = torch.histc(values, 128, 0.0, 1.0).double()
    centre = (torch.arange(128, dtype=torch.float64) + 0.5) / 128
    below = count.cumsum(0)
    mean = (count * centre).cumsum(0)
    above = below[-1] - below
    between = (mean[-1] * below - mean * below[-1]).square() / (below * above).clamp(min=1.0)
    return max(0.12, float(centre[between.argmax()]))


def _thinned(marks: torch.Tensor, unit: float) -> torch.Tensor:
    """The middle line of strokes: where the distance to their edge is a ridge."""
    thickest = max(3, round(20 * unit))
    depth = inner_distance(marks, thickest)
    peak = F.max_pool2d(depth[None, None], 3, 1, 1)[0, 0]
    across = torch.zeros_like(marks)
    padded = F.pad(depth[None, None], (1, 1, 1, 1))[0, 0]
    height, width = depth.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        two = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        across |= (depth >= one) & (depth > two) | (depth > one) & (depth >= two)
    return marks & across & (depth > 0.6 * peak)
