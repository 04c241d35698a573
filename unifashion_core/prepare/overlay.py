"""A photo with a mask drawn over it, to judge the mask by."""

from __future__ import annotations

import torch
from PIL import Image

from ..imaging import to_pil, to_tensor
from .resample import resize

_COLOUR = (0.95, 0.15, 0.35)
_STRENGTH = 0.45


def draw_overlay(image: Image.Image, mask: torch.Tensor) -> Image.Image:
    """Tint what is to be painted anew, with a light line round it.

    Args:
        image: The photo.
        mask: 0..1, (H, W), of any size.

    Returns:
        The picture, as large as the photo, mode RGB.
    """
    photo = to_tensor(image)
    shown = resize(mask.float().cpu(), image.height, image.width, smooth=True)[..., None]
    tinted = torch.lerp(photo, torch.tensor(_COLOUR).expand_as(photo), shown * _STRENGTH)
    inside = shown[..., 0] >= 0.5
    edge = torch.zeros_like(inside)
    edge[1:] |= inside[1:] != inside[:-1]
    edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    tinted[edge] = 1.0
    return to_pil(tinted)
