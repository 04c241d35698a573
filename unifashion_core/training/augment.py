"""Random views of a training picture: crop, flip, light. Colours stay what their names say."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..encoder.config import PreprocessConfig
from .arrays import as_tensor


def fixed_view(image: Image.Image, config: PreprocessConfig, *, crop: bool) -> torch.Tensor:
    """The whole picture squashed to the square, or its central square, (3, H, W)."""
    box = (0.0, 0.0, float(image.width), float(image.height))
    if crop:
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
    return _normalised(_resize(image, box, config.size), config, np.ones(3, np.float32))


def random_view(
    image: Image.Image, config: PreprocessConfig, rng: np.random.Generator
) -> torch.Tensor:
    """A crop of 55 to 100 % of the area, stretched to the square, perhaps mirrored, a little
    brighter or warmer.

    Args:
        image: Upright RGB picture.
        config: The encoder's size, mean and std.
        rng: Draws everything.

    Returns:
        Normalised pixels, (3, H, W), float32.
    """
    width, height = image.size
    share = rng.uniform(0.55, 1.0)
    stretch = math.exp(rng.uniform(-0.22, 0.22))
    w = min(width, width * math.sqrt(share) * stretch)
    h = min(height, height * math.sqrt(share) / stretch)
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    view = image
    if rng.random() < 0.3:
        view = image.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR, expand=False)
    view = _resize(view, (left, top, left + w, top + h), config.size)
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    light = np.float32(rng.uniform(0.8, 1.2))
    gain = np.multiply(light, rng.uniform(0.95, 1.05, 3).astype(np.float32))
    return _normalised(view, config, gain)


def _resize(image: Image.Image, box: tuple[float, float, float, float], size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _normalised(
    image: Image.Image, config: PreprocessConfig, gain: npt.NDArray[np.float32]
) -> torch.Tensor:
    pixels = np.asarray(image, dtype=np.float32) / 255.0 * gain
    mean = np.asarray(config.mean, np.float32)
    std = np.asarray(config.std, np.float32)
    pixels = (np.minimum(np.maximum(pixels, 0), 1) - mean) / std
    return as_tensor(np.ascontiguousarray(np.transpose(pixels, (2, 0, 1)), dtype=np.float32))
