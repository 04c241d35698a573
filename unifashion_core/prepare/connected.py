"""What is connected with what in a mask, by sweeps over whole rows and columns."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def flood(seeds: torch.Tensor, open_: torch.Tensor) -> torch.Tensor:
    """What can be reached from seeds without leaving the open pixels, over sides.

    Args:
        seeds: Where to start, (H, W), bool.
        open_: Where one may go, (H, W), bool.

    Returns:
        What was reached, seeds that are open included, (H, W), bool.
    """
    reached = seeds & open_
    count = -1
    while (now := int(reached.sum())) != count:
        count = now
        for axis in (1, 0):
            for backwards in (False, True):
                reached = _sweep(reached, open_, axis, backwards)
    return reached


def _sweep(reached: torch.Tensor, open_: torch.Tensor, axis: int, backwards: bool) -> torch.Tensor:
    """Carry on along an axis until something closed comes."""
    if backwards:
        return _sweep(reached.flip(axis), open_.flip(axis), axis, False).flip(axis)
    length = reached.shape[axis]
    places = torch.arange(1, length + 1, device=reached.device, dtype=torch.int32)
    places = places[:, None] if axis == 0 else places[None]
    seed = (places * reached).cummax(axis).values
    wall = (places * ~open_).cummax(axis).values
    return seed > wall


def border(height: int, width: int, depth: int = 1) -> torch.Tensor:
    """The outermost pixels of a picture, (H, W), bool."""
    edge = torch.ones((height, width), dtype=torch.bool)
    edge[depth : height - depth, depth : width - depth] = False
    return edge


def pieces(mask: torch.Tensor, at_least: int = 1, most: int = 64) -> list[torch.Tensor]:
    """The connected pieces of a mask, largest first.

    Args:
        mask: (H, W), bool.
        at_least: Pixels of the smallest piece that is told.
        most: How many are looked for, each from the first pixel in reading order.
    """
    left, found = mask.clone(), list[torch.Tensor]()
    for _ in range(most):
        place = left.flatten().byte().argmax()
        if not bool(left.flatten()[place]):
            break
        seed = torch.zeros_like(left)
        seed.view(-1)[place] = True
        piece = flood(seed, left)
        left &= ~piece
        if int(piece.sum()) >= at_least:
            found.append(piece)
    return sorted(found, key=lambda piece: -int(piece.sum()))


def grow(mask: torch.Tensor, radius: int) -> torch.Tensor:
    """A mask widened by a square of 2 radius + 1 pixels, (H, W), bool."""
    if radius <= 0:
        return mask
    plane = mask.float()[None, None]
    plane = F.max_pool2d(plane, (2 * radius + 1, 1), 1, (radius, 0))
    return F.max_pool2d(plane, (1, 2 * radius + 1), 1, (0, radius))[0, 0] > 0


def shrink(mask: torch.Tensor, radius: int) -> torch.Tensor:
    """A mask narrowed likewise; beyond the picture counts as inside."""
    return ~grow(~mask, radius)


def blur(plane: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of planes, (..., H, W), float32; the edge goes on beyond the picture."""
    if sigma <= 0:
        return plane
    reach = max(1, min(round(3 * sigma), plane.shape[-1] - 1, plane.shape[-2] - 1))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32, device=plane.device)
    kernel = torch.exp(-at.square() / (2 * sigma * sigma))
    kernel /= kernel.sum()
    flat = plane.reshape(-1, 1, *plane.shape[-2:])
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    return flat.reshape(plane.shape)
