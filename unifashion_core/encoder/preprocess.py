"""From an upright RGB picture to the square, normalised views that a tower reads. Pillow and numpy
only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from ..errors import InputError
from .config import PreprocessConfig

_BICUBIC = Image.Resampling.BICUBIC
_WHITE = (255, 255, 255)


def preprocess(image: Image.Image, config: PreprocessConfig) -> torch.Tensor:
    """All views of one picture.

    Args:
        image: Upright RGB.
        config: Size, views, mean and standard deviation.

    Returns:
        Normalised pixels, (V, 3, size, size), float32.

    Raises:
        InputError: If a view has an unknown name.
    """
    views = [_to_pixels(crop_view(image, name, config), config) for name in config.views]
    return torch.stack(views)


def crop_view(image: Image.Image, view: str, config: PreprocessConfig) -> Image.Image:
    """The square picture of one view, RGB, size x size.

    "targetpad" is the reference: pad long pictures towards `target_ratio`, then shorter side to
    size and centre crop. "squash" ignores the aspect, "centre" crops the middle square, "pad" adds
    white to a square.

    Raises:
        InputError: If the view has an unknown name.
    """
    if view not in VIEWS:
        raise InputError(f"view {view!r}: unknown. Choose from {', '.join(VIEWS)}.")
    return VIEWS[view](image, config).convert("RGB")


def target_pad(image: Image.Image, ratio: float = 1.25) -> Image.Image:
    """Pad the short axis of a picture longer than `ratio` with black, half on each side.

    Source: Baldrati et al. 2022 (CLIP4Cir), section 3.2, as the paper uses it.
    """
    width, height = image.size
    if max(width, height) / min(width, height) < ratio:
        return image
    side = max(width, height) / ratio
    across = max(int((side - width) / 2), 0)
    down = max(int((side - height) / 2), 0)
    padded = Image.new(image.mode, (width + 2 * across, height + 2 * down))
    padded.paste(image, (across, down))
    return padded


def _resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to `size`, then the middle square, with torchvision's roundings."""
    width, height = image.size
    if width <= height:
        new = (size, int(size * height / width))
    else:
        new = (int(size * width / height), size)
    image = image.resize(new, _BICUBIC)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _targetpad(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    return _resize_and_crop(target_pad(image, config.target_ratio), config.size)


def _centre(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    return _resize_and_crop(image, config.size)


def _squash(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    return image.resize((config.size, config.size), _BICUBIC)


def _pad(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    """White, as for transparent pictures: most garment photos stand on a light ground."""
    scale = config.size / max(image.size)
    new = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    square = Image.new("RGB", (config.size, config.size), _WHITE)
    place = ((config.size - new[0]) // 2, (config.size - new[1]) // 2)
    square.paste(image.convert("RGB").resize(new, _BICUBIC), place)
    return square


VIEWS: dict[str, Callable[[Image.Image, PreprocessConfig], Image.Image]] = {
    "targetpad": _targetpad,
    "squash": _squash,
    "centre": _centre,
    "pad": _pad,
}
"""Crop rules by name."""


def _to_pixels(image: Image.Image, config: PreprocessConfig) -> torch.Tensor:
    mean, std = (np.asarray(v, dtype=np.float32) for v in (config.mean, config.std))
    values = np.asarray(image, dtype=np.float32) / np.float32(255)  # (H, W, 3)
    return torch.as_tensor((values - mean) / std).permute(2, 0, 1).contiguous()
