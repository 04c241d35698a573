"""Resizing that gives the mirrored picture exactly where the picture is mirrored.

A float sum depends on its order, so library resizes of a mirrored picture are off by a last bit.
Here the taps are added in pairs, from the middle outwards, and a pair has no order.
"""

from __future__ import annotations

import torch

_VALUES = 1 << 20  # of the result at a time


def resize(image: torch.Tensor, height: int, width: int, *, smooth: bool = False) -> torch.Tensor:
    """Resize with antialiasing; an equal size returns the values untouched.

    Args:
        image: Values in 0..1, (H, W) or (H, W, C), any float type.
        height: Rows of the result.
        width: Columns of the result.
        smooth: Linear instead of cubic: for masks, which must not ring.

    Returns:
        Values in 0..1, float32, contiguous.
    """
    if image.shape[:2] == (height, width):
        return image.float().contiguous()
    if image.ndim == 2:
        return _resize_plane(image, height, width, smooth)
    made = torch.empty((height, width, image.shape[-1]), device=image.device)
    for channel in range(image.shape[-1]):  # one by one: a large photo has no room for three
        made[..., channel] = _resize_plane(image[..., channel], height, width, smooth)
    return made


def _resize_plane(plane: torch.Tensor, height: int, width: int, smooth: bool) -> torch.Tensor:
    across = torch.empty((plane.shape[0], width), device=plane.device)
    taps = _taps(plane.shape[1], width, smooth, plane.device)
    rows = max(1, _VALUES // width)
    for start in range(0, plane.shape[0], rows):
        band = plane[start : start + rows].float()
        across[start : start + rows] = _weighted(band, taps, 1)
    if height == plane.shape[0]:
        return across.clamp_(0.0, 1.0)
    made = torch.empty((height, width), device=plane.device)
    taps = _taps(plane.shape[0], height, smooth, plane.device)
    for start in range(0, height, rows):
        some = tuple(tap[:, start : start + rows] for tap in taps)
        made[start : start + rows] = _weighted(across, (some[0], some[1]), 0)
    return made.clamp_(0.0, 1.0)


def _weighted(
    values: torch.Tensor, taps: tuple[torch.Tensor, torch.Tensor], axis: int
) -> torch.Tensor:
    """Sum of the taps along an axis, pair by pair."""
    places, weights = taps
    total: torch.Tensor | None = None
    for at in range(0, len(places), 2):
        two = [values.index_select(axis, places[at + side]) for side in (0, 1)]
        for side in (0, 1):
            weight = weights[at + side]
            two[side] *= weight[:, None] if axis == 0 else weight
        pair = two[0].add_(two[1])
        total = pair if total is None else total.add_(pair)
    assert total is not None
    return total


def _taps(
    length: int, wanted: int, smooth: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each place of the result reads, and with which weight: two of (2 x pairs, wanted).

    Rows 2p and 2p + 1 are the p-th place to the left and to the right of the middle; where a
    middle falls on a place, that place is both, at half its weight.
    """
    shrink = max(1.0, length / wanted)
    reach = (1.0 if smooth else 2.0) * shrink
    j = torch.arange(wanted)
    # the middle is (2j + 1) * length / (2 * wanted) - 1/2; in halves of 1 / wanted, all integer
    left = torch.div((2 * j + 1) * length - wanted, 2 * wanted, rounding_mode="floor")
    right = -torch.div(-((2 * j + 1) * length - wanted), 2 * wanted, rounding_mode="floor")
    places: list[torch.Tensor] = []
    weights: list[torch.Tensor] = []
    for step in range(int(reach) + 1):
        half = torch.where(left == right, 0.5 if step == 0 else 1.0, 1.0).double()
        for place in (left - step, right + step):
            distance = ((2 * j + 1) * length - (2 * place + 1) * wanted).abs()
            t = distance.double() / (2 * wanted) / shrink
            weight = (_linear(t) if smooth else _cubic(t)) * half
            weights.append(weight * ((place >= 0) & (place < length)))
            places.append(place.clamp(0, length - 1))
    total = torch.zeros(wanted, dtype=torch.float64)
    for at in range(0, len(weights), 2):
        total += weights[at] + weights[at + 1]
    return torch.stack(places).to(device), (torch.stack(weights) / total).float().to(device)


def _linear(t: torch.Tensor) -> torch.Tensor:
    return (1.0 - t).clamp(min=0.0)


def _cubic(t: torch.Tensor) -> torch.Tensor:
    """Keys' kernel with a = -0.5."""
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return torch.where(t < 1.0, near, torch.where(t < 2.0, far, torch.zeros_like(t)))
