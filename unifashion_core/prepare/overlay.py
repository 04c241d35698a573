"""A photo with a mask drawn over it, to judge the mask by."""

from __future__ import annotations

import torch
from PIL import Image

from ..imaging import to_pil, to_tensor
from .resample import resize

_COLOUR = (0.95, 0.15, 0.35)
_STRENGTH = 0.45
_ROWS = 512  # drawn at a time: a large photo in floats has no room for several


def draw_overlay(image: Image.Image, mask: torch.Tensor) -> Image.Image:
    """Tint what is to be painted anew, with a light line round it.

    Args:
        image: The photo.
        mask: 0..1, (H, W), of any size.

    Returns:
        The picture, as large as the photo, mode RGB.
    """
    shown = resize(mask.float().cpu(), image.height, image.width, smooth=True)
    inside = shown >= 0.5
    edge = torch.zeros_like(inside)
    edge[1:] |= inside[1:] != inside[:-1]
    edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    made = image.convert("RGB")
    made = made.copy() if made is image else made
    for top in range(0, image.height, _ROWS):
        rows = slice(top, min(top + _ROWS, image.height))
        photo = to_tensor(image.crop((0, rows.start, image.width, rows.stop)))
        colour = torch.tensor(_COLOUR).expand_as(photo)
        tinted = torch.lerp(photo, colour, shown[rows, :, None] * _STRENGTH)
        tinted[edge[rows]] = 1.0
        made.paste(to_pil(tinted), (0, top))
    return made
