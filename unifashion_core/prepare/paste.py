"""Paste a model's result back into the photo it was cut from, at the photo's own resolution.

Outside the mask the output holds the photo's own values, bit for bit; the seam lies inside it.
"""

from __future__ import annotations

import torch

from ..errors import InputError, ShapeError
from .fit import Fit, check_mask, mask_box
from .resample import resize

MAX_FEATHER = 256
_ROWS = 256  # of the photo at a time where only a part of the work has to be in memory
_SHORT = 126  # up to it squares of distances, and sums of two, fit into 16 bits
_FINE = 65_535.0  # colours are summed as whole numbers, whose sum knows no order
_STRONGEST = 1.5  # by which factor a colour match may stretch contrast


def paste_back(
    result: torch.Tensor,
    fitted: Fit,
    original: torch.Tensor,
    mask: torch.Tensor,
    feather: int = 8,
    match_colour: bool = False,
) -> torch.Tensor:
    """The photo with the masked region taken from a model's result.

    Args:
        result: What the model made of the crop, (H, W, C') of the fit's frame, 0..1.
        fitted: The fit that made the crop.
        original: The photo, (H, W, C), C >= C'; further channels, such as alpha, stay as they are.
        mask: What may change, (H, W) of the photo, 0..1, inside the crop. 0 = never touched.
        feather: Width of the seam in pixels of the photo, 0..256, measured inwards from the
            mask's edge; at the photo's own border there is no seam.
        match_colour: Bring the result's colours to the photo's by mean and contrast of what both
            show just outside the mask.

    Returns:
        A new tensor of the photo's shape and type; where the mask is 0 it equals the photo.

    Raises:
        ShapeError: If the sizes don't go together.
        InputError: If the mask reaches out of the crop, or the feather is out of range.
    """
    _check(result, fitted, original, mask, feather)
    pasted = original.clone()
    inner = mask_box(mask)
    if inner is None:
        return pasted
    left, top, right, bottom = fitted.box
    if inner[0] < left or inner[1] < top or inner[2] > right or inner[3] > bottom:
        raise InputError(
            f"Paste back: the mask spans {inner}, the crop only {fitted.box} (left, top, right, "
            "bottom). Use the mask that Fit to Model got."
        )
    share = _seam(mask, inner, feather)
    ring = _ring(mask, fitted) if match_colour else None
    rows, columns = slice(inner[1], inner[3]), slice(inner[0], inner[2])
    here = (slice(inner[1] - top, inner[3] - top), slice(inner[0] - left, inner[2] - left))
    changed = share > 0
    for channel in range(result.shape[-1]):
        plane = _content(result[..., channel], fitted)
        if ring is not None:
            photo = resize(original[top:bottom, left:right, channel], *fitted.content)
            plane = _matched(plane, photo, ring)
        plane = resize(plane, *fitted.box_size)
        before = original[rows, columns, channel]
        blended = torch.lerp(before.float(), plane[here], share).to(original.dtype)
        pasted[rows, columns, channel] = torch.where(changed, blended, before)
    return pasted


def inner_distance(inside: torch.Tensor, limit: int) -> torch.Tensor:
    """How far each pixel of a region lies from the nearest one outside, capped.

    Args:
        inside: The region, (H, W), bool. What lies beyond the array counts as inside.
        limit: Distances beyond it are not told apart.

    Returns:
        Euclidean distance between pixel centres, (H, W), float32: 0 outside, at least 1 inside,
        `limit` + 1 or a little more where it is beyond the limit.
    """
    upright = _column_distance(inside, limit + 1)
    far = (limit + 1) ** 2
    found = torch.empty(inside.shape, device=inside.device)
    width = inside.shape[1]
    for start in range(0, inside.shape[0], _ROWS):
        band = upright[start : start + _ROWS]
        squares = (band if limit <= _SHORT else band.int()).square()
        best = squares.clone()
        for step in range(1, min(limit, width - 1) + 1):
            reach = squares + step * step
            torch.minimum(best[:, step:], reach[:, :-step], out=best[:, step:])
            torch.minimum(best[:, :-step], reach[:, step:], out=best[:, :-step])
        found[start : start + _ROWS] = best.clamp_(max=far).float().sqrt_()
    return found


def _column_distance(inside: torch.Tensor, limit: int) -> torch.Tensor:
    """Distance to the nearest pixel outside above or below, capped, (H, W), int16."""
    steps = torch.empty(inside.shape, dtype=torch.int16, device=inside.device)
    run = torch.full(inside.shape[1:], limit, dtype=torch.int16, device=inside.device)
    for y in range(inside.shape[0]):
        run = (run + 1).clamp_(max=limit).mul_(inside[y])
        steps[y] = run
    run.fill_(limit)
    for y in range(inside.shape[0] - 1, -1, -1):
        run = (run + 1).clamp_(max=limit).mul_(inside[y])
        torch.minimum(steps[y], run, out=steps[y])
    return steps


def _seam(mask: torch.Tensor, inner: tuple[int, int, int, int], feather: int) -> torch.Tensor:
    """Share of the result in the box round the mask: 0 outside, rising inwards, (h, w)."""
    left, top, right, bottom = inner
    weight = mask[top:bottom, left:right].float().clamp(0.0, 1.0)
    if feather == 0:
        return weight
    # one pixel more on each side that the photo has, so that the box's edge is known as outside
    x, y = min(left, 1), min(top, 1)
    wider = mask[top - y : bottom + 1, left - x : right + 1] > 0
    distance = inner_distance(wider, feather)[y : y + bottom - top, x : x + right - left]
    t = distance.div(feather + 1).clamp_(max=1.0)
    return t.mul(t).mul_(t.mul(-2.0).add_(3.0)).mul_(weight)


def _ring(mask: torch.Tensor, fitted: Fit) -> torch.Tensor:
    """What of the crop lies just outside the mask, at the frame's scale, (h, w), bool.

    The photo is compared with the result at the result's scale: a photo's finest grain is lost in
    the crop, and its contrast is not to be made up for.
    """
    left, top, right, bottom = fitted.box
    outside = resize(mask[top:bottom, left:right], *fitted.content, smooth=True) <= 0
    near = max(4, round(0.04 * max(fitted.content)))
    return outside & (inner_distance(outside, near) <= near)


def _content(plane: torch.Tensor, fitted: Fit) -> torch.Tensor:
    """A plane of the result without its padding."""
    top, left = fitted.offset
    rows, columns = fitted.content
    return plane[top : top + rows, left : left + columns].float()


def _matched(plane: torch.Tensor, photo: torch.Tensor, ring: torch.Tensor) -> torch.Tensor:
    """The plane with the photo's mean and contrast on the ring; unchanged where that is empty."""
    count = int(ring.sum())
    if not count:
        return plane
    mean, deviation = _moments(plane[ring], count)
    wanted, spread = _moments(photo[ring], count)
    gain = spread / deviation if deviation > 1e-3 else 1.0
    gain = min(max(gain, 1 / _STRONGEST), _STRONGEST)
    return plane.sub(mean).mul_(gain).add_(wanted).clamp_(0.0, 1.0)


def _moments(values: torch.Tensor, count: int) -> tuple[float, float]:
    whole = values.clamp(0.0, 1.0).mul(_FINE).round_().long()
    total, squares = int(whole.sum()), int(whole.square().sum())
    mean = total / count
    variance = (squares * count - total * total) / (count * count)
    return mean / _FINE, max(variance, 0.0) ** 0.5 / _FINE


def _check(
    result: torch.Tensor,
    fitted: Fit,
    original: torch.Tensor,
    mask: torch.Tensor,
    feather: int,
) -> None:
    if original.ndim != 3 or tuple(original.shape[:2]) != fitted.photo:
        raise ShapeError(
            f"Paste back: photo {tuple(original.shape)}, the fit is of one of {fitted.photo} "
            "(height, width). Connect the photo that Fit to Model got."
        )
    check_mask(mask, fitted.photo, "Paste back")
    if result.ndim != 3 or tuple(result.shape[:2]) != fitted.size:
        raise ShapeError(
            f"Paste back: result {tuple(result.shape)}, the fit's frame is {fitted.size} (height, "
            "width). Generate at the size of the crop."
        )
    if result.shape[-1] > original.shape[-1]:
        raise ShapeError(
            f"Paste back: result of {result.shape[-1]} channels, the photo has "
            f"{original.shape[-1]}. Drop the result's alpha."
        )
    if not 0 <= feather <= MAX_FEATHER:
        raise InputError(f"Paste back: feather {feather}, wanted 0 to {MAX_FEATHER} pixels.")
