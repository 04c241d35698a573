"""A garment out of its photo: cut out with a soft edge, set upright, centred as VITON-HD has it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ..errors import InputError
from ..imaging import to_pil
from ..types import GarmentMasker
from .background import garment_region
from .connected import blur, grow, shrink
from .fit import check_mask, check_size, mask_box
from .resample import resize

FRAME = (1024, 768)
"""Height and width of VITON-HD's pictures."""

_FILLED = 0.84  # of the frame's height or width that VITON-HD's garments take
_MOST_SKEW = 20.0  # degrees
_SYMMETRIC = 0.82  # below it there is no middle line to set upright
_BETTER = 0.015  # of symmetry that a turn must bring


@dataclass(frozen=True)
class CutOut:
    """A garment on white.

    Attributes:
        image: (H, W, 3), 0..1; white where the mask is 0.
        mask: How much of each pixel is garment, (H, W), 0..1.
        source: Where the mask comes from, in words.
        angle: By how many degrees the garment was turned clockwise to stand upright.
        notes: What the user should know.
    """

    image: torch.Tensor
    mask: torch.Tensor
    source: str
    angle: float = 0.0
    notes: tuple[str, ...] = ()


def cut_out(
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    masker: GarmentMasker | None = None,
    source: str = "mask given",
) -> CutOut:
    """Cut a garment out of a photo.

    Args:
        image: The photo, (H, W, 3), 0..1.
        mask: Where the garment is, (H, W), 0..1. None: it is looked for.
        masker: Looks where the ground is not plain; None: then it is an error.
        source: What to call a given mask.

    Returns:
        The cut-out at the photo's size. The edge of a mask that was given stays as given.

    Raises:
        ShapeError: If the mask has another size.
        InputError: If nothing can be told from the ground.
    """
    height, width = int(image.shape[0]), int(image.shape[1])
    if mask is not None:
        check_mask(mask, (height, width), "Cut out")
        if mask_box(mask) is None:
            raise InputError("Cut out: the mask is empty. Draw over the garment, or leave it out.")
        return CutOut(_on_white(image, image, mask.float()), mask.float(), source)
    region, found = garment_region(image), "plain ground"
    if region is None and masker is not None:
        known = masker(to_pil(image))
        region, found = None if known is None else torch.as_tensor(known), "garment finder"
    if region is None:
        raise InputError(
            "Cut out: the garment can't be told from its ground. Photograph it on a plain ground, "
            "or connect a mask."
        )
    return cut_region(image, region, found)


def cut_region(image: torch.Tensor, region: torch.Tensor, source: str) -> CutOut:
    """Cut a region out of a photo with a soft edge.

    Args:
        image: The photo, (H, W, 3), 0..1.
        region: The garment, (h, w) of the photo or of a smaller copy, bool.
        source: What to call where the region comes from.
    """
    alpha, colours = _soft_edge(image, region)
    return CutOut(_on_white(image, colours, alpha), alpha, source)


def frame_garment(
    cut: CutOut, size: tuple[int, int] = FRAME, *, deskew: bool = True, filled: float = _FILLED
) -> CutOut:
    """Set a garment upright and centre it in a frame.

    Args:
        cut: From `cut_out`.
        size: Height and width of the frame, multiples of 64.
        deskew: Turn it by up to 20 degrees to where its halves mirror each other best.
        filled: Share of the frame's height or width that it takes, whichever is reached first.

    Returns:
        The framed cut-out, its angle told.
    """
    check_size(size, "Frame garment")
    angle = skew(cut.mask) if deskew else 0.0
    left, top, right, bottom = _turned_box(cut.mask, angle)
    scale = filled * min(size[0] / (bottom - top), size[1] / (right - left))
    middle = ((left + right) / 2, (top + bottom) / 2)
    planes = torch.cat([cut.image * cut.mask[..., None], cut.mask[..., None]], dim=-1)
    moved = _moved(planes, size, middle, scale, angle)
    mask = moved[..., 3].clamp(0.0, 1.0)
    mask = torch.where(mask < 1 / 255, torch.zeros_like(mask), mask)
    colour = (moved[..., :3] + (1.0 - mask[..., None])).clamp(0.0, 1.0)
    colour = torch.where(mask[..., None] > 0, colour, torch.ones_like(colour))
    return replace(cut, image=colour, mask=mask, angle=angle)


def skew(mask: torch.Tensor) -> float:
    """By how many degrees clockwise a garment must be turned to be most symmetric, -20..20.

    0 where no turn makes it clearly more symmetric than it is.
    """
    small = _square(mask, 96)
    best, angle = _symmetry(small, 0.0) + _BETTER, 0.0
    for step in (2.0, 0.5):
        around = angle
        reach = _MOST_SKEW if step == 2.0 else 1.5
        for k in range(-round(reach / step), round(reach / step) + 1):
            tried = around + k * step
            score = _symmetry(small, tried)
            if score > best and abs(tried) <= _MOST_SKEW:
                best, angle = score, tried
    return angle if best >= _SYMMETRIC else 0.0


def _symmetry(square: torch.Tensor, angle: float) -> float:
    """Overlap of a turned mask with its mirror image, at the best place of the mirror, 0..1."""
    turned = _rotated(square, angle)
    mirrored = turned.flip(1)
    best = 0.0
    for shift in range(-12, 13):
        moved = mirrored.roll(shift, 1)
        overlap = torch.minimum(turned, moved).sum() / torch.maximum(turned, moved).sum()
        best = max(best, float(overlap))
    return best


def _square(mask: torch.Tensor, side: int) -> torch.Tensor:
    """The garment alone, centred in a square with room to turn."""
    box = mask_box(mask > 0.5)
    if box is None:
        return torch.zeros((side, side))
    left, top, right, bottom = box
    part = mask[top:bottom, left:right].float()
    scale = 0.7 * side / max(part.shape)
    size = (max(1, round(part.shape[0] * scale)), max(1, round(part.shape[1] * scale)))
    small = resize(part, *size, smooth=True)
    y, x = (side - size[0]) // 2, (side - size[1]) // 2
    return F.pad(small, (x, side - size[1] - x, y, side - size[0] - y))


def _rotated(square: torch.Tensor, angle: float) -> torch.Tensor:
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    matrix = torch.tensor([[c, s, 0.0], [-s, c, 0.0]])
    grid = F.affine_grid(matrix[None], [1, 1, *square.shape], align_corners=False)
    return F.grid_sample(square[None, None], grid, align_corners=False)[0, 0]


def _turned_box(mask: torch.Tensor, angle: float) -> tuple[float, float, float, float]:
    """Box of the garment after turning it about the picture's middle, in the photo's pixels."""
    y, x = (
        (mask > 0.5).nonzero().float().unbind(1)
        if bool((mask > 0.5).any())
        else ((mask > 0).nonzero().float().unbind(1))
    )
    y, x = y + 0.5 - mask.shape[0] / 2, x + 0.5 - mask.shape[1] / 2
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    across, down = c * x - s * y, s * x + c * y
    return (
        float(across.min()) - 0.5,
        float(down.min()) - 0.5,
        float(across.max()) + 0.5,
        float(down.max()) + 0.5,
    )


def _moved(
    planes: torch.Tensor,
    size: tuple[int, int],
    middle: tuple[float, float],
    scale: float,
    angle: float,
) -> torch.Tensor:
    """Turn about the photo's middle, scale, and bring a point to the frame's middle, (*size, C)."""
    height, width = planes.shape[:2]
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    if scale < 1:  # sampling does not average: that is done before
        planes = resize(planes, rows, columns)
    high, wide = planes.shape[:2]
    y = (torch.arange(size[0]) + 0.5 - size[0] / 2) / scale + middle[1]
    x = (torch.arange(size[1]) + 0.5 - size[1] / 2) / scale + middle[0]
    y, x = torch.meshgrid(y, x, indexing="ij")
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    u, v = c * x + s * y, -s * x + c * y  # back from the turned photo to the photo
    grid = torch.stack([u / (width / 2), v / (height / 2)], dim=-1)[None]
    source = planes.permute(2, 0, 1)[None]
    mode = "bicubic" if min(high, wide) > 3 else "bilinear"
    done = F.grid_sample(source, grid, mode=mode, align_corners=False)
    return done[0].permute(1, 2, 0)


def _on_white(image: torch.Tensor, colours: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Garment colours on white; where the garment is whole, the photo's own values."""
    share = alpha[..., None]
    mixed = colours[..., :3].float() * share + (1.0 - share)
    return torch.where(share >= 1.0, image[..., :3].float(), mixed).clamp(0.0, 1.0)


def _soft_edge(image: torch.Tensor, region: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How much of each pixel is garment, and the garment's own colour there, at full size.

    In a narrow band round the region's edge the pixel is told apart by where its colour lies
    between the ground's and the garment's next to it.
    """
    height, width = int(image.shape[0]), int(image.shape[1])
    scale = max(height / region.shape[0], width / region.shape[1])
    alpha = resize(region.float(), height, width, smooth=True)
    reach = max(1, round(1.5 * scale))
    inside = alpha > 0.5
    core, rest = shrink(inside, reach), ~grow(inside, reach)
    band = ~core & ~rest
    places = band.nonzero()
    small = resize(image[..., :3], *region.shape).permute(2, 0, 1)
    cloth = _read(_spread(small, shrink(region, 2), 3.0), places, (height, width))
    ground = _read(_spread(small, ~grow(region, 2), 3.0), places, (height, width))
    photo = image[..., :3][band].float()
    way = cloth - ground
    length = way.square().sum(-1)
    along = ((photo - ground) * way).sum(-1) / length.clamp(min=1e-6)
    told = (length / 0.01).clamp(max=1.0)  # too near in colour: the region's own edge
    part = told * ((along - 0.1) / 0.8).clamp(0.0, 1.0) + (1 - told) * alpha[band]
    part = torch.where(part < 0.04, torch.zeros_like(part), part)
    alpha = torch.where(core, 1.0, torch.where(rest, 0.0, alpha))
    alpha[band] = part
    colours = image[..., :3].float().clone()
    colours[band] = torch.where(part[:, None] < 0.98, cloth, photo)
    return alpha, colours


def _read(field: torch.Tensor, places: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A small field, (C, h, w), at pixels (N, 2) of the full picture: (N, C)."""
    full = torch.tensor([size[1], size[0]], dtype=torch.float32)
    grid = (places.flip(1) + 0.5) / full * 2 - 1
    read = F.grid_sample(field[None], grid[None, None], padding_mode="border", align_corners=False)
    return read[0, :, 0].T


def _spread(photo: torch.Tensor, where: torch.Tensor, sigma: float) -> torch.Tensor:
    """Mean colour of a region's pixels nearby, carried beyond its edge, (3, h, w)."""
    weight = where.float()[None]
    total, colour = blur(weight, sigma), blur(photo * weight, sigma)
    wide, far = blur(weight, 8 * sigma), blur(photo * weight, 8 * sigma)
    near = colour / total.clamp(min=1e-6)
    return torch.where(total > 1e-3, near, far / wide.clamp(min=1e-6))
