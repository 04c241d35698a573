"""From a photo to a model's frame: the crop round a region, and how it goes back.

All placing is in whole pixels by rules that mirror: the crop of the mirrored photo is the mirrored
crop, and what is shifted inside the photo is cut out alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..errors import InputError, ShapeError
from .resample import resize

STEP = 64
"""The sides of a model's frame are multiples of it."""


@dataclass(frozen=True)
class Fit:
    """How a crop was cut out of a photo and laid into a model's frame.

    Attributes:
        photo: Height and width of the photo, in pixels.
        box: The part that was cut out: left, top, right, bottom in the photo, right and bottom
            exclusive.
        size: Height and width of the model's frame.
        content: Height and width of the box within the frame, after resizing; both even.
        offset: Top and left of the content within the frame; round it the frame is padding.
    """

    photo: tuple[int, int]
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    content: tuple[int, int]
    offset: tuple[int, int]

    @property
    def box_size(self) -> tuple[int, int]:
        """Height and width of the box."""
        return self.box[3] - self.box[1], self.box[2] - self.box[0]

    @property
    def scale(self) -> float:
        """Pixels of the frame for one of the photo."""
        return self.content[0] / self.box_size[0]

    def describe(self) -> str:
        """The fit in words."""
        (height, width), (rows, columns) = self.box_size, self.content
        left, top = self.box[:2]
        pad = "" if self.content == self.size else f", padded to {self.size[1]}x{self.size[0]}"
        return (
            f"{width}x{height} at ({left}, {top}) of {self.photo[1]}x{self.photo[0]} "
            f"-> {columns}x{rows}{pad}, scale {self.scale:.3f}"
        )


def fit(
    image: torch.Tensor,
    mask: torch.Tensor | None,
    size: tuple[int, int],
    context: float = 0.25,
) -> tuple[torch.Tensor, torch.Tensor, Fit]:
    """Crop a photo round a region and lay it into a model's frame, its aspect kept.

    Args:
        image: The photo, (H, W, C), 0..1.
        mask: What is to be changed, (H, W), above 0 = the region. None or all zero: the whole
            photo is fitted.
        size: Height and width of the model's frame, multiples of 64.
        context: Photo kept round the region on each side, as a share of its longer side, 0..4.
            The crop grows further to the frame's aspect as far as the photo reaches; the rest is
            padded with the photo's edge.

    Returns:
        The crop (size, C), float32; the mask within it (size), float32, 0 in the padding; the fit.

    Raises:
        ShapeError: If image and mask don't go together, or the size is no multiple of 64.
        InputError: If the context is out of range.
    """
    _check(image, mask, size, context)
    height, width = int(image.shape[0]), int(image.shape[1])
    region = None if mask is None else mask_box(mask)
    whole = (0, 0, width, height)
    box = whole if region is None else _crop_box(region, (height, width), size, context)
    content = _content(box, size)
    offset = ((size[0] - content[0]) // 2, (size[1] - content[1]) // 2)
    found = Fit((height, width), box, size, content, offset)
    crop = _into_frame(_cut(image, box), found)
    if mask is None:
        return crop, torch.zeros(size, device=image.device), found
    return crop, _into_frame(_cut(mask, box), found, empty=True), found


def mask_box(mask: torch.Tensor) -> tuple[int, int, int, int] | None:
    """The smallest box round everything above 0: left, top, right, bottom; None if all is 0."""
    chosen = mask > 0
    rows = chosen.any(dim=1).nonzero()[:, 0]
    if not len(rows):
        return None
    columns = chosen.any(dim=0).nonzero()[:, 0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def check_size(size: tuple[int, int], where: str) -> None:
    """Refuse a frame that a latent model can't work in.

    Raises:
        ShapeError: If a side is no positive multiple of 64.
    """
    if any(side < STEP or side % STEP for side in size):
        raise ShapeError(
            f"{where}: frame of {size[1]}x{size[0]}, wanted sides that are multiples of {STEP}. "
            "Use 768x1024, or 384x512."
        )


def check_mask(mask: torch.Tensor, photo: tuple[int, int], where: str) -> None:
    """Refuse a mask that is not as large as its photo.

    Raises:
        ShapeError: If it is not; it says what helps.
    """
    if tuple(mask.shape) == photo:
        return
    if tuple(mask.shape) == (STEP, STEP) and not bool(mask.any()):
        raise ShapeError(
            f"{where}: the mask is the empty 64x64 one that Load Image gives for a picture without "
            "transparency. Connect the mask of Agnostic Mask, or draw one."
        )
    raise ShapeError(
        f"{where}: mask {tuple(mask.shape)}, wanted the photo's {photo} (height, width). "
        "Connect the mask that was made for this photo."
    )


def _check(
    image: torch.Tensor, mask: torch.Tensor | None, size: tuple[int, int], context: float
) -> None:
    if image.ndim != 3:
        raise ShapeError(f"Fit: image {tuple(image.shape)}, wanted (H, W, C). Give one picture.")
    check_size(size, "Fit")
    if mask is not None:
        check_mask(mask, (int(image.shape[0]), int(image.shape[1])), "Fit")
    if not 0.0 <= context <= 4.0:
        raise InputError(f"Fit: context {context}, wanted 0 to 4. 0.25 keeps a quarter.")


def _crop_box(
    region: tuple[int, int, int, int],
    photo: tuple[int, int],
    size: tuple[int, int],
    context: float,
) -> tuple[int, int, int, int]:
    """The region with context, grown to the frame's aspect, inside the photo."""
    left, top, right, bottom = region
    margin = round(context * max(right - left, bottom - top))
    wide, high = right - left + 2 * margin, bottom - top + 2 * margin
    # the same number of pixels is added on both sides, hence the evened differences
    if wide * size[0] < high * size[1]:
        wide += _even_up(-(-high * size[1] // size[0]) - wide)
    else:
        high += _even_up(-(-wide * size[0] // size[1]) - high)
    x = _inside(left - (wide - right + left) // 2, wide, photo[1])
    y = _inside(top - (high - bottom + top) // 2, high, photo[0])
    return x[0], y[0], x[1], y[1]


def _even_up(number: int) -> int:
    return number + number % 2


def _inside(start: int, length: int, limit: int) -> tuple[int, int]:
    """A stretch moved, or cut, to lie within 0..limit."""
    if length >= limit:
        return 0, limit
    start = min(max(start, 0), limit - length)
    return start, start + length


def _content(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Size of the box within the frame: its aspect, as large as fits, in even pixels."""
    high, wide = box[3] - box[1], box[2] - box[0]
    scale = min(size[0] / high, size[1] / wide)
    return _even_side(high * scale, size[0]), _even_side(wide * scale, size[1])


def _even_side(length: float, limit: int) -> int:
    return min(max(2 * round(length / 2), 2), limit)


def _cut(image: torch.Tensor, box: tuple[int, int, int, int]) -> torch.Tensor:
    left, top, right, bottom = box
    return image[top:bottom, left:right]


def _into_frame(part: torch.Tensor, fitted: Fit, *, empty: bool = False) -> torch.Tensor:
    """A cut-out part in the frame; round it its edge goes on, or zeros where `empty`."""
    small = resize(part, *fitted.content, smooth=empty)
    top, left = fitted.offset
    if (top, left) == (0, 0):
        return small
    border = (left, fitted.size[1] - left - fitted.content[1])
    border += (top, fitted.size[0] - top - fitted.content[0])
    if empty:
        return F.pad(small, border)
    planes = small.permute(2, 0, 1)[None]
    return F.pad(planes, border, mode="replicate")[0].permute(1, 2, 0).contiguous()
