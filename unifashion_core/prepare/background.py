"""A garment on a plain ground: what differs from the ground that the picture's border shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .connected import blur, border, flood, pieces, shrink
from .lab import length, to_lab
from .resample import resize

WORK_SIDE = 512
_LOWEST, _HIGHEST = 1.4, 14.0  # of the Lab difference that tells garment from ground
_FRINGE = 5  # pixels
_PALE = 6.0  # Lab difference from the ground below which cloth is hard to tell from it
_UNEVEN = 14.0  # noise of the border, Lab, above which it is no plain ground


@dataclass(frozen=True)
class Ground:
    """What a picture's border tells of its ground.

    Attributes:
        difference: Lab distance of each pixel from the ground there, (h, w).
        grain: How much the colours vary within a few pixels, (h, w), Lab.
        noise: Lab distance that the ground's own pixels have from it, the usual largest.
        calm: The grain that the ground's own pixels have, the usual largest.
        share: Of the border's pixels that are ground.
    """

    difference: torch.Tensor
    grain: torch.Tensor
    noise: float
    calm: float
    share: float

    @property
    def plain(self) -> bool:
        """Whether there is a ground to tell a garment from."""
        return self.noise < _UNEVEN and self.share > 0.3


def find_ground(lab: torch.Tensor) -> Ground:
    """Fit a slowly changing ground to the border of a picture, (h, w, 3) in Lab."""
    height, width = lab.shape[:2]
    depth = max(2, round(0.025 * max(height, width)))
    edge = border(height, width, depth)
    terms = _slow_terms(height, width)
    places, colours = terms[edge], lab[edge]
    inlier = length(colours - colours.median(0).values) < 12.0
    fitted = colours.median(0).values.expand(*lab.shape)
    for _ in range(4):
        if int(inlier.sum()) < 40:
            break
        weights = _least_squares(places[inlier], colours[inlier])
        fitted = terms @ weights
        off = length(colours - fitted[edge])
        inlier = off < max(2.0, 4.0 * float(off[inlier].median()))
    off = length(colours - fitted[edge])[inlier]
    noise = float(off.quantile(0.98)) if len(off) else 99.0
    grain = _grain(lab)
    calm = float(grain[edge].quantile(0.9))
    return Ground(length(lab - fitted), grain, noise, calm, float(inlier.float().mean()))


def _least_squares(places: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Weights of the columns of `places` that come nearest to the values."""
    square = (places.T @ places).double() + 1e-6 * torch.eye(places.shape[1]).double()
    return (torch.inverse(square) @ (places.T @ values).double()).float()


def _grain(lab: torch.Tensor) -> torch.Tensor:
    planes = lab.permute(2, 0, 1)
    mean = blur(planes, 0.8)
    return blur((planes - mean).square().sum(0)[None], 0.8)[0].sqrt()


def garment_region(image: torch.Tensor) -> torch.Tensor | None:
    """Where a garment lies on a plain ground.

    Args:
        image: (H, W, 3), 0..1.

    Returns:
        (h, w), bool, of a picture whose longer side is 512 at most; None where the ground is not
        plain or nothing lies on it.
    """
    small = work_size(image)
    lab = to_lab(small)
    ground = find_ground(lab)
    if not ground.plain:
        return None
    threshold = min(max(1.5 * ground.noise + 0.7, _LOWEST), _HIGHEST)
    by_colour = ground.difference >= threshold
    garment = _enclosed(by_colour)
    core = shrink(garment, _FRINGE)
    pale = not bool(core.any()) or float((ground.difference[core] < _PALE).float().mean()) > 0.15
    if pale:
        # white cloth on a white ground often differs by its grain alone; but the grain of
        # anything else reaches over its edge
        garment = _enclosed(by_colour | (ground.grain > 2.5 * ground.calm + 0.12))
        garment = _trimmed(garment, ground.difference, 1.0)
    else:
        garment = _without_shadow(lab, ground, garment)
        garment = _trimmed(garment, ground.difference, 12.0)
    garment = _largest(garment & ~_holes(garment, ground, threshold))
    if garment is None or not 0.005 < float(garment.float().mean()) < 0.97:
        return None
    return garment


def work_size(image: torch.Tensor) -> torch.Tensor:
    """A picture no larger than the cut-out is decided at."""
    height, width = image.shape[:2]
    scale = WORK_SIDE / max(height, width)
    if scale >= 1:
        return image.float()
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def _slow_terms(height: int, width: int) -> torch.Tensor:
    y = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width)[None].expand(height, width)
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], dim=-1)


def _enclosed(different: torch.Tensor) -> torch.Tensor:
    """What differs, and what that encloses."""
    return ~flood(border(*different.shape), ~different)


def _trimmed(garment: torch.Tensor, difference: torch.Tensor, most: float) -> torch.Tensor:
    """Take away the fringe that ringing, and a grain measured over its edge, leave round it."""
    near = F.max_pool2d((difference * garment)[None, None], 2 * _FRINGE + 1, 1, _FRINGE)[0, 0]
    fringe = garment & ~shrink(garment, _FRINGE) & (difference < (0.4 * near).clamp(max=most))
    return garment & ~flood(~garment, ~garment | fringe)


def _without_shadow(lab: torch.Tensor, ground: Ground, garment: torch.Tensor) -> torch.Tensor:
    """Take away what fades smoothly into the ground, where the garment itself does not."""
    if not bool(garment.any()) or float(ground.difference[garment].median()) < 18.0:
        return garment
    soft = blur(lab.permute(2, 0, 1), 0.7)
    slope = torch.zeros(garment.shape)
    slope[1:-1, 1:-1] = torch.hypot(
        length(soft[:, 1:-1, 2:] - soft[:, 1:-1, :-2], 0) / 2,
        length(soft[:, 2:, 1:-1] - soft[:, :-2, 1:-1], 0) / 2,
    )
    open_ = ~garment | ((ground.difference < 16.0) & (slope < 1.2 + 0.1 * ground.noise))
    return garment & ~flood(~garment, open_)


def _holes(garment: torch.Tensor, ground: Ground, threshold: float) -> torch.Tensor:
    """Ground that the garment encloses, such as between sleeve and body."""
    alike = garment & (ground.difference < threshold)
    least = max(12, round(0.0012 * garment.numel()))
    found = torch.zeros_like(garment)
    core = shrink(alike, 1)
    if int(core.sum()) < least:
        return found
    near, calm = 0.3 + ground.noise, 0.03 + 1.5 * ground.calm
    for piece in pieces(core, least, 200):
        alike_too = float(ground.grain[piece].median()) < calm
        if alike_too and float(ground.difference[piece].median()) < near:
            found |= flood(piece, alike)
    return found


def _largest(garment: torch.Tensor) -> torch.Tensor | None:
    """Without specks and ragged edges: the largest pieces only."""
    smooth = blur(garment.float()[None], 1.2)[0] > 0.5
    found = pieces(smooth, max(8, round(0.0004 * garment.numel())))
    if not found:
        return None
    most = int(found[0].sum())
    return torch.stack([p for p in found if int(p.sum()) > 0.04 * most]).any(dim=0)
