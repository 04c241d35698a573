"""Structural similarity of pictures, inside a mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ShapeError

WINDOW, SIGMA = 11, 1.5
_SMALL = (0.01**2, 0.03**2)


def ssim(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Mean structural similarity of RGB pictures inside a mask: an 11x11 Gaussian window (sigma
    1.5), each channel alone, edges mirrored.

    Args:
        first: (B, H, W, 3), 0..1; sides of 6 or more.
        second: (B, H, W, 3), 0..1.
        mask: Pixels of more than 0.5 count, (B, H, W).

    Returns:
        (B,), at most 1; NaN where the mask marks nothing.

    Raises:
        ShapeError: If sizes differ, or are too small for the window.

    Source: Wang et al. 2004, section III.B, with its constants.
    """
    if first.shape != second.shape or mask.shape != first.shape[:3]:
        raise ShapeError(
            f"SSIM: pictures {tuple(first.shape)} and {tuple(second.shape)}, mask "
            f"{tuple(mask.shape)}. Give all of one size."
        )
    if min(first.shape[1:3]) <= WINDOW // 2:
        raise ShapeError(f"SSIM: a side below {WINDOW // 2 + 1} pixels. Give larger pictures.")
    x, y = (p.double().permute(0, 3, 1, 2) for p in (first, second))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    shared = _blur(x * y) - mean_x * mean_y
    c1, c2 = _SMALL
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * shared + c2) / (var_x + var_y + c2)
    places = (luminance * structure).mean(dim=1)  # (B, H, W)
    inside = (mask > 0.5).to(places)
    return (places * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))


def _blur(x: Tensor) -> Tensor:
    """Gaussian means over the window, (B, C, H, W) -> the same."""
    offsets = torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    pad, channels = WINDOW // 2, x.shape[1]
    x = F.pad(x, (pad, pad, pad, pad), mode="reflect")
    rows = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    x = F.conv2d(x, rows, groups=channels)
    return F.conv2d(x, rows.transpose(2, 3), groups=channels)
