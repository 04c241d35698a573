"""The mask of the person in a picture: what the selfie segmentation and the pose network say."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..imaging import to_tensor
from .landmarks import LandmarksFound
from .networks.selfie_segmentation import SELFIE_SIDE, SelfieSegmentation
from .square import numbers

_WORK_SIDE = 384
_MARGIN = 0.25  # of the landmarks' box: hair, feet and clothes reach beyond them
_GATE = 0.03  # of the box: how far beyond the pose's mask the selfie's may reach


def segment_person(image: Image.Image, pose: LandmarksFound, network: SelfieSegmentation) -> Tensor:
    """The mask of one person.

    The selfie network sees a box around the landmarks, squashed; it marks everybody in it. The pose
    network marks this person alone. The mask is the mean of both, and 0 away from the person.

    Args:
        image: RGB.
        pose: This person's landmarks.
        network: Selfie segmentation.

    Returns:
        (H, W) of the picture, float32 in 0..1.
    """
    width, height = image.size
    scale = min(1.0, _WORK_SIDE / max(image.size))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    mask = _pose_mask(pose, size, (height, width))
    box = _box(pose.points, image.size)
    part = image.resize(
        (SELFIE_SIDE, SELFIE_SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0
    )
    pixels = to_tensor(part).permute(2, 0, 1)[None].to(network.stem.weight)
    selfie = _place(network(pixels)[0].float().cpu(), box, size, (height, width))
    reach = max(1, round(_GATE * max(box[2] - box[0], box[3] - box[1]) * scale))
    mask = (mask + selfie) / 2 * _grow(mask > 0.1, reach)
    return F.interpolate(mask[None, None], (height, width), mode="bilinear")[0, 0]


def _box(points: Tensor, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Around the landmarks with a margin, within the picture."""
    low, high = points[:, :2].amin(0), points[:, :2].amax(0)
    margin = _MARGIN * float((high - low).max())
    whole = torch.tensor(size, dtype=torch.float32)
    # At least a pixel, where all landmarks lie beyond an edge.
    low = torch.minimum((low - margin).clamp(min=0), whole - 1)
    high = torch.maximum(torch.minimum(high + margin, whole), low + 1)
    left, top, right, bottom = numbers(torch.cat((low, high)))
    return left, top, right, bottom


def _centres(size: tuple[int, int], picture: tuple[int, int]) -> Tensor:
    """Pixel centres of a small form of the picture, in the picture's pixels, (h, w, 2)."""
    y = (torch.arange(size[0]) + 0.5) * (picture[0] / size[0])
    x = (torch.arange(size[1]) + 0.5) * (picture[1] / size[1])
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)


def _sample(mask: Tensor, places: Tensor) -> Tensor:
    """A mask (h, w) at places (H, W, 2) in 0..1 of it, 0 beyond."""
    grid = places[None] * 2 - 1
    inside = ((places >= 0) & (places <= 1)).all(-1)
    found = F.grid_sample(mask[None, None], grid, padding_mode="border", align_corners=False)
    return found[0, 0] * inside


def _pose_mask(pose: LandmarksFound, size: tuple[int, int], picture: tuple[int, int]) -> Tensor:
    centres = _centres(size, picture)
    squares = zip(pose.masks, pose.squares, strict=True)
    parts = [_sample(mask, square.from_picture(centres)) for mask, square in squares]
    return torch.stack(parts).mean(0)


def _place(
    mask: Tensor,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    picture: tuple[int, int],
) -> Tensor:
    low, high = torch.tensor(box[:2]), torch.tensor(box[2:])
    return _sample(mask, (_centres(size, picture) - low) / (high - low))


def _grow(mask: Tensor, reach: int) -> Tensor:
    """Every place at most `reach` pixels from the mask, along both axes."""
    found = mask[None, None].float()
    for kernel, padding in (((1, 2 * reach + 1), (0, reach)), ((2 * reach + 1, 1), (reach, 0))):
        found = F.max_pool2d(found, kernel, 1, padding)
    return found[0, 0]
