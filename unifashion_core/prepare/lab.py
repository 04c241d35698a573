"""Colours as CIE Lab and back: in it equal distances look about equally different."""

from __future__ import annotations

import torch

_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_FROM_XYZ = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
_WHITE = (0.95047, 1.0, 1.08883)  # D65
_LINEAR_BELOW = 0.008856


def to_lab(image: torch.Tensor) -> torch.Tensor:
    """sRGB to Lab.

    Args:
        image: (..., 3), 0..1.

    Returns:
        L 0..100, a and b about -128..127, (..., 3), float32.
    """
    rgb = image[..., :3].float().clamp(0.0, 1.0)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ torch.tensor(_TO_XYZ, device=rgb.device).T
    xyz = xyz / torch.tensor(_WHITE, device=rgb.device)
    f = torch.where(xyz > _LINEAR_BELOW, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def from_lab(lab: torch.Tensor) -> torch.Tensor:
    """Lab to sRGB, (..., 3), 0..1, clipped to what sRGB holds."""
    y = (lab[..., 0] + 16) / 116
    f = torch.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], dim=-1)
    cube = f * f * f
    xyz = torch.where(cube > _LINEAR_BELOW, cube, (f - 16 / 116) / 7.787)
    xyz = xyz * torch.tensor(_WHITE, device=lab.device)
    linear = (xyz @ torch.tensor(_FROM_XYZ, device=lab.device).T).clamp(0.0, 1.0)
    return torch.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055
    )


def length(difference: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Euclidean length along an axis: of a difference in Lab, how unlike two colours are."""
    return difference.square().sum(dim=dim).sqrt()
